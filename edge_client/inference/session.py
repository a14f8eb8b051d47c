"""The seam to ONNX Runtime: its exceptions, and answers without meaning, end here."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_client.errors import UnhealthyError, one_line

# Our own errors say what is wrong; ONNX Runtime must not print beside them.
SILENT = 4
# Of models in int8: on x86 processors without VNNI, sums of the fastest kernels would saturate,
# and answers depend on the processor. Elsewhere it changes no answer, and on ARM nothing.
EXACT_INT8 = "session.x64quantprecision"


class OnnxSession(Protocol):
    """The one method of onnxruntime.InferenceSession that is used."""

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> Sequence[Any]:
        """Compute these outputs from these inputs."""


class Session:
    """A graph with its weights in memory."""

    def __init__(self, session: OnnxSession) -> None:
        self._session = session

    @classmethod
    def open(cls, graph: Path) -> "Session":
        """Load a graph; its weights lie beside it.

        Raises:
            UnhealthyError: it does not load.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = SILENT
        options.add_session_config_entry(EXACT_INT8, "1")
        try:
            return cls(
                onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
            )
        # ONNX Runtime's exceptions share no base but Exception.
        except Exception as error:
            raise UnhealthyError(f"{graph} does not load: {one_line(str(error))}") from error

    def run(
        self, shapes: Mapping[str, Sequence[int | str]], inputs: Mapping[str, NDArray[Any]]
    ) -> Sequence[NDArray[np.float32]]:
        """Compute some outputs.

        ONNX Runtime executes a whole graph, whichever outputs are wanted (an option that says
        otherwise is for its training builds): on defaults, where an input is not given. A graph of
        several networks keeps them apart by If nodes.

        Args:
            shapes: The outputs, and the shape of each; a letter stands for any size but 0.
            inputs: By name.

        Returns:
            float32, in the order of `shapes`, finite.

        Raises:
            UnhealthyError: the model cannot be run so, or an output is of another shape or not
                finite.
        """
        names = list(shapes)
        try:
            outputs = self._session.run(names, inputs)
            found = [np.asarray(output, dtype=np.float32) for output in outputs]
        except Exception as error:  # as above: no common base
            raise UnhealthyError(
                f"no {', '.join(names)} from the model: {one_line(str(error))}"
            ) from error
        for (name, shape), output in zip(shapes.items(), found, strict=True):
            is_finite = bool(np.isfinite(output).all())
            if not is_finite or not _fits(output.shape, shape):
                raise UnhealthyError(
                    f"expected {name} of shape ({', '.join(map(str, shape))}) with finite values, "
                    f"found shape {output.shape}{'' if is_finite else ' with NaN or infinity'}"
                )
        return found


def _fits(found: Sequence[int], expected: Sequence[int | str]) -> bool:
    return len(found) == len(expected) and all(
        size > 0 if isinstance(wanted, str) else size == wanted
        for size, wanted in zip(found, expected, strict=True)
    )

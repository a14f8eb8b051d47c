"""What a graph answers to some made-up input, for devices to compare with.

Computed with ONNX Runtime, which devices use as well. A machine that publishes without it, or a
graph that does not take such inputs, gives a manifest without golden runs; devices then try
the model without a comparison.
"""

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from diffcodec import ParameterSet
from protos.ota.v1 import manifest_pb2
from speech.golden import golden_sample, golden_values

log = logging.getLogger(__name__)

FREE_SIZE = 3
"""Where a graph takes any: enough frames or tokens that every weight has a say."""
TOKENS_BOUND = 16
SEEDS = (1, 2)
RELATIVE_TOLERANCE = 1e-3
INT8_TOLERANCE = 5e-2
"""One rounding that falls the other way moves an answer of int8 this far at the most."""
FLOAT, INTEGER = "tensor(float)", "tensor(int64)"


def golden_runs(weights: ParameterSet, graph: bytes) -> tuple[manifest_pb2.GoldenRun, ...]:
    """Run a graph twice; nothing where that cannot be done here."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        return ()
    is_int8 = any(spec.dtype == "int8" for spec in weights.layout.tensors)
    with tempfile.TemporaryDirectory(prefix="neuraldiff-golden-") as folder:
        weights.write(Path(folder) / "weights.bin")
        path = Path(folder) / "model.onnx"
        path.write_bytes(graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
            return tuple(_run(session, seed, is_int8) for seed in SEEDS)
        # ONNX Runtime's exceptions share no base but Exception. A graph that it does not run is
        # for another program, and published all the same.
        except Exception as error:
            log.warning("no golden runs: %s", str(error).partition("\n")[0])
            return ()


def _run(session: Any, seed: int, is_int8: bool) -> manifest_pb2.GoldenRun:
    inputs = [_input(node, seed) for node in _inputs(session)]
    names = [node.name for node in session.get_outputs() if node.type == FLOAT]
    values = {i.name: golden_values(tuple(i.shape), i.seed, i.bound) for i in inputs}
    outputs = session.run(names, values)
    relative = INT8_TOLERANCE if is_int8 else RELATIVE_TOLERANCE
    return manifest_pb2.GoldenRun(
        inputs=inputs,
        outputs=[
            _output(name, output, relative) for name, output in zip(names, outputs, strict=True)
        ],
    )


def _inputs(session: Any) -> list[Any]:
    """What a graph must be given, and what it has defaults for; weights are not among them."""
    return [*session.get_inputs(), *session.get_overridable_initializers()]


def _input(node: Any, seed: int) -> manifest_pb2.GoldenInput:
    if node.type not in (FLOAT, INTEGER):
        raise ValueError(f"input {node.name} is a {node.type}")
    shape = [size if isinstance(size, int) and size > 0 else FREE_SIZE for size in node.shape]
    bound = TOKENS_BOUND if node.type == INTEGER else 0
    return manifest_pb2.GoldenInput(name=node.name, shape=shape, seed=seed, bound=bound)


def _output(name: str, output: Any, relative: float) -> manifest_pb2.GoldenOutput:
    array = np.asarray(output, dtype=np.float32)
    if not np.isfinite(array).all() or not array.size:
        raise ValueError(f"output {name} is empty or not finite")
    return manifest_pb2.GoldenOutput(
        name=name,
        shape=array.shape,
        values=golden_sample(array).tolist(),
        tolerance=relative * max(1.0, float(np.abs(array).max())),
    )

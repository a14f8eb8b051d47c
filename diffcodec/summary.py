"""What a diff file amounts to, for people: sizes, what changes, and how near it comes.

Pure: values in, values out. The command line prints them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffcodec.arithmetic import widen
from diffcodec.changes import magnitudes
from diffcodec.diff import apply, kept, reshaped
from diffcodec.file import decode, read_header
from diffcodec.header import Header, LayerHeader
from diffcodec.parameters import Layout, ParameterSet

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Summary:
    """A diff beside the change that it stands for.

    Attributes:
        file_bytes: Size of the file.
        float32_bytes: Size of the parameters at 4 bytes each.
        parameters: Their number.
        nonzeros: Entries of sparse tensors.
        methods: Changes of tensors by method.
        coders: What a device must be able to decode.
        relative_error: || result - new || / || new - base ||; 0 is exact, 1 is no better than
            the base. None where nothing changes or a value is not finite.
        structure: Tensors by what became of them: added, removed or grown.
        target_digest: Of the result.
    """

    file_bytes: int
    float32_bytes: int
    parameters: int
    nonzeros: int
    methods: Mapping[str, int]
    coders: Sequence[str]
    relative_error: float | None
    structure: Mapping[str, Sequence[str]]
    target_digest: bytes

    @property
    def ratio(self) -> float:
        """How many times smaller than the parameters in float32."""
        return self.float32_bytes / self.file_bytes

    def to_json(self) -> Mapping[str, object]:
        """All of it as JSON values."""
        return {
            "file_bytes": self.file_bytes,
            "float32_bytes": self.float32_bytes,
            "ratio": self.ratio,
            "parameters": self.parameters,
            "nonzeros": self.nonzeros,
            "methods": dict(self.methods),
            "coders": list(self.coders),
            "relative_error": self.relative_error,
            "structure": {kind: list(names) for kind, names in self.structure.items()},
            "target_digest": self.target_digest.hex(),
        }


def summarise(base: ParameterSet, new: ParameterSet, data: bytes) -> Summary:
    """Apply a file to the base and compare the result with what it was made from."""
    decoded, header = decode(data, base.layout), read_header(data)
    result = apply(base, decoded)
    count = new.layout.parameter_count
    return Summary(
        file_bytes=len(data),
        float32_bytes=count * FLOAT32_BYTES,
        parameters=count,
        nonzeros=decoded.diff.nonzeros,
        methods={str(method): count for method, count in header.methods.items()},
        coders=sorted(header.coders),
        relative_error=_relative_error(base, new, result),
        structure=_structure(base.layout, new.layout),
        target_digest=decoded.target_digest,
    )


def header_to_json(header: Header, file_bytes: int, layout: Layout | None) -> Mapping[str, object]:
    """A header as JSON values.

    Args:
        header: As read.
        file_bytes: Size of its file.
        layout: The base's, for the tensors' names; None: a snapshot's own, or no names.
    """
    names = _names(header, layout)
    return {
        "file_bytes": file_bytes,
        "base_digest": header.base_digest.hex() if header.base_digest else None,
        "target_digest": header.target_digest.hex(),
        "layout_check": header.layout_check.hex(),
        "methods": {str(method): count for method, count in header.methods.items()},
        "coders": sorted(header.coders),
        "nonzeros": header.nonzeros,
        "layers": [_layer_to_json(layer, names) for layer in header.layers],
        "graph_bytes": header.graph[0].raw_length if header.graph else None,
    }


def _layer_to_json(layer: LayerHeader, names: Sequence[str | None]) -> Mapping[str, object]:
    return {
        "hash_seed": layer.hash_seed,
        "sections": [
            {
                "kind": section.kind,
                "coder": section.coder,
                "raw_bytes": section.raw_length,
                "coded_bytes": section.coded_length,
            }
            for section in layer.sections
        ],
        "tensors": [
            {
                "index": index,
                "name": name,
                "method": record.method,
                "count": record.count,
                "largest": record.largest,
                "scale": list(magnitudes(record.scale)),
                "hashes": record.hashes,
            }
            for index, (name, record) in enumerate(zip(names, layer.records, strict=True))
        ],
    }


def _names(header: Header, layout: Layout | None) -> list[str | None]:
    layout = header.layout or layout
    tensors = max((len(layer.records) for layer in header.layers), default=0)
    if layout is None or len(layout.tensors) != tensors:
        return [None] * tensors
    return [spec.name for spec in layout.tensors]


def _structure(base: Layout, new: Layout) -> Mapping[str, Sequence[str]]:
    """Names of the tensors that start afresh, go away, or have more elements."""
    started = {spec.name: kept(base, spec) for spec in new.tensors}
    gone = [name for name in base.index if started.get(name) is None]
    found = {
        "added": [name for name, before in started.items() if before is None],
        "removed": gone,
        "grown": [
            name
            for name, before in started.items()
            if before is not None and before.shape != new.index[name].shape
        ],
    }
    return {kind: names for kind, names in found.items() if names}


def _relative_error(base: ParameterSet, new: ParameterSet, result: ParameterSet) -> float | None:
    missed = changed = 0.0
    start = reshaped(base, new.layout)
    for spec in new.layout.tensors:
        before, wanted, got = (
            widen(weights.arrays[spec.name].reshape(-1), spec.dtype).astype(np.float64)
            for weights in (start, new, result)
        )
        with np.errstate(invalid="ignore", over="ignore"):
            missed += float(np.square(got - wanted).sum())
            changed += float(np.square(wanted - before).sum())
    error = math.sqrt(missed / changed) if changed else math.nan
    return error if math.isfinite(error) else None

"""What a diff file amounts to, for people: sizes, what changes, and how near it comes.

Pure: values in, values out. The command line prints them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from diffcodec.diff import apply
from diffcodec.file import decode, read_header
from diffcodec.header import Header, Method
from diffcodec.parameters import Dtype, Layout, ParameterSet

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Summary:
    """A diff beside the change that it stands for.

    Attributes:
        file_bytes: Size of the file.
        float32_bytes: Size of the parameters at 4 bytes each.
        parameters: Their number.
        nonzeros: Entries of sparse tensors.
        methods: Tensors by method, unchanged ones left out.
        relative_error: || result - new || / || new - base ||; 0 is exact, 1 is no better than
            the base. None where nothing changes or a value is not finite.
        target_digest: Of the result.
    """

    file_bytes: int
    float32_bytes: int
    parameters: int
    nonzeros: int
    methods: Mapping[str, int]
    relative_error: float | None
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
            "relative_error": self.relative_error,
            "target_digest": self.target_digest.hex(),
        }


def summarise(base: ParameterSet, new: ParameterSet, data: bytes) -> Summary:
    """Apply a file to the base and compare the result with what it was made from."""
    decoded = decode(data, base.layout)
    result = apply(base, decoded)
    count = base.layout.parameter_count
    return Summary(
        file_bytes=len(data),
        float32_bytes=count * FLOAT32_BYTES,
        parameters=count,
        nonzeros=decoded.diff.nonzeros,
        methods=_changing(read_header(data)),
        relative_error=_relative_error(base, new, result),
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
        "layout_fingerprint": header.layout_fingerprint.hex(),
        "hash_seed": header.hash_seed,
        "methods": dict(_changing(header)),
        "nonzeros": header.nonzeros,
        "sections": [
            {
                "kind": section.kind,
                "coder": section.coder,
                "raw_bytes": section.raw_length,
                "coded_bytes": section.coded_length,
                "level_bits": section.level_bits,
            }
            for section in header.sections
        ],
        "tensors": [
            {
                "index": index,
                "name": name,
                "method": record.method,
                "count": record.count,
                "step": record.step,
                "hashes": record.hashes,
            }
            for index, (name, record) in enumerate(zip(names, header.records, strict=True))
        ],
    }


def _names(header: Header, layout: Layout | None) -> list[str | None]:
    layout = header.layout or layout
    if layout is None or len(layout.tensors) != len(header.records):
        return [None] * len(header.records)
    return [spec.name for spec in layout.tensors]


def _changing(header: Header) -> Mapping[str, int]:
    return {str(m): n for m, n in header.methods.items() if m is not Method.UNCHANGED}


def _relative_error(base: ParameterSet, new: ParameterSet, result: ParameterSet) -> float | None:
    missed = changed = 0.0
    for spec in base.layout.tensors:
        if spec.dtype is Dtype.BFLOAT16:
            continue  # numpy does not compute in it; only lossless diffs change it
        before, wanted, got = (
            weights.arrays[spec.name].astype(np.float64) for weights in (base, new, result)
        )
        with np.errstate(invalid="ignore", over="ignore"):
            missed += float(np.square(got - wanted).sum())
            changed += float(np.square(wanted - before).sum())
    error = math.sqrt(missed / changed) if changed else math.nan
    return error if math.isfinite(error) else None

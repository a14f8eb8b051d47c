"""The header between values and protobuf bytes; the only module here that knows protobuf.

A header has one form: what a canonical encoder writes (fields in ascending order, each at most
once, defaults left out, nothing unknown). Anything else is refused, so equal diffs have equal
headers and no bytes ride along unseen.
"""

from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError

from diffcodec.census import require_few_parts
from diffcodec.errors import FormatError, LayoutError, UnsupportedError
from diffcodec.header import Coder, Header, Method, Section, SectionKind, TensorRecord
from diffcodec.parameters import DIGEST_BYTES, MAX_DIMENSIONS, Dtype, Layout, TensorSpec
from protos.ota.v1 import diff_pb2

Name = TypeVar("Name")

_DTYPES = {
    Dtype.FLOAT32: diff_pb2.DTYPE_FLOAT32,
    Dtype.FLOAT16: diff_pb2.DTYPE_FLOAT16,
    Dtype.BFLOAT16: diff_pb2.DTYPE_BFLOAT16,
    Dtype.INT8: diff_pb2.DTYPE_INT8,
}
_METHODS = {
    Method.UNCHANGED: diff_pb2.METHOD_UNSPECIFIED,
    Method.SPARSE: diff_pb2.METHOD_SPARSE,
    Method.HASH: diff_pb2.METHOD_HASH,
    Method.LOSSLESS: diff_pb2.METHOD_LOSSLESS,
}
_CODERS = {Coder.FAST: diff_pb2.CODER_FAST}
_KINDS = {
    SectionKind.GAPS: diff_pb2.SECTION_KIND_GAPS,
    SectionKind.LEVELS: diff_pb2.SECTION_KIND_LEVELS,
    SectionKind.HASH_LEVELS: diff_pb2.SECTION_KIND_HASH_LEVELS,
    SectionKind.LOSSLESS: diff_pb2.SECTION_KIND_LOSSLESS,
}


def header_to_bytes(header: Header) -> bytes:
    """The canonical protobuf form of a header."""
    return _to_message(header).SerializeToString(deterministic=True)


def header_from_bytes(data: bytes) -> Header:
    """Read a canonical header. What it says is not yet compared with any layout.

    Raises:
        UnsupportedError: it names a dtype, method, coder or section that this build lacks.
        FormatError: the bytes are not a canonical header, or it has more parts than any diff.
    """
    require_few_parts(data)
    message = diff_pb2.DiffHeader()
    try:
        message.ParseFromString(data)
    except DecodeError as exc:
        raise FormatError(f"expected a header in protobuf: {exc}") from exc
    header = _from_message(message)
    if header_to_bytes(header) != data:
        raise FormatError("expected a header in canonical form, found unknown or repeated fields")
    return header


def _to_message(header: Header) -> diff_pb2.DiffHeader:
    return diff_pb2.DiffHeader(
        base_digest=header.base_digest or b"",
        target_digest=header.target_digest,
        layout_fingerprint=header.layout_fingerprint,
        layout=None if header.layout is None else _layout_to_message(header.layout),
        tensors=[
            diff_pb2.TensorRecord(
                method=_METHODS[record.method],
                count=record.count,
                escapes=record.escapes,
                step=record.step,
                hashes=record.hashes,
            )
            for record in header.records
        ],
        sections=[
            diff_pb2.Section(
                kind=_KINDS[section.kind],
                coder=_CODERS[section.coder],
                raw_length=section.raw_length,
                coded_length=section.coded_length,
                level_bits=section.level_bits,
            )
            for section in header.sections
        ],
        hash_seed=header.hash_seed,
    )


def _from_message(message: diff_pb2.DiffHeader) -> Header:
    is_snapshot = not message.base_digest
    if is_snapshot != message.HasField("layout"):
        raise FormatError("expected either a base digest or a snapshot's layout in the header")
    return Header(
        base_digest=None if is_snapshot else _digest(message.base_digest, "base digest"),
        target_digest=_digest(message.target_digest, "target digest"),
        layout_fingerprint=_digest(message.layout_fingerprint, "layout fingerprint"),
        layout=_layout_from_message(message.layout) if is_snapshot else None,
        records=tuple(
            TensorRecord(
                method=_named(_METHODS, record.method, "method"),
                count=record.count,
                escapes=record.escapes,
                step=record.step,
                hashes=record.hashes,
            )
            for record in message.tensors
        ),
        sections=tuple(
            Section(
                kind=_named(_KINDS, section.kind, "section"),
                coder=_named(_CODERS, section.coder, "coder"),
                raw_length=section.raw_length,
                coded_length=section.coded_length,
                level_bits=section.level_bits,
            )
            for section in message.sections
        ),
        hash_seed=message.hash_seed,
    )


def _layout_to_message(layout: Layout) -> diff_pb2.Layout:
    return diff_pb2.Layout(
        tensors=[
            diff_pb2.TensorSpec(name=t.name, dtype=_DTYPES[t.dtype], shape=t.shape)
            for t in layout.tensors
        ]
    )


def _layout_from_message(message: diff_pb2.Layout) -> Layout:
    try:
        return Layout(
            tuple(
                TensorSpec(t.name, _named(_DTYPES, t.dtype, "dtype"), _shape(t))
                for t in message.tensors
            )
        )
    except LayoutError as exc:
        raise FormatError(f"in the snapshot's layout: {exc}") from exc


def _shape(tensor: diff_pb2.TensorSpec) -> tuple[int, ...]:
    # One dimension too many is enough for TensorSpec to refuse; a million would cost memory.
    return tuple(tensor.shape[: MAX_DIMENSIONS + 1])


def _digest(value: bytes, what: str) -> bytes:
    if len(value) != DIGEST_BYTES:
        raise FormatError(f"expected a {what} of {DIGEST_BYTES} bytes, found {len(value)}")
    return value


def _named(names: Mapping[Name, int], number: int, what: str) -> Name:
    for name, known in names.items():
        if known == number:
            return name
    raise UnsupportedError(
        f"expected a {what} of {', '.join(map(str, names))}, found number {number}"
    )

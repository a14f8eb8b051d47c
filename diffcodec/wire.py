"""The header between values and protobuf bytes; the only module here that knows protobuf.

A header has one form: what a canonical encoder writes (fields in ascending order, each at most
once, defaults left out, nothing unknown). Anything else is refused, so equal diffs have equal
headers and no bytes ride along unseen.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import TypeVar

from google.protobuf.message import DecodeError

from diffcodec.census import require_few_parts
from diffcodec.changes import MAX_LEVEL, Codebook, Scale, Uniform, magnitudes
from diffcodec.errors import FormatError, InputError, LayoutError, UnsupportedError
from diffcodec.header import (
    LAYOUT_CHECK_BYTES,
    MAX_RECORDS,
    MAX_SCALES,
    Coder,
    Header,
    LayerHeader,
    Method,
    Section,
    SectionKind,
    TensorRecord,
)
from diffcodec.parameters import DIGEST_BYTES, MAX_DIMENSIONS, Dtype, Layout, TensorSpec
from protos.ota.v1 import diff_pb2

Name = TypeVar("Name")

_DTYPES = {
    Dtype.FLOAT32: diff_pb2.DTYPE_FLOAT32,
    Dtype.FLOAT16: diff_pb2.DTYPE_FLOAT16,
    Dtype.BFLOAT16: diff_pb2.DTYPE_BFLOAT16,
    Dtype.INT8: diff_pb2.DTYPE_INT8,
}
# A method, and the kind of its scale where it has one.
_METHODS: "Mapping[tuple[Method, type[Scale] | None], diff_pb2.Method.ValueType]" = {
    (Method.UNCHANGED, None): diff_pb2.METHOD_UNSPECIFIED,
    (Method.SPARSE, Uniform): diff_pb2.METHOD_SPARSE,
    (Method.HASH, Uniform): diff_pb2.METHOD_HASH,
    (Method.LOWRANK, Uniform): diff_pb2.METHOD_LOWRANK,
    (Method.LOSSLESS, None): diff_pb2.METHOD_LOSSLESS,
    (Method.SPARSE, Codebook): diff_pb2.METHOD_SPARSE_CODEBOOK,
}
_WITHOUT_SCALE = (Method.UNCHANGED, Method.LOSSLESS)
# Devices and servers name coders to each other by the same numbers.
CODER_NUMBERS = {Coder.FAST: diff_pb2.CODER_FAST, Coder.MAX: diff_pb2.CODER_MAX}
_KINDS = {
    SectionKind.GAPS: diff_pb2.SECTION_KIND_GAPS,
    SectionKind.LEVELS: diff_pb2.SECTION_KIND_LEVELS,
    SectionKind.ENTRIES: diff_pb2.SECTION_KIND_ENTRIES,
    SectionKind.ARRAYS: diff_pb2.SECTION_KIND_ARRAYS,
    SectionKind.BYTES: diff_pb2.SECTION_KIND_BYTES,
    SectionKind.GRAPH: diff_pb2.SECTION_KIND_GRAPH,
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


def scale_to_wire(magnitude: float) -> int:
    """The 31 bits of a positive float32 (no sign) in reverse order: few digits, short varints."""
    (bits,) = struct.unpack("<I", struct.pack("<f", magnitude))
    return int(f"{bits:032b}"[:0:-1], 2)


def scale_from_wire(number: int) -> float:
    """The inverse of `scale_to_wire`.

    Raises:
        FormatError: the number has over 31 bits.
    """
    if number >> 31:
        raise FormatError(f"expected a scale of 31 bits, found {number}")
    (value,) = struct.unpack("<f", struct.pack("<I", int(f"{number:031b}"[::-1], 2)))
    return float(value)


def _to_message(header: Header) -> diff_pb2.DiffHeader:
    graph = header.graph
    return diff_pb2.DiffHeader(
        base_digest=header.base_digest or b"",
        target_digest=header.target_digest,
        layout_check=header.layout_check,
        layout=None if header.layout is None else _layout_to_message(header.layout),
        layers=[_layer_to_message(layer) for layer in header.layers],
        graph=None if graph is None else _section_to_message(graph[0]),
        graph_digest=b"" if graph is None else graph[1],
    )


def _from_message(message: diff_pb2.DiffHeader) -> Header:
    is_snapshot = not message.base_digest
    if is_snapshot and not message.HasField("layout"):
        raise FormatError("expected either a base digest or a snapshot's layout in the header")
    layout = _layout_from_message(message.layout) if message.HasField("layout") else None
    layers = message.layers
    if sum(len(layer.methods) for layer in layers) > MAX_RECORDS:
        raise FormatError(f"expected at most {MAX_RECORDS} tensor records, found more")
    if sum(len(layer.scales) for layer in layers) > MAX_SCALES:
        raise FormatError(f"expected at most {MAX_SCALES} scales, found more")
    counts = sorted({len(layer.methods) for layer in layers})
    if len(counts) > 1:
        raise FormatError(f"expected as many tensor records in every layer, found {counts}")
    return Header(
        base_digest=None if is_snapshot else _digest(message.base_digest, "base digest"),
        target_digest=_digest(message.target_digest, "target digest"),
        layout_check=_digest(message.layout_check, "layout check", LAYOUT_CHECK_BYTES),
        layout=layout,
        layers=tuple(_layer_from_message(layer) for layer in layers),
        graph=_graph_from_message(message),
    )


def _graph_from_message(message: diff_pb2.DiffHeader) -> tuple[Section, bytes] | None:
    if not message.HasField("graph"):
        return None
    digest = _digest(message.graph_digest, "graph digest")
    return _section_from_message(message.graph), digest


def _layer_to_message(layer: LayerHeader) -> diff_pb2.Layer:
    changed = [record for record in layer.records if record.method not in _WITHOUT_SCALE]
    return diff_pb2.Layer(
        methods=[
            _METHODS[r.method, None if r.method in _WITHOUT_SCALE else type(r.scale)]
            for r in layer.records
        ],
        counts=[record.count for record in changed],
        largest=_folded([record.largest for record in changed]),
        scales=[scale_to_wire(number) for r in changed for number in magnitudes(r.scale)],
        hashes=_folded([record.hashes for record in changed if record.hashes]),
        hash_seed=layer.hash_seed,
        sections=[_section_to_message(section) for section in layer.sections],
    )


def _layer_from_message(message: diff_pb2.Layer) -> LayerHeader:
    kinds = [_named(_METHODS, number, "method") for number in message.methods]
    methods = [method for method, scale in kinds if scale is not None]
    counts = _exactly(len(methods), message.counts, "counts")
    largest = iter(_unfolded(len(methods), message.largest, "largest levels"))
    hashes = iter(_unfolded(methods.count(Method.HASH), message.hashes, "numbers of hashes"))
    scales = iter(message.scales)
    records = []
    for method, scale in kinds:
        if scale is None:
            records.append(TensorRecord(method))
            continue
        most = next(largest)
        records.append(
            TensorRecord(
                method=method,
                count=next(counts),
                largest=most,
                scale=_scale(scale, most, scales),
                hashes=next(hashes) if method is Method.HASH else 0,
            )
        )
    if next(scales, None) is not None:
        raise FormatError("expected as many scales as the tensors need, found more")
    sections = tuple(_section_from_message(section) for section in message.sections)
    return LayerHeader(tuple(records), sections, message.hash_seed)


def _scale(kind: type[Scale], largest: int, numbers: Iterator[int]) -> Scale:
    if kind is Codebook and not 1 <= largest <= MAX_LEVEL:
        raise FormatError(f"expected 1 to {MAX_LEVEL} magnitudes, found {largest}")
    wanted = largest if kind is Codebook else 1
    values = tuple(scale_from_wire(number) for number in islice(numbers, wanted))
    if len(values) != wanted:
        raise FormatError("expected as many scales as the tensors need, found fewer")
    try:
        return Codebook(values) if kind is Codebook else Uniform(values[0])
    except InputError as exc:
        raise FormatError(str(exc)) from exc


def _folded(items: list[int]) -> list[int]:
    """One item for all where all are equal: every tensor has the same K most of the time."""
    return items[:1] if len(set(items)) == 1 else items


def _unfolded(wanted: int, items: Sequence[int], what: str) -> Iterator[int]:
    if wanted > 1 and len(items) == 1:
        return repeat(items[0], wanted)
    return _exactly(wanted, items, what)


def _exactly(wanted: int, items: Sequence[int], what: str) -> Iterator[int]:
    if len(items) != wanted:
        raise FormatError(
            f"expected {wanted} {what} for the tensors of a layer, found {len(items)}"
        )
    return iter(items)


def _section_to_message(section: Section) -> diff_pb2.Section:
    return diff_pb2.Section(
        kind=_KINDS[section.kind],
        coder=CODER_NUMBERS[section.coder],
        raw_length=section.raw_length,
        coded_length=section.coded_length,
    )


def _section_from_message(section: diff_pb2.Section) -> Section:
    return Section(
        kind=_named(_KINDS, section.kind, "section"),
        coder=_named(CODER_NUMBERS, section.coder, "coder"),
        raw_length=section.raw_length,
        coded_length=section.coded_length,
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
        raise FormatError(f"in the layout that the diff brings: {exc}") from exc


def _shape(tensor: diff_pb2.TensorSpec) -> tuple[int, ...]:
    # One dimension too many is enough for TensorSpec to refuse; a million would cost memory.
    return tuple(tensor.shape[: MAX_DIMENSIONS + 1])


def _digest(value: bytes, what: str, length: int = DIGEST_BYTES) -> bytes:
    if len(value) != length:
        raise FormatError(f"expected a {what} of {length} bytes, found {len(value)}")
    return value


def _named(names: Mapping[Name, int], number: int, what: str) -> Name:
    for name, known in names.items():
        if known == number:
            return name
    raise UnsupportedError(f"expected a {what} that this build knows, found number {number}")

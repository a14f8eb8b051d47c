"""A layer of a diff as sections, and sections as readers of a layer.

The seam between values and coders: which tensors go into which section, in which order, and
which coder writes it. Where several coders are allowed the smallest section wins.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import CHUNK_ELEMENTS
from diffcodec.changes import (
    HashDiff,
    LosslessDiff,
    LowRankDiff,
    SparseDiff,
    TensorDiff,
    Uniform,
)
from diffcodec.coders import fast
from diffcodec.coders.frames import FrameReader
from diffcodec.coders.max import ByteDecoder, is_available
from diffcodec.coders.max import sections as mixed
from diffcodec.coders.streams import (
    ArrayPart,
    ArraysReader,
    BytesPart,
    BytesReader,
    Coded,
    EntriesPart,
    EntriesReader,
    Window,
)
from diffcodec.diff import Layer
from diffcodec.errors import UnsupportedError
from diffcodec.header import Coder, LayerHeader, Method, Section, SectionKind, TensorRecord
from diffcodec.parameters import Layout, TensorSpec

# What a section takes in the header, about.
SECTION_BYTES = 10
Form = Callable[[Sequence[Any]], list[Coded]]


@dataclass(frozen=True)
class EncodedLayer:
    """A layer's part of the header, and the bytes of its sections."""

    header: LayerHeader
    payloads: tuple[bytes, ...]


def available_coders() -> frozenset[Coder]:
    """The coders that this machine has; `max` where its C extension was built."""
    return frozenset(Coder) if is_available() else frozenset({Coder.FAST})


def encode_layer(layer: Layer, layout: Layout, coders: Collection[Coder]) -> EncodedLayer:
    """Code all changes of a layer, section by section, as small as the coders can.

    Args:
        layer: What changes.
        layout: Of the result.
        coders: Those that may be used, at least one.
    """
    pairs = [(spec, layer.tensors.get(spec.name)) for spec in layout.tensors]
    entries = [part for spec, change in pairs for part in _entries(spec, change)]
    arrays = [part for _, change in pairs for part in _arrays(change)]
    xors = [part for spec, change in pairs for part in _xors(spec, change)]
    coded = [
        *_smallest(ENTRIES_FORMS, entries, coders),
        *_smallest(_ARRAYS_FORMS, arrays, coders),
        *_smallest(_BYTES_FORMS, xors, coders),
    ]
    header = LayerHeader(
        tuple(_record(change) for _, change in pairs),
        tuple(part.section for part in coded),
        layer.hash_seed,
    )
    return EncodedLayer(header, tuple(part.payload for part in coded))


class LayerReader:
    """Reads the changes of one layer, tensor by tensor in layout order.

    Args:
        source: The file; its position is moved at every read.
        offset: Where the layer's first section starts.
        header: The layer's part of the header, compared with the layout.

    Raises:
        FormatError: a section is not what the header says.
        UnsupportedError: this machine lacks its coder.
    """

    def __init__(self, source: BinaryIO, offset: int, header: LayerHeader) -> None:
        self._readers = _open(source, offset, header.sections)

    def entries(
        self, record: TensorRecord, spec: TensorSpec
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
        """Positions and levels of a sparse tensor, in runs of bounded length.

        Raises:
            FormatError: while iterating, at the first thing that cannot be.
        """
        reader: EntriesReader = self._readers[SectionKind.ENTRIES]
        return reader.runs(spec.shape, record.count, record.largest, spec.name)

    def array(self, record: TensorRecord, spec: TensorSpec) -> NDArray[np.int8]:
        """The levels of a hash array: int8, shape (m,).

        Raises:
            FormatError: a level is out of range or the bytes end early.
        """
        reader: ArraysReader = self._readers[SectionKind.ARRAYS]
        return reader.take(record.count, record.largest, 0, spec.name)

    def factors(
        self, record: TensorRecord, spec: TensorSpec
    ) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """U and V of a low-rank change: int8, shapes (rows, r) and (columns, r).

        Raises:
            FormatError: a level is out of range or the bytes end early.
        """
        reader: ArraysReader = self._readers[SectionKind.ARRAYS]
        rank = record.count
        rows, columns = (
            reader.take(size * rank, record.largest, rank, spec.name).reshape(size, rank)
            for size in spec.matrix
        )
        return rows, columns

    def xor(self, spec: TensorSpec) -> Iterator[NDArray[np.uint8]]:
        """The XOR bytes of a lossless tensor, CHUNK_ELEMENTS elements at a time.

        Raises:
            FormatError: the bytes end early.
        """
        reader: BytesReader = self._readers[SectionKind.BYTES]
        reader.begin(spec.nbytes, spec.dtype.itemsize, _width(spec))
        chunk = CHUNK_ELEMENTS * spec.dtype.itemsize
        for at in range(0, spec.nbytes, chunk):
            yield reader.take(min(chunk, spec.nbytes - at))

    def finish(self) -> None:
        """Require that every section was read to its end.

        Raises:
            FormatError: bytes are left over.
        """
        for reader in self._readers.values():
            reader.finish()


def _smallest(
    forms: Sequence[tuple[Coder, Form]], parts: Sequence[Any], coders: Collection[Coder]
) -> list[Coded]:
    if not parts:
        return []
    allowed = available_coders().intersection(coders)
    if not allowed:
        raise UnsupportedError(
            f"expected one of the coders {', '.join(sorted(available_coders()))}, which this "
            f"machine has, found {', '.join(sorted(coders)) or 'none'}"
        )
    tried = [encode(parts) for coder, encode in forms if coder in allowed]
    return min(tried, key=lambda coded: sum(len(c.payload) + SECTION_BYTES for c in coded))


def _entries(spec: TensorSpec, change: TensorDiff | None) -> Iterator[EntriesPart]:
    if isinstance(change, SparseDiff):
        yield EntriesPart(spec.shape, change.positions, change.levels, change.largest)


def _arrays(change: TensorDiff | None) -> Iterator[ArrayPart]:
    if isinstance(change, HashDiff):
        yield ArrayPart(change.levels, _largest(change), 0)
    elif isinstance(change, LowRankDiff):
        for factor in (change.rows, change.columns):
            yield ArrayPart(factor.reshape(-1), _largest(change), change.rank)


def _xors(spec: TensorSpec, change: TensorDiff | None) -> Iterator[BytesPart]:
    if isinstance(change, LosslessDiff):
        yield BytesPart(change.xor, spec.dtype.itemsize, _width(spec))


def _width(spec: TensorSpec) -> int:
    return spec.matrix[1] if len(spec.shape) > 1 else 0


def _record(change: TensorDiff | None) -> TensorRecord:
    match change:
        case SparseDiff(positions=positions, scale=scale):
            return TensorRecord(Method.SPARSE, positions.size, change.largest, scale)
        case HashDiff(levels=levels, step=step, hashes=hashes):
            return TensorRecord(Method.HASH, levels.size, _largest(change), Uniform(step), hashes)
        case LowRankDiff(step=step):
            return TensorRecord(Method.LOWRANK, change.rank, _largest(change), Uniform(step))
        case LosslessDiff():
            return TensorRecord(Method.LOSSLESS)
        case None:
            return TensorRecord()


def _largest(change: HashDiff | LowRankDiff) -> int:
    scale = Uniform(change.step)
    if isinstance(change, HashDiff):
        return scale.largest(change.levels)
    return max(scale.largest(change.rows), scale.largest(change.columns))


def _open(source: BinaryIO, offset: int, sections: Sequence[Section]) -> dict[SectionKind, Any]:
    """A reader for every kind of content."""
    at = {}
    for section in sections:
        if section.coder not in available_coders():
            raise UnsupportedError(
                f"expected sections of coder {', '.join(sorted(available_coders()))}, "
                f"found {section.coder}, which this machine lacks (its C extension is not built)"
            )
        at[section.kind] = (offset, section)
        offset += section.coded_length
    readers: dict[SectionKind, Any] = {}
    for kind, (start, section) in at.items():
        if kind is SectionKind.LEVELS:
            continue  # read beside the gaps
        if kind is SectionKind.GAPS:
            levels = FrameReader(source, *at[SectionKind.LEVELS])
            gaps = FrameReader(source, start, section)
            readers[SectionKind.ENTRIES] = fast.GapBytesReader(gaps, levels)
        elif (section.coder, kind) in _FRAMED:
            frame = FrameReader(source, start, section)
            readers[kind] = _FRAMED[section.coder, kind](frame)
        else:
            window = Window(source, start, section.coded_length)
            readers[kind] = _PLAIN[section.coder, kind](window)
    return readers


_FRAMED = {
    (Coder.FAST, SectionKind.ARRAYS): fast.ArrayReader,
    (Coder.FAST, SectionKind.BYTES): fast.BytesReader,
}
_PLAIN: Mapping[tuple[Coder, SectionKind], Callable[[Window], Any]] = {
    (Coder.FAST, SectionKind.ENTRIES): fast.RowsReader,
    (Coder.MAX, SectionKind.ENTRIES): mixed.MixedEntriesReader,
    (Coder.MAX, SectionKind.ARRAYS): mixed.MixedArraysReader,
    (Coder.MAX, SectionKind.BYTES): lambda window: ByteDecoder(window.read, window.left),
}
ENTRIES_FORMS: tuple[tuple[Coder, Form], ...] = (
    (Coder.FAST, fast.encode_gap_bytes),
    (Coder.FAST, fast.encode_rows),
    (Coder.MAX, mixed.encode_entries),
)
_ARRAYS_FORMS: tuple[tuple[Coder, Form], ...] = (
    (Coder.FAST, fast.encode_arrays),
    (Coder.MAX, mixed.encode_arrays),
)
_BYTES_FORMS: tuple[tuple[Coder, Form], ...] = (
    (Coder.FAST, fast.encode_bytes),
    (Coder.MAX, mixed.encode_bytes),
)

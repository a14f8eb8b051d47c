"""The coder `fast`: gap bytes, packed levels and byte planes, each kind one zstd frame.

Encoding takes a whole diff; decoding is by readers that a device can run in bounded memory, and
that `decode` runs to the end. Where the bytes stand in the file is `diffcodec.file`'s business.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import CHUNK_ELEMENTS
from diffcodec.coders import levels as packing
from diffcodec.coders.gaps import decode_gaps, encode_gaps
from diffcodec.coders.planes import from_planes, to_planes
from diffcodec.coders.sections import READ_BYTES, SectionReader, compress
from diffcodec.diff import Diff, HashDiff, LosslessDiff, SparseDiff, TensorDiff
from diffcodec.errors import FormatError
from diffcodec.header import Coder, Method, Section, SectionKind, TensorRecord
from diffcodec.parameters import TensorSpec

# The best level depends on the data: matches help clustered gaps, literals alone random levels.
# Strong compression of large sections costs minutes and gains next to nothing (entropy coding
# does the work, which the fast levels have too).
SMALL_BYTES = 2**19
LEVELS_WHEN_SMALL = (1, 19)
LEVELS_WHEN_LARGE = (1, 3)


@dataclass(frozen=True)
class Encoded:
    """A diff's records and sections, and the coded bytes of each section."""

    records: tuple[TensorRecord, ...]
    sections: tuple[Section, ...]
    payloads: tuple[bytes, ...]


def encode_sections(diff: Diff) -> Encoded:
    """Code all tensors of a diff, section by section."""
    changes = [diff.tensors.get(spec.name) for spec in diff.layout.tensors]
    sparse = [c for c in changes if isinstance(c, SparseDiff)]
    gaps = [encode_gaps(c.positions) for c in sparse]
    records = _records(changes, iter(gaps))
    sparse_symbols = [packing.sparse_symbols(c.levels) for c in sparse]
    hash_symbols = [packing.hash_symbols(c.levels) for c in changes if isinstance(c, HashDiff)]
    planes = [
        to_planes(change.xor, spec.dtype.itemsize)
        for spec, change in zip(diff.layout.tensors, changes, strict=True)
        if isinstance(change, LosslessDiff)
    ]
    raw = [
        (SectionKind.GAPS, 0, gaps),
        (SectionKind.LEVELS, *_packed(sparse_symbols)),
        (SectionKind.HASH_LEVELS, *_packed(hash_symbols)),
        (SectionKind.LOSSLESS, 0, planes),
    ]
    coded = [_coded(kind, bits, parts) for kind, bits, parts in raw if parts]
    return Encoded(records, tuple(s for s, _ in coded), tuple(p for _, p in coded))


def read_sparse(
    readers: Mapping[SectionKind, SectionReader], record: TensorRecord, spec: TensorSpec
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
    """Positions and levels of one sparse tensor, in runs of at most 65,536 entries.

    Raises:
        FormatError: while iterating, at the first thing that cannot be.
    """
    gap_bytes = _blocks(readers[SectionKind.GAPS], record.count + record.escapes)
    symbols = _Symbols(readers[SectionKind.LEVELS], record.count)
    found = 0
    for positions in decode_gaps(gap_bytes, spec.size, spec.name):
        found += positions.size
        if found > record.count:
            break
        yield positions, packing.sparse_levels(symbols.take(positions.size))
    if found != record.count:
        raise FormatError(
            f"tensor {spec.name}: expected {record.count} entries in its gap bytes, "
            f"found {'more' if found > record.count else found}"
        )
    symbols.finish(spec.name)


def read_hash(
    readers: Mapping[SectionKind, SectionReader], record: TensorRecord, spec: TensorSpec
) -> NDArray[np.int8]:
    """The levels of one hash tensor: int8, shape (m,).

    Raises:
        FormatError: a level is out of range or the bytes end early.
    """
    symbols = _Symbols(readers[SectionKind.HASH_LEVELS], record.count)
    levels = packing.hash_levels(symbols.take(record.count))
    symbols.finish(spec.name)
    return levels


def read_lossless(
    readers: Mapping[SectionKind, SectionReader], spec: TensorSpec
) -> Iterator[NDArray[np.uint8]]:
    """The XOR bytes of one tensor, CHUNK_ELEMENTS elements at a time.

    Raises:
        FormatError: the bytes end early.
    """
    reader = readers[SectionKind.LOSSLESS]
    itemsize = spec.dtype.itemsize
    for at in range(0, spec.size, CHUNK_ELEMENTS):
        elements = min(CHUNK_ELEMENTS, spec.size - at)
        yield from_planes(reader.read(elements * itemsize), itemsize)


def _records(
    changes: Iterable[TensorDiff | None], gaps: Iterator[NDArray[np.uint8]]
) -> tuple[TensorRecord, ...]:
    records = []
    for change in changes:
        match change:
            case SparseDiff(positions=positions, step=step):
                escapes = next(gaps).size - positions.size
                record = TensorRecord(Method.SPARSE, positions.size, escapes, step)
            case HashDiff(levels=levels, step=step, hashes=hashes):
                record = TensorRecord(Method.HASH, levels.size, 0, step, hashes)
            case LosslessDiff():
                record = TensorRecord(Method.LOSSLESS)
            case None:
                record = TensorRecord()
        records.append(record)
    return tuple(records)


def _packed(symbols: list[NDArray[np.uint8]]) -> tuple[int, list[NDArray[np.uint8]]]:
    """Bits a symbol for the whole section, and its bytes."""
    bits = packing.bits_for(symbols)
    return bits, [packing.pack(part, bits) for part in symbols]


def _coded(kind: SectionKind, bits: int, parts: list[NDArray[np.uint8]]) -> tuple[Section, bytes]:
    raw = np.concatenate(parts).tobytes()
    coded = compress(raw, LEVELS_WHEN_SMALL if len(raw) <= SMALL_BYTES else LEVELS_WHEN_LARGE)
    return Section(kind, Coder.FAST, len(raw), len(coded), bits), coded


def _blocks(reader: SectionReader, length: int) -> Iterator[NDArray[np.uint8]]:
    for at in range(0, length, READ_BYTES):
        yield reader.read(min(READ_BYTES, length - at))


class _Symbols:
    """The packed symbols of one tensor, taken in runs of any length."""

    def __init__(self, reader: SectionReader, count: int) -> None:
        self._reader, self._bits = reader, reader.level_bits
        self._ready = np.empty(0, dtype=np.uint8)

    def take(self, count: int) -> NDArray[np.uint8]:
        missing = max(0, count - self._ready.size)
        fresh = self._reader.read(packing.packed_bytes(missing, self._bits))
        symbols = np.concatenate([self._ready, packing.unpack(fresh, self._bits)])
        self._ready = symbols[count:]
        return symbols[:count]

    def finish(self, name: str) -> None:
        if self._ready.any():
            raise FormatError(f"tensor {name}: expected zero bits after its last level")

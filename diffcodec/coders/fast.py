"""The coder `fast`: what numpy and zstandard alone can do.

Sparse entries travel as gap bytes and packed levels, each in one zstd frame, or by row classes
(`diffcodec.coders.rows`), whichever is smaller; arrays as packed levels and XOR as byte planes, in
zstd frames. Readers run in bounded memory; where the bytes stand in the file is the business of
`diffcodec.coders.layers` and `diffcodec.file`.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import CHUNK_ELEMENTS
from diffcodec.coders import levels as packing
from diffcodec.coders import rows
from diffcodec.coders.frames import READ_BYTES, FrameReader, compress
from diffcodec.coders.gaps import GapDecoder, encode_gaps
from diffcodec.coders.planes import from_planes, to_planes
from diffcodec.coders.streams import ArrayPart, BytesPart, Coded, EntriesPart, Window
from diffcodec.errors import FormatError
from diffcodec.header import Coder, SectionKind

# The best level depends on the data: matches help clustered gaps, literals alone random levels.
# Strong compression of large sections costs minutes and gains next to nothing (entropy coding
# does the work, which the fast levels have too).
SMALL_BYTES = 2**19
LEVELS_WHEN_SMALL = (1, 19)
LEVELS_WHEN_LARGE = (1, 3)


def encode_gap_bytes(parts: Sequence[EntriesPart]) -> list[Coded]:
    """Positions as gap bytes, levels packed."""
    packed = [
        packing.pack(packing.sparse_symbols(p.levels), packing.sparse_bits(p.largest))
        for p in parts
    ]
    gaps = [encode_gaps(part.positions) for part in parts]
    return [_framed(SectionKind.GAPS, gaps), _framed(SectionKind.LEVELS, packed)]


def encode_arrays(parts: Sequence[ArrayPart]) -> list[Coded]:
    """Levels of hash arrays and factors, packed."""
    packed = [
        packing.pack(packing.array_symbols(p.levels), packing.array_bits(p.largest)) for p in parts
    ]
    return [_framed(SectionKind.ARRAYS, packed)]


def encode_bytes(parts: Sequence[BytesPart]) -> list[Coded]:
    """XOR bytes in byte planes."""
    return [_framed(SectionKind.BYTES, [to_planes(p.xor, p.itemsize) for p in parts])]


def encode_rows(parts: Sequence[EntriesPart]) -> list[Coded]:
    """Positions and levels by row classes."""
    return [Coded.of(SectionKind.ENTRIES, Coder.FAST, 0, rows.encode(parts))]


class RowsReader:
    """Reads what `encode_rows` wrote."""

    def __init__(self, window: Window) -> None:
        self._decoder = rows.Decoder(
            lambda length: np.frombuffer(window.read(length), np.uint8), window.left
        )

    def runs(
        self, shape: tuple[int, ...], count: int, largest: int, name: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
        """Positions and levels of the next tensor, in runs of at most 65,536 entries.

        Raises:
            FormatError: while iterating, at the first thing that cannot be.
        """
        self._decoder.begin(shape, count, largest)
        yield from self._decoder.runs()

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        self._decoder.finish()


class GapBytesReader:
    """Reads what `encode_gap_bytes` wrote."""

    def __init__(self, gaps: FrameReader, levels: FrameReader) -> None:
        self._gaps, self._levels = gaps, levels
        self._decoder = GapDecoder(lambda: gaps.read(min(READ_BYTES, gaps.left)))

    def runs(
        self, shape: tuple[int, ...], count: int, largest: int, name: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
        """Positions and levels of the next tensor, in runs of at most 65,536 entries.

        Raises:
            FormatError: while iterating, at the first thing that cannot be.
        """
        symbols = _Symbols(self._levels, packing.sparse_bits(largest), 2 * largest, name)
        for positions in self._decoder.runs(count, math.prod(shape), name):
            yield positions, packing.sparse_levels(symbols.take(positions.size))
        symbols.finish()

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        if self._decoder.is_ahead:
            raise FormatError("section gaps: expected its end, found more bytes")
        self._gaps.finish()
        self._levels.finish()


class ArrayReader:
    """Reads what `encode_arrays` wrote."""

    def __init__(self, frame: FrameReader) -> None:
        self._frame = frame

    def take(self, size: int, largest: int, width: int, name: str) -> NDArray[np.int8]:
        """The next array or factor, of rows of `width` levels: int8, shape (size,).

        Raises:
            FormatError: a level is out of range or the bytes end early.
        """
        symbols = _Symbols(self._frame, packing.array_bits(largest), 2 * largest + 1, name)
        levels = np.empty(size, np.int8)
        # In parts: the steps between would take several times the memory of the levels.
        for at in range(0, size, CHUNK_ELEMENTS):
            part = levels[at : at + CHUNK_ELEMENTS]
            part[:] = packing.array_levels(symbols.take(part.size))
        symbols.finish()
        return levels

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        self._frame.finish()


class BytesReader:
    """Reads what `encode_bytes` wrote."""

    def __init__(self, frame: FrameReader) -> None:
        self._frame = frame
        self._itemsize = 1

    def begin(self, nbytes: int, itemsize: int, width: int) -> None:
        """Go on to the next tensor."""
        self._itemsize = itemsize

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Its next bytes: a block of the planes.

        Raises:
            FormatError: the bytes end early.
        """
        return from_planes(self._frame.read(nbytes), self._itemsize)

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        self._frame.finish()


def _framed(kind: SectionKind, parts: list[NDArray[np.uint8]]) -> Coded:
    raw = np.concatenate(parts).tobytes()
    coded = compress(raw, LEVELS_WHEN_SMALL if len(raw) <= SMALL_BYTES else LEVELS_WHEN_LARGE)
    return Coded.of(kind, Coder.FAST, len(raw), coded)


class _Symbols:
    """The packed symbols of one tensor, taken in runs of any length."""

    def __init__(self, reader: FrameReader, bits: int, allowed: int, name: str) -> None:
        self._reader, self._bits, self._allowed, self._name = reader, bits, allowed, name
        self._ready = np.empty(0, dtype=np.uint8)

    def take(self, count: int) -> NDArray[np.uint8]:
        missing = max(0, count - self._ready.size)
        fresh = self._reader.read(packing.packed_bytes(missing, self._bits))
        symbols = np.concatenate([self._ready, packing.unpack(fresh, self._bits)])
        self._ready = symbols[count:]
        if symbols[:count].max(initial=0) >= self._allowed:
            raise FormatError(
                f"tensor {self._name}: expected {self._allowed} symbols of levels, "
                f"found number {symbols[:count].max()}"
            )
        return symbols[:count]

    def finish(self) -> None:
        if self._ready.any():
            raise FormatError(f"tensor {self._name}: expected zero bits after its last level")

"""The coder `max` as sections: the parts of a layer through `diffcodec.coders.max`."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import CHUNK_ELEMENTS
from diffcodec.coders.max.coding import (
    ByteEncoder,
    SparseDecoder,
    SparseEncoder,
    SymbolDecoder,
    SymbolEncoder,
)
from diffcodec.coders.streams import ArrayPart, BytesPart, Coded, EntriesPart, Window
from diffcodec.header import Coder, SectionKind


def encode_entries(parts: Sequence[EntriesPart]) -> list[Coded]:
    """Positions and levels."""
    encoder = SparseEncoder()
    for part in parts:
        encoder.add(part.shape, part.positions, part.levels, part.largest)
    return [Coded.of(SectionKind.ENTRIES, Coder.MAX, 0, encoder.finish())]


def encode_arrays(parts: Sequence[ArrayPart]) -> list[Coded]:
    """Levels of hash arrays and factors."""
    encoder = SymbolEncoder()
    for part in parts:
        encoder.add(part.levels, part.largest, part.width)
    return [Coded.of(SectionKind.ARRAYS, Coder.MAX, 0, encoder.finish())]


def encode_bytes(parts: Sequence[BytesPart]) -> list[Coded]:
    """XOR bytes."""
    encoder = ByteEncoder()
    for part in parts:
        encoder.add(part.xor, part.itemsize, part.width)
    return [Coded.of(SectionKind.BYTES, Coder.MAX, 0, encoder.finish())]


class MixedEntriesReader:
    """Reads what `encode_entries` wrote."""

    def __init__(self, window: Window) -> None:
        self._decoder = SparseDecoder(window.read, window.left)

    def runs(
        self, shape: tuple[int, ...], count: int, largest: int, name: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
        """Positions and levels of the next tensor, in runs of at most CHUNK_ELEMENTS entries.

        Raises:
            FormatError: while iterating, at the first thing that cannot be.
        """
        self._decoder.begin(shape, count, largest)
        size = math.prod(shape)
        for at in range(0, size, CHUNK_ELEMENTS):
            yield self._decoder.take(min(CHUNK_ELEMENTS, size - at))

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        self._decoder.finish()


class MixedArraysReader:
    """Reads what `encode_arrays` wrote."""

    def __init__(self, window: Window) -> None:
        self._decoder = SymbolDecoder(window.read, window.left)

    def take(self, size: int, largest: int, width: int, name: str) -> NDArray[np.int8]:
        """The next array or factor: int8, shape (size,).

        Raises:
            FormatError: the bytes end early.
        """
        self._decoder.begin(size, largest, width)
        return self._decoder.take(size)

    def finish(self) -> None:
        """Require that all was read.

        Raises:
            FormatError: bytes are left over.
        """
        self._decoder.finish()

"""What passes between a layer and its coders: the seam that `fast` and `max` share.

Three kinds of content: the entries of sparse tensors, the levels of arrays (hash arrays, low-rank
factors), and the XOR bytes of lossless tensors. An encoder takes all parts of a layer and gives
sections; a reader gives them back tensor by tensor, forwards, in bounded memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import FormatError
from diffcodec.header import Coder, Section, SectionKind


@dataclass(frozen=True)
class EntriesPart:
    """The entries of one sparse tensor.

    Attributes:
        shape: Of the tensor.
        positions: int64, shape (N,), increasing.
        levels: int8, shape (N,), each -K..-1 or 1..K.
        largest: K.
    """

    shape: tuple[int, ...]
    positions: NDArray[np.int64]
    levels: NDArray[np.int8]
    largest: int


@dataclass(frozen=True)
class ArrayPart:
    """A hash array, or one factor of a low-rank change.

    Attributes:
        levels: int8, shape (m,), each -K..K.
        largest: K.
        width: Levels a row: the rank of a factor; 0 of an array, which has no rows.
    """

    levels: NDArray[np.int8]
    largest: int
    width: int


@dataclass(frozen=True)
class BytesPart:
    """The XOR of one lossless tensor.

    Attributes:
        xor: uint8, shape (bytes,).
        itemsize: Bytes of an element.
        width: Elements a row of the tensor; 0 of a vector.
    """

    xor: NDArray[np.uint8]
    itemsize: int
    width: int


@dataclass(frozen=True)
class Coded:
    """A section and its bytes."""

    section: Section
    payload: bytes

    @classmethod
    def of(cls, kind: SectionKind, coder: Coder, raw_length: int, payload: bytes) -> Self:
        """Describe coded bytes as a section."""
        return cls(Section(kind, coder, raw_length, len(payload)), payload)


class EntriesReader(Protocol):
    """Gives back the entries of a layer's sparse tensors."""

    def runs(
        self, shape: tuple[int, ...], count: int, largest: int, name: str
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int8]]]:
        """Positions and levels of the next tensor, in runs of bounded length.

        Raises:
            FormatError: while iterating, at the first thing that cannot be.
        """

    def finish(self) -> None:
        """Require that all was read, or raise FormatError."""


class ArraysReader(Protocol):
    """Gives back arrays and factors."""

    def take(self, size: int, largest: int, width: int, name: str) -> NDArray[np.int8]:
        """The next one: int8, shape (size,).

        Raises:
            FormatError: a level is out of range or the bytes end early.
        """

    def finish(self) -> None:
        """Require that all was read, or raise FormatError."""


class BytesReader(Protocol):
    """Gives back XOR bytes."""

    def begin(self, nbytes: int, itemsize: int, width: int) -> None:
        """Go on to the next tensor; widths as in `BytesPart`."""

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """Its next bytes: CHUNK_ELEMENTS elements of them, or all that are left.

        Raises:
            FormatError: the bytes end early.
        """

    def finish(self) -> None:
        """Require that all was read, or raise FormatError."""


class Window:
    """A range of a file as something to read from, once, forwards.

    Args:
        source: The file; its position is moved at every read.
        start: Where the range starts, in bytes.
        length: Of the range.
    """

    def __init__(self, source: BinaryIO, start: int, length: int) -> None:
        self._source, self._at, self._left = source, start, length

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return self._left

    def read(self, size: int) -> bytes:
        """The next `size` bytes, or all that are left where they are fewer; none at the end.

        Raises:
            FormatError: the file is shorter than it was when it was opened.
        """
        wanted = min(size, self._left)
        self._source.seek(self._at)
        data = self._source.read(wanted)
        if len(data) != wanted:
            raise FormatError(f"expected {wanted} more bytes of a section, found {len(data)}")
        self._at += len(data)
        self._left -= len(data)
        return data

"""The coder `max`: adaptive models and a binary range coder, in C (note.md derives the models).

Three kinds of stream, each a pair of classes that code one tensor after the other and learn on
the way; what one tensor taught helps the next, so tensors must come in the same order:

    encoder = SparseEncoder()
    encoder.add(shape, positions, levels, largest)
    coded = encoder.finish()

    decoder = SparseDecoder(source.read, len(coded))
    decoder.begin(shape, positions.size, largest)
    positions, levels = decoder.take(131_072)       # until the tensor is covered
    decoder.finish()

Decoders work in bounded memory: the models (0.4 MB at most), 29 B for each column of a matrix
(at most 65,536 of them), 7.4 MB of history at most, and a window of 70 kB of coded bytes.
Every byte string decodes to something or raises FormatError. Nothing here knows of files;
nothing of the result depends on the machine.

The C extension is optional: without it `is_available()` is false and the classes refuse.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diffcodec.coders.max.matrix import Matrix
from diffcodec.errors import FormatError, UnsupportedError

try:
    from diffcodec.coders.max import _mixing
except ImportError:  # built without a compiler
    _mixing = None  # type: ignore[assignment]

READ_BYTES = 65_536
# As a value it is the whole range, which no interval holds: no encoder writes it.
NO_START = bytes([255] * 8)
# Less than this is left in the window only at the stream's end; a segment takes at most 1,928.
LEAST_WINDOW_BYTES = 4_096
SEGMENT_ELEMENTS = 96
SPARSE, SYMBOLS, BYTES = range(3)

MOST_SYMBOL_WIDTH = 2**20

Read = Callable[[int], bytes]


def is_available() -> bool:
    """Whether this installation has the C extension."""
    return _mixing is not None


class SparseEncoder:
    """Non-zeros of tensors, coded one tensor after the other."""

    def __init__(self) -> None:
        self._coder = _coder(SPARSE, decoding=False)

    def add(
        self,
        shape: tuple[int, ...],
        positions: NDArray[np.int64],
        levels: NDArray[np.int8],
        largest: int,
    ) -> None:
        """Code one tensor.

        Args:
            shape: Its shape.
            positions: int64, shape (N,), N >= 1, strictly increasing, in C order.
            levels: int8, shape (N,), none 0, magnitudes at most `largest`.
            largest: 1..127.

        Raises:
            ValueError: the arguments contradict each other.
        """
        matrix = Matrix.of(shape)
        self._coder.begin(matrix.size, matrix.width, matrix.lag, positions.size, largest)
        self._coder.encode(
            np.ascontiguousarray(positions, np.int64), np.ascontiguousarray(levels, np.int8)
        )

    def finish(self) -> bytes:
        """The coded bytes. The encoder is of no more use."""
        return _bytes_of(self._coder.finish())


class SparseDecoder:
    """Non-zeros of tensors, decoded in runs of elements.

    Args:
        read: Gives exactly as many bytes as asked for, from the start of the coded ones.
        coded_length: How many coded bytes there are.
    """

    def __init__(self, read: Read, coded_length: int) -> None:
        self._stream = _Stream(SPARSE, read, coded_length)
        self._left = 0
        self._taken = self._covered = 0
        self._ready = _nothing()

    def begin(self, shape: tuple[int, ...], count: int, largest: int) -> None:
        """Go on to the next tensor, which has `count` >= 1 non-zeros of magnitude 1..`largest`.

        Raises:
            RuntimeError: the tensor before is not covered yet.
        """
        if self._left:
            raise RuntimeError(f"{self._left} elements of the tensor before are not taken yet")
        matrix = Matrix.of(shape)
        self._stream.coder.begin(matrix.size, matrix.width, matrix.lag, count, largest)
        self._left = matrix.size
        self._taken = self._covered = 0
        self._ready = _nothing()

    def take(self, elements: int) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
        """The non-zeros among the next `elements` elements of the tensor.

        Returns:
            Positions within the tensor (int64) and levels (int8), both of shape (n,).

        Raises:
            FormatError: the bytes end early, or at the tensor's end non-zeros are missing.
        """
        if not 0 <= elements <= self._left:
            raise RuntimeError(f"expected to take at most {self._left} elements, not {elements}")
        self._taken += elements
        self._left -= elements
        while self._covered < self._taken:
            self._decode(self._taken - self._covered)
        positions, levels = self._ready
        cut = int(np.searchsorted(positions, self._taken))
        self._ready = positions[cut:], levels[cut:]
        missing = self._stream.coder.missing()
        if self._left == 0 and missing:
            raise FormatError(f"expected {missing} more non-zeros in a tensor, found its end")
        return positions[:cut], levels[:cut]

    def finish(self) -> None:
        """Require that the coded bytes end here.

        Raises:
            FormatError: bytes are left over, or the last ones are not what an encoder writes.
        """
        self._stream.finish()

    def _decode(self, elements: int) -> None:
        """Decode about so many elements more, at least one."""
        positions = np.empty(elements + SEGMENT_ELEMENTS, np.int64)
        levels = np.empty(elements + SEGMENT_ELEMENTS, np.int8)
        covered, found = self._stream.decode(elements, levels, positions)
        self._covered += covered
        before = self._ready
        self._ready = (
            np.concatenate([before[0], positions[:found]]),
            np.concatenate([before[1], levels[:found]]),
        )


class SymbolEncoder:
    """Levels of hash arrays and low-rank factors, zeros among them."""

    def __init__(self) -> None:
        self._coder = _coder(SYMBOLS, decoding=False)

    def add(self, levels: NDArray[np.int8], largest: int, width: int) -> None:
        """Code one array.

        Args:
            levels: int8, at least one, magnitudes at most `largest`; matrices in C order.
            largest: 1..127.
            width: Elements in a row of a matrix; 0 for a vector.

        Raises:
            ValueError: the arguments contradict each other.
        """
        self._coder.begin(levels.size, _symbol_width(width), 0, 0, largest)
        self._coder.encode(np.ascontiguousarray(levels, np.int8))

    def finish(self) -> bytes:
        """The coded bytes. The encoder is of no more use."""
        return _bytes_of(self._coder.finish())


class SymbolDecoder:
    """Levels of arrays, in runs of any length. Arguments as SparseDecoder's."""

    def __init__(self, read: Read, coded_length: int) -> None:
        self._stream = _Stream(SYMBOLS, read, coded_length)

    def begin(self, size: int, largest: int, width: int) -> None:
        """Go on to the next array; arguments as the encoder's."""
        self._stream.coder.begin(size, _symbol_width(width), 0, 0, largest)

    def take(self, count: int) -> NDArray[np.int8]:
        """The next levels: int8, shape (count,).

        Raises:
            FormatError: the bytes end early.
        """
        levels = np.empty(count, np.int8)
        at = 0
        while at < count:
            at += self._stream.decode(count - at, levels[at:])[0]
        return levels

    def finish(self) -> None:
        """Require that the coded bytes end here; raises FormatError."""
        self._stream.finish()


class ByteEncoder:
    """XOR bytes of lossless tensors."""

    def __init__(self) -> None:
        self._coder = _coder(BYTES, decoding=False)

    def add(self, xor: NDArray[np.uint8], itemsize: int, width: int = 0) -> None:
        """Code one tensor.

        Args:
            xor: uint8, shape (bytes,), at least one little-endian element.
            itemsize: Bytes of an element: 1, 2 or 4.
            width: Elements in a row of a matrix; 0 for a vector.

        Raises:
            ValueError: the arguments contradict each other.
        """
        self._coder.begin(xor.size // itemsize, _symbol_width(width), 0, 0, itemsize)
        self._coder.encode(np.ascontiguousarray(xor, np.uint8))

    def finish(self) -> bytes:
        """The coded bytes. The encoder is of no more use."""
        return _bytes_of(self._coder.finish())


class ByteDecoder:
    """XOR bytes of tensors, in runs of whole elements. Arguments as SparseDecoder's."""

    def __init__(self, read: Read, coded_length: int) -> None:
        self._stream = _Stream(BYTES, read, coded_length)
        self._itemsize = 1

    def begin(self, nbytes: int, itemsize: int, width: int = 0) -> None:
        """Go on to the next tensor; arguments as the encoder's."""
        self._stream.coder.begin(nbytes // itemsize, _symbol_width(width), 0, 0, itemsize)
        self._itemsize = itemsize

    def take(self, nbytes: int) -> NDArray[np.uint8]:
        """The next bytes, a whole number of elements: uint8, shape (nbytes,).

        Raises:
            FormatError: the bytes end early.
        """
        data = np.empty(nbytes, np.uint8)
        at = 0
        while at < nbytes:
            covered, _ = self._stream.decode((nbytes - at) // self._itemsize, data[at:])
            at += covered * self._itemsize
        return data

    def finish(self) -> None:
        """Require that the coded bytes end here; raises FormatError."""
        self._stream.finish()


class _Stream:
    """A decoder in C and the window of coded bytes before it."""

    def __init__(self, kind: int, read: Read, coded_length: int) -> None:
        self.coder = _coder(kind, decoding=True)
        self._read, self._unread = read, coded_length
        self._window = b""
        self._at = 0
        self._is_start = True

    def decode(
        self, elements: int, data: NDArray[np.generic], positions: NDArray[np.int64] | None = None
    ) -> tuple[int, int]:
        """Decode up to about so many elements: how many there were, how many non-zeros found."""
        self._refill()
        window = memoryview(self._window)[self._at :]
        arrays = (data,) if positions is None else (data, positions)
        used, covered, found = self.coder.decode(window, self._unread == 0, elements, *arrays)
        self._at += used
        if covered == 0:
            raise RuntimeError("nothing more can be decoded: is all taken that began?")
        return covered, found

    def finish(self) -> None:
        left = self._unread + len(self._window) - self._at
        if left:
            raise FormatError(f"expected the end of the coded bytes, found {left} more")
        if not self.coder.finish():
            raise FormatError("expected the shortest ending of the coded bytes, found another")

    def _refill(self) -> None:
        if self._unread == 0 or len(self._window) - self._at >= LEAST_WINDOW_BYTES:
            return
        wanted = min(READ_BYTES, self._unread)
        fresh = self._read(wanted)
        if len(fresh) != wanted:
            raise FormatError(f"expected {wanted} more coded bytes, found {len(fresh)}")
        if self._is_start and fresh.startswith(NO_START):
            raise FormatError(f"expected coded bytes that do not start with {NO_START.hex()}")
        self._is_start = False
        self._unread -= wanted
        if self._unread == 0 and fresh[-1] == 0:
            raise FormatError("expected coded bytes that end in no zero, found a last byte of 0")
        self._window = self._window[self._at :] + fresh
        self._at = 0


def _coder(kind: int, *, decoding: bool) -> "_mixing.Coder":
    if _mixing is None:
        raise UnsupportedError(
            "expected the C extension of the coder max, found an installation without it"
        )
    return _mixing.Coder(kind, decoding)


def _bytes_of(coded: bytes | bool) -> bytes:
    assert isinstance(coded, bytes)  # noqa: S101 -- an encoder's finish() gives nothing else
    return coded


def _symbol_width(width: int) -> int:
    return width if 1 < width <= MOST_SYMBOL_WIDTH else 0


def _nothing() -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    return np.empty(0, np.int64), np.empty(0, np.int8)

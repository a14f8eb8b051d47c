"""Positions as gap bytes: how many elements are skipped before each entry.

A byte below 255 ends a gap; 255 skips 255 elements and goes on. A gap of 600 is 255, 255, 90.
Positions that repeat or run backwards cannot be written at all. N entries, E escapes.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import FormatError

ESCAPE = 255


def encode_gaps(positions: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Gap bytes of strictly increasing positions.

    Args:
        positions: int64, shape (N,), from 0 on.

    Returns:
        uint8, shape (N + E,).
    """
    skipped = np.diff(positions, prepend=-1) - 1
    escapes, rest = np.divmod(skipped, ESCAPE)
    ends = np.cumsum(escapes + 1)
    coded = np.full(int(ends[-1]) if ends.size else 0, ESCAPE, dtype=np.uint8)
    coded[ends - 1] = rest
    return coded


class GapDecoder:
    """Positions from the gap bytes of several tensors, one after the other.

    Where a tensor's bytes end is known only once its entries have been counted, so what was read
    beyond is kept for the next tensor.

    Args:
        read: Gives the next gap bytes, any number of them; none at the end.
    """

    def __init__(self, read: Callable[[], NDArray[np.uint8]]) -> None:
        self._read = read
        self._ahead = np.empty(0, dtype=np.uint8)

    def runs(self, count: int, size: int, name: str) -> Iterator[NDArray[np.int64]]:
        """The positions of the next tensor, in runs of as many as were read at once.

        Args:
            count: Its entries, N.
            size: Its elements.
            name: Its name, for messages.

        Raises:
            FormatError: a position lies outside the tensor, or the bytes end early.
        """
        passed = found = 0
        while found < count:
            block = self._ahead if self._ahead.size else self._read()
            if not block.size:
                raise FormatError(f"tensor {name}: expected {count} entries, found {found}")
            is_end = block != ESCAPE
            ends = np.flatnonzero(is_end)
            is_last = found + ends.size >= count
            used = int(ends[count - found - 1]) + 1 if is_last else block.size
            self._ahead = block[used:]
            reached = np.cumsum(block[:used].astype(np.int64) + is_end[:used])
            reached += passed
            passed = int(reached[-1])
            if passed > size:
                raise FormatError(
                    f"tensor {name}: expected positions below {size}, found gaps up to {passed}"
                )
            positions = reached[is_end[:used]] - 1
            found += positions.size
            yield positions

    @property
    def is_ahead(self) -> bool:
        """Whether bytes were read that no tensor has used."""
        return bool(self._ahead.size)

"""Positions as gap bytes: how many elements are skipped before each entry.

A byte below 255 ends a gap; 255 skips 255 elements and goes on. A gap of 600 is 255, 255, 90.
Positions that repeat or run backwards cannot be written at all. N entries, E escapes.
"""

from collections.abc import Iterable, Iterator

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


def decode_gaps(
    blocks: Iterable[NDArray[np.uint8]], size: int, name: str
) -> Iterator[NDArray[np.int64]]:
    """Positions from gap bytes, block by block.

    Args:
        blocks: The gap bytes of one tensor, cut anywhere.
        size: Elements of the tensor.
        name: The tensor's name, for messages.

    Yields:
        int64, shape (entries that end in the block,).

    Raises:
        FormatError: a position lies outside the tensor, or the last byte is an escape.
    """
    passed = 0
    is_end = np.ones(1, dtype=bool)
    for block in blocks:
        is_end = block != ESCAPE
        reached = np.cumsum(block.astype(np.int64) + is_end)
        reached += passed
        passed = int(reached[-1])
        if passed > size:
            raise FormatError(
                f"tensor {name}: expected positions below {size}, found gaps up to {passed}"
            )
        yield reached[is_end] - 1
    if not is_end[-1]:
        raise FormatError(f"tensor {name}: expected gaps to end in an entry, found an escape")

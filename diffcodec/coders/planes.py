"""Byte planes: the first bytes of many elements together, then the second ones, and so on.

Signs and exponents of neighbouring weights resemble each other, mantissas do not; side by side
zstd compresses the former and leaves the latter. A block is as many elements as a device
handles at once, so that it can stream.
"""

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import CHUNK_ELEMENTS


def to_planes(data: NDArray[np.uint8], itemsize: int) -> NDArray[np.uint8]:
    """Reorder the bytes of a tensor, block by block; the last block may be shorter."""
    block = CHUNK_ELEMENTS * itemsize
    parts = [
        data[at : at + block].reshape(-1, itemsize).T.reshape(-1)
        for at in range(0, data.size, block)
    ]
    return np.concatenate(parts)


def from_planes(block: NDArray[np.uint8], itemsize: int) -> NDArray[np.uint8]:
    """The bytes of one block of elements in their own order."""
    return np.ascontiguousarray(block.reshape(itemsize, -1).T).reshape(-1)

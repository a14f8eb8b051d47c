"""The position hash of hash diffs (neural diff paper, section 3.2): where an element's share lies.

Each tensor and each of its K hash functions has a 64-bit seed of its own; from there on a 32-bit
finaliser over positions is enough, and vectorises. Every generation brings a new seed, so no two
weights collide in all of them. All arithmetic is on unsigned integers and wraps around.
"""

import numpy as np
import xxhash
from numpy.typing import NDArray

MAX_HASHES = 4


def position_buckets(
    name: str, seed: int, k: int, size: int, m: int, start: int = 0
) -> NDArray[np.uint32]:
    """Buckets of the elements start .. start + size - 1 of a tensor under hash function k.

    Args:
        name: The tensor's name.
        seed: The diff's `hash_seed`, 0 <= seed < 2**64.
        k: Which hash function, 0 <= k < 4.
        size: Number of elements, in the flattened C order of the tensor.
        m: Length of the array A, 1 <= m < 2**32.
        start: First element; start + size <= 2**32.

    Returns:
        uint32, shape (size,), values below m.
    """
    tensor_seed = xxhash.xxh3_64_intdigest(f"{name}\0{seed}\0{k}".encode())
    a = np.arange(start, start + size, dtype=np.uint32)
    a *= np.uint32((tensor_seed >> 32) | 1)
    a += np.uint32(tensor_seed & 0xFFFFFFFF)
    a ^= a >> np.uint32(16)
    a *= np.uint32(0x85EBCA6B)
    a ^= a >> np.uint32(13)
    a *= np.uint32(0xC2B2AE35)
    a ^= a >> np.uint32(16)
    # Lemire's fast range: the high half of a 32 x 32 bit product is uniform below m.
    product = a.astype(np.uint64)
    product *= np.uint64(m)
    product >>= np.uint64(32)
    return product.astype(np.uint32)

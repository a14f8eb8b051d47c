"""The float32 arithmetic that encoder and every device must agree on, bit for bit.

One fixed order of single numpy operations: IEEE 754 rounds each of them alike on x86-64 and
aarch64, while a fused multiply-add (as in `torch.add(alpha=)`) rounds once less. No exp, log or
matmul: they differ between machines. Letters: N entries, S elements of a chunk, m length of A.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.hashing import position_buckets

Float32s: TypeAlias = NDArray[np.float32]

# Elements handled at once; also the block of the byte planes in a file. Small enough for a
# device's cache, large enough that numpy's overhead does not show.
CHUNK_ELEMENTS = 131_072


def add_sparse(
    values: Float32s, positions: NDArray[np.int64], levels: NDArray[np.int8], step: float
) -> None:
    """F + level * step at the given positions (paper, section 3.1), in place.

    Args:
        values: float32, shape (S,); the base's, and the result's afterwards.
        positions: int64, shape (N,), distinct, below S.
        levels: int8, shape (N,).
        step: A float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values[positions] = values[positions] + levels.astype(np.float32) * np.float32(step)


def add_hashed(
    values: Float32s,
    levels: NDArray[np.int8],
    step: float,
    hashes: int,
    name: str,
    seed: int,
    start: int = 0,
) -> None:
    """W + |W| * ((A[h0] + A[h1]) + A[h2]) with A = level * step (section 3.2), in place.

    Args:
        values: float32, shape (S,): elements start .. start + S - 1 of the tensor.
        levels: int8, shape (m,).
        step: A float32.
        hashes: Number of hash functions K.
        name: The tensor's name, which seeds its hash functions.
        seed: The diff's `hash_seed`.
        start: Position of values[0] in the tensor.
    """
    m = levels.size
    for at in range(0, values.size, CHUNK_ELEMENTS):
        part = values[at : at + CHUNK_ELEMENTS]
        buckets = (position_buckets(name, seed, k, part.size, m, start + at) for k in range(hashes))
        shares = (hashed_share(levels, step, of_k) for of_k in buckets)
        with np.errstate(over="ignore", invalid="ignore"):
            total = next(shares)
            for share in shares:
                total += share
            total *= np.abs(part)
            part += total


def hashed_share(levels: NDArray[np.int8], step: float, buckets: NDArray[np.uint32]) -> Float32s:
    """A[h] of some elements: float32, shape (S,). Multiplying after the look-up keeps A small."""
    return levels[buckets].astype(np.float32) * np.float32(step)


def xor_bytes(values: NDArray[np.uint8], xor: NDArray[np.uint8]) -> None:
    """New bytes = base bytes XOR xor, in place; any dtype, exactly."""
    np.bitwise_xor(values, xor, out=values)

"""The arithmetic that encoder and every device must agree on, bit for bit.

One fixed order of single float32 operations: IEEE 754 rounds each of them alike on x86-64 and
aarch64, while a fused multiply-add (as in `torch.add(alpha=)`) rounds once less. No exp or log;
the one product of matrices is of whole numbers small enough to be exact in any order. Elements
of other dtypes are widened to float32, changed, and rounded back.
Letters: N entries, S elements of a chunk, m length of A.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import DigestError
from diffcodec.hashing import position_buckets
from diffcodec.parameters import Array, Dtype

Float32s: TypeAlias = NDArray[np.float32]
Levels: TypeAlias = NDArray[np.int8]

# Elements handled at once; also the block of the byte planes in a file. Small enough for a
# device's cache, large enough that numpy's overhead does not show.
CHUNK_ELEMENTS = 131_072
# Exponent bits of a bfloat16; all set means infinity or NaN.
_BFLOAT16_EXPONENT = 0x7F80


def add_at(
    values: Array, dtype: Dtype, positions: NDArray[np.int64], amounts: Float32s, name: str
) -> None:
    """F + G at some positions (paper, section 3.1), in place.

    Args:
        values: The dtype's storage, shape (S,); the base's, and the result's afterwards.
        dtype: Of the tensor.
        positions: int64, shape (N,), distinct, below S.
        amounts: float32, shape (N,).
        name: The tensor's name, for messages.

    Raises:
        DigestError: a result is infinite or NaN, or outside of what the dtype holds.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        values[positions] = narrow(widen(values[positions], dtype) + amounts, dtype, name)


def add_hashed(
    values: Array,
    dtype: Dtype,
    levels: Levels,
    step: float,
    hashes: int,
    name: str,
    seed: int,
    start: int = 0,
) -> None:
    """W + |W| * ((A[h0] + A[h1]) + A[h2]) with A = level * step (section 3.2), in place.

    Args:
        values: The dtype's storage, shape (S,): elements start .. start + S - 1 of the tensor.
        dtype: Of the tensor; not int8.
        levels: int8, shape (m,).
        step: A float32.
        hashes: Number of hash functions K.
        name: The tensor's name, which seeds its hash functions.
        seed: The layer's `hash_seed`.
        start: Position of values[0] in the tensor.

    Raises:
        DigestError: a result is infinite or NaN.
    """
    m = levels.size
    for at in range(0, values.size, CHUNK_ELEMENTS):
        part = values[at : at + CHUNK_ELEMENTS]
        wide = widen(part, dtype)
        buckets = (position_buckets(name, seed, k, part.size, m, start + at) for k in range(hashes))
        shares = (hashed_share(levels, step, of_k) for of_k in buckets)
        with np.errstate(over="ignore", invalid="ignore"):
            total = next(shares)
            for share in shares:
                total += share
            total *= np.abs(wide)
            part[:] = narrow(wide + total, dtype, name)


def hashed_share(levels: Levels, step: float, buckets: NDArray[np.uint32]) -> Float32s:
    """A[h] of some elements: float32, shape (S,). Multiplying after the look-up keeps A small."""
    return levels[buckets].astype(np.float32) * np.float32(step)


def add_low_rank(
    values: Array,
    dtype: Dtype,
    rows: Levels,
    columns: Levels,
    step: float,
    name: str,
    start: int = 0,
) -> None:
    """W + (U V^T) * step in a tensor seen as a matrix, in place.

    The entries of U V^T are whole numbers below 2^24 (at most 1,024 products of at most 127^2),
    which float32 holds exactly, partial sums included: no order of summation can matter.

    Args:
        values: The dtype's storage, shape (S,): elements start .. start + S - 1 of the tensor.
        dtype: Of the tensor; not int8.
        rows: U, int8, shape (rows of the tensor, rank).
        columns: V, int8, shape (columns of the tensor, rank).
        step: A float32.
        name: The tensor's name, for messages.
        start: Position of values[0] in the tensor.

    Raises:
        DigestError: a result is infinite or NaN.
    """
    width = columns.shape[0]
    at = 0
    while at < values.size:
        row, column = divmod(start + at, width)
        if column or values.size - at < width:
            high, size = 1, min(width - column, values.size - at)
        else:
            high = max(1, min(values.size - at, CHUNK_ELEMENTS) // width)
            size = high * width
        left = rows[row : row + high].astype(np.float32)
        right = columns[column : column + size // high].astype(np.float32)
        part = values[at : at + size]
        with np.errstate(over="ignore", invalid="ignore"):
            amounts = (left @ right.T).reshape(-1) * np.float32(step)
            part[:] = narrow(widen(part, dtype) + amounts, dtype, name)
        at += size


def xor_bytes(values: NDArray[np.uint8], xor: NDArray[np.uint8]) -> None:
    """New bytes = base bytes XOR xor, in place; any dtype, exactly."""
    np.bitwise_xor(values, xor, out=values)


def widen(values: Array, dtype: Dtype) -> Float32s:
    """Elements as float32, exactly; shape (S,)."""
    if dtype is Dtype.BFLOAT16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values.astype(np.float32, copy=False)


def narrow(wide: Float32s, dtype: Dtype, name: str) -> Array:
    """Results in the dtype's storage: float16 and bfloat16 rounded to nearest, ties to even.

    Args:
        wide: float32, shape (S,); for int8 whole numbers.
        dtype: Of the tensor.
        name: The tensor's name, for messages.

    Raises:
        DigestError: a result is infinite or NaN, or outside of what the dtype holds.
    """
    narrowed: Array = wide
    is_sound = np.isfinite(wide)
    if dtype is Dtype.FLOAT16:
        narrowed = wide.astype(dtype.storage)
        is_sound = np.isfinite(narrowed)
    elif dtype is Dtype.BFLOAT16:
        narrowed = _rounded_to_bfloat16(wide)
        is_sound = is_sound & ((narrowed & _BFLOAT16_EXPONENT) != _BFLOAT16_EXPONENT)
    elif dtype is Dtype.INT8:
        # Ordered: converting what int8 cannot hold would differ between machines.
        is_sound = (wide >= -128) & (wide <= 127)
        narrowed = np.where(is_sound, wide, 0).astype(np.int8)
    if not is_sound.all():
        wanted = "from -128 to 127" if dtype is Dtype.INT8 else "that are finite"
        raise DigestError(f"tensor {name}: expected results {wanted}, found others")
    return narrowed


def _rounded_to_bfloat16(wide: Float32s) -> NDArray[Any]:
    bits = wide.view(np.uint32)
    is_odd = (bits >> np.uint32(16)) & np.uint32(1)
    return ((bits + (np.uint32(0x7FFF) + is_odd)) >> np.uint32(16)).astype(np.uint16)

"""What one tensor may receive: sparse levels, a hashed array, low-rank factors, or an XOR.

Values only. Each kind knows which tensors it can change (`check`) and how (`change`); the
arithmetic itself is `diffcodec.arithmetic`. Letters: N entries, S elements of a chunk, m length
of A, r rank.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import (
    Float32s,
    Levels,
    add_at,
    add_hashed,
    add_low_rank,
    xor_bytes,
)
from diffcodec.errors import InputError
from diffcodec.hashing import MAX_HASHES
from diffcodec.parameters import Array, Dtype, TensorSpec, as_bytes

# -128 has no positive counterpart; a symmetric range keeps every level's negative.
MAX_LEVEL = 127
# A device holds A, and both factors, whole while it streams the tensor.
MAX_HASH_ARRAY = 2**24
MAX_FACTOR_ENTRIES = 2**22
# 1,024 products of at most 127^2 stay below 2^24: exact in float32.
MAX_RANK = 1024
# The span of int8.
MAX_INT8_STEP = 255
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Uniform:
    """Values at whole multiples of a step: value = level * step.

    Attributes:
        step: Positive, finite, a float32. On int8 tensors a whole number.

    Raises:
        InputError: the step breaks its rule.
    """

    step: float

    def __post_init__(self) -> None:
        _check_magnitude(self.step, "a step")

    def amounts(self, levels: Levels) -> Float32s:
        """What levels stand for: float32, shape (N,)."""
        with np.errstate(over="ignore"):
            return levels.astype(np.float32) * np.float32(self.step)

    def largest(self, levels: Levels) -> int:
        """The K that these levels need."""
        return max(1, int(np.abs(levels).max(initial=1)))


@dataclass(frozen=True)
class Codebook:
    """Values of K magnitudes of the tensor's own: value = sign(level) * magnitudes[|level| - 1].

    Attributes:
        magnitudes: 1 to 127, increasing, each positive, finite, a float32. On int8 tensors
            whole numbers.

    Raises:
        InputError: the magnitudes break their rule.
    """

    magnitudes: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.magnitudes) <= MAX_LEVEL:
            raise InputError(f"expected 1 to {MAX_LEVEL} magnitudes, found {len(self.magnitudes)}")
        for magnitude in self.magnitudes:
            _check_magnitude(magnitude, "a magnitude")
        if any(a >= b for a, b in zip(self.magnitudes, self.magnitudes[1:], strict=False)):
            raise InputError(f"expected increasing magnitudes, found {self.magnitudes}")

    def amounts(self, levels: Levels) -> Float32s:
        """What levels stand for: float32, shape (N,)."""
        return self._table[levels.astype(np.int64) + len(self.magnitudes)]

    def largest(self, levels: Levels) -> int:
        """K, whichever levels occur."""
        return len(self.magnitudes)

    @cached_property
    def _table(self) -> Float32s:
        upper = np.array(self.magnitudes, dtype=np.float32)
        return np.concatenate([-upper[::-1], np.zeros(1, np.float32), upper])


Scale: TypeAlias = Uniform | Codebook


class _ComparedByValue:
    """Equality of dataclasses that hold arrays."""

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return False
        mine, theirs = vars(self), vars(other)
        return all(np.array_equal(mine[key], theirs[key]) for key in mine)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class SparseDiff(_ComparedByValue):
    """F + G at some positions of a tensor (paper, section 3.1).

    Attributes:
        positions: int64, shape (N,), strictly increasing, in the flattened tensor; N >= 1.
        levels: int8, shape (N,), each -K..-1 or 1..K.
        scale: What a level stands for.

    Raises:
        InputError: a field breaks its rule.
    """

    positions: NDArray[np.int64]
    levels: Levels
    scale: Scale

    def __post_init__(self) -> None:
        positions = _frozen(self.positions, np.int64, 1, "positions")
        levels = _frozen(self.levels, np.int8, 1, "levels")
        if not 1 <= positions.size == levels.size:
            raise InputError(
                f"expected as many positions as levels, and at least one, found "
                f"{positions.size} and {levels.size}"
            )
        if positions[0] < 0 or (np.diff(positions) <= 0).any():
            raise InputError("expected strictly increasing positions from 0 on")
        longest = len(self.scale.magnitudes) if isinstance(self.scale, Codebook) else MAX_LEVEL
        found = np.abs(levels.astype(np.int16))
        if not 1 <= found.min() <= found.max() <= longest:
            raise InputError(
                f"expected levels of magnitude 1 to {longest}, found {found.min()} to {found.max()}"
            )
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "levels", levels)

    @property
    def largest(self) -> int:
        """K: the largest magnitude that a level may have in the file."""
        return self.scale.largest(self.levels)

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: a position lies outside, or the scale does not suit int8.
        """
        if self.positions[-1] >= spec.size:
            raise InputError(
                f"tensor {spec.name}: expected positions below {spec.size}, "
                f"found {self.positions[-1]}"
            )
        reason = why_unsuited(self.scale, self.largest, spec)
        if reason:
            raise InputError(reason)

    def change(self, values: Array, spec: TensorSpec, hash_seed: int) -> None:
        """Turn the base's elements, the whole tensor's, shape (S,), into the result's."""
        add_at(values, spec.dtype, self.positions, self.scale.amounts(self.levels), spec.name)


@dataclass(frozen=True, eq=False)
class HashDiff(_ComparedByValue):
    """W + |W| * ((A[h0] + A[h1]) + A[h2]) for a tensor of floats (paper, section 3.2).

    Attributes:
        levels: int8, shape (m,), each -127..127; A = level * step. 1 <= m <= the tensor's size.
        step: Positive, finite, a float32.
        hashes: Number of hash functions K, 1 to 4.

    Raises:
        InputError: a field breaks its rule.
    """

    levels: Levels
    step: float
    hashes: int

    def __post_init__(self) -> None:
        levels = _frozen(self.levels, np.int8, 1, "levels")
        if not 1 <= levels.size <= MAX_HASH_ARRAY:
            raise InputError(f"expected 1 to {MAX_HASH_ARRAY} levels, found {levels.size}")
        _check_range(levels)
        if not 1 <= self.hashes <= MAX_HASHES:
            raise InputError(f"expected 1 to {MAX_HASHES} hashes, found {self.hashes}")
        _check_magnitude(self.step, "a step")
        object.__setattr__(self, "levels", levels)

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: the tensor is of int8, or A is longer than it.
        """
        require_floats(spec)
        if self.levels.size > spec.size:
            raise InputError(
                f"tensor {spec.name}: expected at most {spec.size} levels, found {self.levels.size}"
            )

    def change(self, values: Array, spec: TensorSpec, hash_seed: int) -> None:
        """Turn the base's elements, the whole tensor's, shape (S,), into the result's."""
        add_hashed(values, spec.dtype, self.levels, self.step, self.hashes, spec.name, hash_seed)


@dataclass(frozen=True, eq=False)
class LowRankDiff(_ComparedByValue):
    """W + (U V^T) * step for a tensor of floats seen as a matrix (`TensorSpec.matrix`).

    Attributes:
        rows: U, int8, shape (rows, r), each -127..127.
        columns: V, int8, shape (columns, r), each -127..127.
        step: Positive, finite, a float32.

    Raises:
        InputError: a field breaks its rule, or the factors are too large for a device to hold.
    """

    rows: Levels
    columns: Levels
    step: float

    def __post_init__(self) -> None:
        rows = _frozen(self.rows, np.int8, 2, "rows")
        columns = _frozen(self.columns, np.int8, 2, "columns")
        reason = why_no_rank(rows.shape[0], columns.shape[0], rows.shape[1])
        if rows.shape[1] != columns.shape[1]:
            reason = f"expected factors of one rank, found {rows.shape[1]} and {columns.shape[1]}"
        if reason:
            raise InputError(reason)
        _check_range(rows)
        _check_range(columns)
        _check_magnitude(self.step, "a step")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "columns", columns)

    @property
    def rank(self) -> int:
        """R."""
        return int(self.rows.shape[1])

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: the tensor is of int8, or a matrix of another shape.
        """
        require_floats(spec)
        found = (self.rows.shape[0], self.columns.shape[0])
        if found != spec.matrix:
            raise InputError(
                f"tensor {spec.name}: expected factors for a matrix of {spec.matrix}, found {found}"
            )

    def change(self, values: Array, spec: TensorSpec, hash_seed: int) -> None:
        """Turn the base's elements, the whole tensor's, shape (S,), into the result's."""
        add_low_rank(values, spec.dtype, self.rows, self.columns, self.step, spec.name)


@dataclass(frozen=True, eq=False)
class LosslessDiff(_ComparedByValue):
    """New bytes = base bytes XOR `xor`, for any dtype.

    Attributes:
        xor: uint8, shape (bytes of the tensor,), at least one.

    Raises:
        InputError: xor is empty or not a vector of bytes.
    """

    xor: NDArray[np.uint8]

    def __post_init__(self) -> None:
        xor = _frozen(self.xor, np.uint8, 1, "xor")
        if not xor.size:
            raise InputError("expected at least one byte of xor, found none")
        object.__setattr__(self, "xor", xor)

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: the tensor has another number of bytes.
        """
        if self.xor.size != spec.nbytes:
            raise InputError(
                f"tensor {spec.name}: expected {spec.nbytes} bytes of xor, found {self.xor.size}"
            )

    def change(self, values: Array, spec: TensorSpec, hash_seed: int) -> None:
        """Turn the base's elements, the whole tensor's, shape (S,), into the result's."""
        xor_bytes(as_bytes(values), self.xor)


def array_entries(change: "TensorDiff") -> int:
    """Levels that a device holds while it streams the tensor: those of A, or of both factors."""
    if isinstance(change, HashDiff):
        return change.levels.size
    return change.rows.size + change.columns.size if isinstance(change, LowRankDiff) else 0


TensorDiff: TypeAlias = SparseDiff | HashDiff | LowRankDiff | LosslessDiff


def magnitudes(scale: Scale) -> tuple[float, ...]:
    """The numbers that make a scale: one step, or K magnitudes."""
    return scale.magnitudes if isinstance(scale, Codebook) else (scale.step,)


def why_unsuited(scale: Scale, largest: int, spec: TensorSpec) -> str | None:
    """Why a scale cannot be used on a tensor; None: it can.

    int8 tensors move on their own grid of whole numbers, so theirs must be whole.
    """
    if spec.dtype is not Dtype.INT8:
        return None
    used = scale.magnitudes if isinstance(scale, Codebook) else (scale.step, scale.step * largest)
    for magnitude in used:
        if not magnitude.is_integer() or magnitude > MAX_INT8_STEP:
            return (
                f"tensor {spec.name}: expected whole numbers up to {MAX_INT8_STEP} to change "
                f"int8, found {magnitude}"
            )
    return None


def why_no_rank(rows: int, columns: int, rank: int) -> str | None:
    """Why a matrix cannot receive factors of a rank; None: it can."""
    longest = min(MAX_RANK, rows, columns)
    if not 1 <= rank <= longest:
        return f"expected a rank of 1 to {longest}, found {rank}"
    if (rows + columns) * rank > MAX_FACTOR_ENTRIES:
        return (
            f"expected factors of at most {MAX_FACTOR_ENTRIES} entries, "
            f"found {(rows + columns) * rank}"
        )
    return None


def require_floats(spec: TensorSpec) -> None:
    """Refuse a tensor that is not made of floats.

    Raises:
        InputError: naming it.
    """
    if spec.dtype is Dtype.INT8:
        raise InputError(
            f"tensor {spec.name}: expected floats for a hash or low-rank diff, found int8"
        )


def _check_range(levels: Levels) -> None:
    if levels.size and levels.min() < -MAX_LEVEL:
        raise InputError(f"expected levels of magnitude up to {MAX_LEVEL}, found {levels.min()}")


def _check_magnitude(magnitude: float, what: str) -> None:
    if not 0 < magnitude <= FLOAT32_MAX or float(np.float32(magnitude)) != magnitude:
        raise InputError(f"expected {what} that is a positive finite float32, found {magnitude!r}")


def _frozen(array: Array, dtype: type, dimensions: int, what: str) -> Any:
    if array.ndim != dimensions or array.dtype != dtype:
        kind = "vector" if dimensions == 1 else "matrix"
        raise InputError(
            f"expected {what} as a {kind} of {np.dtype(dtype).name}, found {array.dtype.name} "
            f"of shape {list(array.shape)}"
        )
    frozen = np.ascontiguousarray(array)
    frozen = frozen.view() if frozen is array else frozen
    frozen.flags.writeable = False
    return frozen

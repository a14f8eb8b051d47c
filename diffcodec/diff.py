"""What a diff is, and what applying one means.

A diff names its base by digest and gives each tensor that changes one of three things: sparse
levels, an array shared by a hash of the position, or the XOR of the bytes. Values only: bytes
and files are the business of `diffcodec.file`.

Laws:
    decode(encode(d, base)).diff == d
    apply(base, lossless_diff(base, new)) == new
    apply(base, d) leaves base as it is
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import add_hashed, add_sparse, xor_bytes
from diffcodec.coders.levels import MAX_LEVEL
from diffcodec.errors import DigestError, InputError, WrongBaseError
from diffcodec.hashing import MAX_HASHES
from diffcodec.parameters import DIGEST_BYTES, Array, Dtype, Layout, ParameterSet, TensorSpec

# A device holds A whole while it streams the tensor.
MAX_HASH_ARRAY = 2**24
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class SparseDiff:
    """F + level * step at some positions of a float32 tensor (paper, section 3.1).

    Attributes:
        positions: int64, shape (N,), strictly increasing, in the flattened tensor; N >= 1.
        levels: int8, shape (N,), each -127..-1 or 1..127.
        step: Positive, finite, a float32.

    Raises:
        InputError: a field breaks its rule.
    """

    positions: NDArray[np.int64]
    levels: NDArray[np.int8]
    step: float

    def __post_init__(self) -> None:
        positions = _vector(self.positions, np.int64, "positions")
        levels = _vector(self.levels, np.int8, "levels")
        if not 1 <= positions.size == levels.size:
            raise InputError(
                f"expected as many positions as levels, and at least one, found "
                f"{positions.size} and {levels.size}"
            )
        if positions[0] < 0 or (np.diff(positions) <= 0).any():
            raise InputError("expected strictly increasing positions from 0 on")
        if levels.min() < -MAX_LEVEL or not levels.all():
            raise InputError(f"expected levels of magnitude 1 to {MAX_LEVEL}")
        _check_step(self.step)
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "levels", levels)

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: the dtype is not float32, or a position lies outside.
        """
        _require_float32(spec)
        if self.positions[-1] >= spec.size:
            raise InputError(
                f"tensor {spec.name}: expected positions below {spec.size}, "
                f"found {self.positions[-1]}"
            )

    def change(self, values: Array, name: str, hash_seed: int) -> None:
        """Turn the base's elements, shape (P,), into the result's."""
        add_sparse(values, self.positions, self.levels, self.step)


@dataclass(frozen=True, eq=False)
class HashDiff:
    """W + |W| * ((A[h0] + A[h1]) + A[h2]) for a float32 tensor (paper, section 3.2).

    Attributes:
        levels: int8, shape (m,), each -127..127; A = level * step. 1 <= m <= the tensor's size.
        step: Positive, finite, a float32.
        hashes: Number of hash functions K, 1 to 4.

    Raises:
        InputError: a field breaks its rule.
    """

    levels: NDArray[np.int8]
    step: float
    hashes: int

    def __post_init__(self) -> None:
        levels = _vector(self.levels, np.int8, "levels")
        if not 1 <= levels.size <= MAX_HASH_ARRAY:
            raise InputError(f"expected 1 to {MAX_HASH_ARRAY} levels, found {levels.size}")
        if levels.min() < -MAX_LEVEL:
            raise InputError(f"expected levels of magnitude up to {MAX_LEVEL}")
        if not 1 <= self.hashes <= MAX_HASHES:
            raise InputError(f"expected 1 to {MAX_HASHES} hashes, found {self.hashes}")
        _check_step(self.step)
        object.__setattr__(self, "levels", levels)

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: the dtype is not float32, or A is longer than the tensor.
        """
        _require_float32(spec)
        if self.levels.size > spec.size:
            raise InputError(
                f"tensor {spec.name}: expected at most {spec.size} levels, found {self.levels.size}"
            )

    def change(self, values: Array, name: str, hash_seed: int) -> None:
        """Turn the base's elements, shape (P,), into the result's."""
        add_hashed(values, self.levels, self.step, self.hashes, name, hash_seed)


@dataclass(frozen=True, eq=False)
class LosslessDiff:
    """New bytes = base bytes XOR `xor`, for any dtype.

    Attributes:
        xor: uint8, shape (bytes of the tensor,), at least one.

    Raises:
        InputError: xor is empty or not a vector of bytes.
    """

    xor: NDArray[np.uint8]

    def __post_init__(self) -> None:
        xor = _vector(self.xor, np.uint8, "xor")
        if not xor.size:
            raise InputError("expected at least one byte of xor, found none")
        object.__setattr__(self, "xor", xor)

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    __hash__ = None  # type: ignore[assignment]

    def check(self, spec: TensorSpec) -> None:
        """Refuse a tensor that this cannot change.

        Raises:
            InputError: the tensor has another number of bytes.
        """
        if self.xor.size != spec.nbytes:
            raise InputError(
                f"tensor {spec.name}: expected {spec.nbytes} bytes of xor, found {self.xor.size}"
            )

    def change(self, values: Array, name: str, hash_seed: int) -> None:
        """Turn the base's elements, shape (P,), into the result's."""
        xor_bytes(values.view(np.uint8), self.xor)


TensorDiff: TypeAlias = SparseDiff | HashDiff | LosslessDiff


@dataclass(frozen=True)
class Diff:
    """What turns one set of parameters into another.

    Attributes:
        layout: Of the base and of the result.
        base_digest: `ParameterSet.digest` of the base; None for a snapshot, whose base is zeros.
        tensors: What changes, by name. A tensor that is absent stays as it is.
        hash_seed: Seeds the position hashes, 0 <= seed < 2**64; a new one each generation.

    Raises:
        InputError: a tensor is not in the layout, or its change does not fit it.
    """

    layout: Layout
    base_digest: bytes | None
    tensors: Mapping[str, TensorDiff] = field(default_factory=dict)
    hash_seed: int = 0

    def __post_init__(self) -> None:
        if self.base_digest is not None and len(self.base_digest) != DIGEST_BYTES:
            raise InputError(f"expected a base digest of 32 bytes, found {len(self.base_digest)}")
        if not 0 <= self.hash_seed < 2**64:
            raise InputError(f"expected a hash seed of 64 bits, found {self.hash_seed}")
        for name, change in self.tensors.items():
            if name not in self.layout.index:
                raise InputError(f"tensor {name}: not in the layout of the diff")
            change.check(self.layout.index[name])

    @property
    def nonzeros(self) -> int:
        """Entries of all sparse tensors together."""
        sparse = (c for c in self.tensors.values() if isinstance(c, SparseDiff))
        return sum(c.positions.size for c in sparse)


@dataclass(frozen=True)
class DecodedDiff:
    """A diff as a file states it.

    Attributes:
        diff: What changes.
        target_digest: Digest that the result must have, 32 bytes.
    """

    diff: Diff
    target_digest: bytes


def apply(base: ParameterSet | None, diff: Diff | DecodedDiff) -> ParameterSet:
    """Rebuild the parameters that a diff leads to. The base stays as it is.

    Args:
        base: What the diff was made for; ignored by a snapshot, which stands alone.
        diff: With a `DecodedDiff` the result's digest is checked too.

    Raises:
        WrongBaseError: the base's digest is not the one that the diff names.
        LayoutError: the base has another layout.
        DigestError: the result is not what the file promised, or holds infinities or NaN.
    """
    if isinstance(diff, DecodedDiff):
        result = apply(base, diff.diff)
        if result.digest() != diff.target_digest:
            raise DigestError(
                f"expected weights with digest {diff.target_digest.hex()}, "
                f"rebuilt {result.digest().hex()}"
            )
        return result
    start = _base_of(base, diff)
    arrays = dict(start.arrays)
    for name, change in diff.tensors.items():
        arrays[name] = _changed(arrays[name], name, change, diff.hash_seed)
    return ParameterSet(diff.layout, arrays)


def _base_of(base: ParameterSet | None, diff: Diff) -> ParameterSet:
    if diff.base_digest is None:
        return ParameterSet.zeros(diff.layout)
    if base is None:
        raise WrongBaseError(f"expected a base with digest {diff.base_digest.hex()}, found none")
    diff.layout.require(base.layout, "the diff", "the base")
    if base.digest() != diff.base_digest:
        raise WrongBaseError(
            f"expected a base with digest {diff.base_digest.hex()}, found {base.digest().hex()}"
        )
    return base


def _changed(array: Array, name: str, change: TensorDiff, hash_seed: int) -> Array:
    values = array.reshape(-1).copy()
    change.change(values, name, hash_seed)
    # XOR is exact whatever the bytes mean; arithmetic is not where NaN payloads come in.
    if not isinstance(change, LosslessDiff):
        require_finite(values, name)
    values.flags.writeable = False
    return values.reshape(array.shape)


def require_finite(values: Array, name: str) -> None:
    """Refuse infinities and NaN.

    Raises:
        DigestError: naming the tensor.
    """
    if not np.isfinite(values).all():
        raise DigestError(f"tensor {name}: expected finite results, found infinity or NaN")


def _vector(array: Array, dtype: type, what: str) -> Any:
    if array.ndim != 1 or array.dtype != dtype:
        raise InputError(
            f"expected {what} as a vector of {np.dtype(dtype).name}, found {array.dtype.name} "
            f"of shape {list(array.shape)}"
        )
    frozen = np.ascontiguousarray(array)
    frozen = frozen.view() if frozen is array else frozen
    frozen.flags.writeable = False
    return frozen


def _check_step(step: float) -> None:
    if not 0 < step <= FLOAT32_MAX or float(np.float32(step)) != step:
        raise InputError(f"expected a step that is a positive finite float32, found {step!r}")


def _require_float32(spec: TensorSpec) -> None:
    if spec.dtype is not Dtype.FLOAT32:
        raise InputError(
            f"tensor {spec.name}: expected float32 for levels, found {spec.dtype}; "
            f"a lossless diff takes any dtype"
        )


def _same(mine: Any, other: object) -> bool:
    if type(mine) is not type(other):
        return False
    return all(np.array_equal(value, vars(other)[key]) for key, value in vars(mine).items())

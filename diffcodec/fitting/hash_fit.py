"""Hash diffs from deltas or trained arrays (neural diff paper, section 3.2).

W_new ~ W + |W| * (A[h0] + ... + A[hK-1]): given a delta, A is a linear least-squares problem of
P equations in m unknowns with K non-zeros a row, solved by conjugate gradients on its normal
equations. Training finds better arrays than any delta holds; both are quantised here.
Letters: P elements of a tensor, m length of its array A, K hash functions.
"""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import widen
from diffcodec.changes import MAX_HASH_ARRAY, HashDiff, require_floats
from diffcodec.diff import Diff
from diffcodec.errors import InputError
from diffcodec.fitting.quantise import (
    as_step,
    quantise_with_zero,
)
from diffcodec.fitting.selection import differences
from diffcodec.hashing import position_buckets
from diffcodec.parameters import Dtype, Layout, ParameterSet

# Convergence needs few steps: columns of the random matrix are nearly orthogonal.
ITERATIONS = 15
TOLERANCE = 1e-4

Arrays: TypeAlias = Mapping[str, NDArray[np.float32]]


def array_lengths(layout: Layout, ratio: float) -> dict[str, int]:
    """Length of A for each tensor of floats: its share of the parameters, at least 1.

    Args:
        layout: Of the model.
        ratio: m / P, above 0, at most 1.

    Raises:
        InputError: the ratio is out of range.
    """
    if not 0 < ratio <= 1:
        raise InputError(
            f"expected a ratio of array length to tensor size in (0, 1], found {ratio}"
        )
    return {
        spec.name: min(max(1, int(spec.size * ratio)), MAX_HASH_ARRAY)
        for spec in layout.tensors
        if spec.dtype is not Dtype.INT8 and spec.size
    }


def fit_arrays(
    base: ParameterSet, new: ParameterSet, lengths: Mapping[str, int], hashes: int, seed: int
) -> dict[str, NDArray[np.float32]]:
    """The array A of every tensor that differs, by least squares: float32, shape (m,).

    Args:
        base: Of floats where it differs from new.
        new: What to come near to.
        lengths: m by tensor.
        hashes: Number of hash functions, 1 to 4.
        seed: The diff's hash seed.

    Raises:
        InputError: a tensor that differs is of int8, or differs by infinity or NaN.
        LayoutError: base and new have different layouts.
    """
    base.layout.require(new.layout, "the base", "the new weights")
    arrays = {}
    for name, delta in differences(base, new).items():
        spec = base.layout.index[name]
        require_floats(spec)
        magnitudes = np.abs(widen(base.arrays[name].reshape(-1), spec.dtype)).astype(np.float64)
        m = lengths[name]
        buckets = [position_buckets(name, seed, k, delta.size, m) for k in range(hashes)]
        arrays[name] = _least_squares(delta.reshape(-1), magnitudes, buckets, m)
    return arrays


def quantise_arrays(
    base: ParameterSet, arrays: Arrays, hashes: int, seed: int, coarseness: float
) -> Diff:
    """Quantise arrays with one signal-to-noise ratio for all tensors.

    Args:
        base: What the diff is for.
        arrays: A by tensor, finite, shape (m,).
        hashes: Number of hash functions they were made for.
        seed: The diff's hash seed they were made for.
        coarseness: Step over the root mean square of A. Levels end at 127.

    Raises:
        InputError: an array is infinite or NaN somewhere, or does not fit its tensor.
    """
    changes = {}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise InputError(f"tensor {name}: expected a finite array A, found infinity or NaN")
        scale = float(np.sqrt(np.square(array.astype(np.float64)).mean()))
        if scale == 0:
            continue
        step = as_step(coarseness * scale)
        levels = quantise_with_zero(array, step)
        if levels.any():
            changes[name] = HashDiff(levels, step, hashes)
    return Diff.of(base.layout, base.digest(), changes, seed)


def _least_squares(
    delta: NDArray[np.float32],
    magnitudes: NDArray[np.float64],
    buckets: list[NDArray[np.uint32]],
    m: int,
) -> NDArray[np.float32]:
    """Minimise || delta - |W| * sum_k A[h_k] || over A by conjugate gradients."""

    def spread(array: NDArray[np.float64]) -> NDArray[np.float64]:
        shares = array[buckets[0]]
        for of_k in buckets[1:]:
            shares += array[of_k]
        return shares * magnitudes

    def gather(errors: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = errors * magnitudes
        sums = np.zeros(m)
        for of_k in buckets:
            sums += np.bincount(of_k, weights=scaled, minlength=m)
        return sums

    array = np.zeros(m)
    errors = delta.astype(np.float64)
    gradient = gather(errors)
    direction = gradient.copy()
    power = start = float(np.square(gradient).sum())
    for _ in range(ITERATIONS):
        if power <= TOLERANCE**2 * start:
            break
        change = spread(direction)
        length = power / float(np.square(change).sum())
        array += length * direction
        errors -= length * change
        gradient = gather(errors)
        before, power = power, float(np.square(gradient).sum())
        direction = gradient + (power / before) * direction
    return array.astype(np.float32)

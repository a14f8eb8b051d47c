"""Values to levels, where it is known which entries travel and how many levels there are.

Two scales: equal steps (`quantise`, for many levels) and a codebook of the magnitudes that occur
(`quantise_freely`, for few: with K = 2 nearly nothing is lost of a trained diff). A kept non-zero
never becomes zero: which entries travel was decided before, and dropping one would save its
position too. Fits to a budget decide all of it together (`diffcodec.fitting.tradeoff`). Computed
in float64; only the result, levels and float32 magnitudes, matters to a device.
Letters: N values of one tensor, K levels.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.changes import (
    FLOAT32_MAX,
    MAX_INT8_STEP,
    MAX_LEVEL,
    Codebook,
    Scale,
    SparseDiff,
    Uniform,
    magnitudes,
)
from diffcodec.diff import Diff
from diffcodec.errors import InputError, LayoutError
from diffcodec.fitting.entries import Deltas, Entries
from diffcodec.fitting.magnitudes import SMALLEST, centroids, shortened
from diffcodec.parameters import Dtype, ParameterSet

# 5 bits an entry with its sign: half a level is 3 % of a tensor's largest delta.
DEFAULT_LEVELS = 15
# Up to here magnitudes of a tensor's own pay for their bytes.
LARGEST_CODEBOOK = 8
# A tensor has a magnitude of its own for every so many entries: two bytes for some of them.
ENTRIES_A_MAGNITUDE = 8
# First guesses of the step, as shares of the largest magnitude / K. At 1 nothing is clipped;
# lower ones serve a bulk of small values at the cost of the few largest. With many levels that
# only trades bytes for error at the going rate, and fewer bytes are what was asked for.
STEP_SHARES = tuple(np.geomspace(0.2, 1.0, 9))
MANY_LEVELS = 8
REFINEMENTS = 5
# Guesses are compared on this many values; more change the choice hardly ever.
SAMPLE_SIZE = 32_768
# A byte of a magnitude is worth this share of the squared error.
BYTE_WORTH = 1e-3

Levels: TypeAlias = NDArray[np.int8]
Floats: TypeAlias = NDArray[np.floating[Any]]


def sparse_diff(
    base: ParameterSet,
    deltas: Deltas,
    levels: int = DEFAULT_LEVELS,
    keep: Mapping[str, NDArray[np.bool_]] | None = None,
    codebook: bool | None = None,
) -> Diff:
    """Quantise float32 deltas into a sparse diff; each tensor gets a scale of its own.

    Args:
        base: What the deltas are added to.
        deltas: new - base by tensor, float32, of the tensors' shapes. Absent: unchanged.
        levels: K, 1 to 127.
        keep: Which entries may travel, by tensor, of the tensors' shapes. None, or an absent
            tensor: all. Zeros never travel.
        codebook: Whether levels stand for magnitudes of the tensor's own, or for equal steps.
            None: the former up to K = 8.

    Raises:
        InputError: K is out of range, or a delta is infinite or NaN.
        LayoutError: the base has no such tensor, or one of another shape.
    """
    require_levels(levels)
    changes = {}
    for name, delta in deltas.items():
        flat = require_delta(base, name, delta).reshape(-1)
        is_kept = flat != 0
        if keep is not None and name in keep:
            is_kept &= keep[name].reshape(-1)
        entries = Entries.of(base, name, flat, np.flatnonzero(is_kept))
        change = sparse_change(entries, levels, codebook) if entries.positions.size else None
        if change is not None:
            changes[name] = change
    return Diff.of(base.layout, base.digest(), changes)


def sparse_change(entries: Entries, levels: int, codebook: bool | None = None) -> SparseDiff | None:
    """Quantise the entries of one tensor; None: nothing that levels can say is left.

    Args:
        entries: N of them, all of which travel.
        levels: K, 1 to 127.
        codebook: As for `sparse_diff`.
    """
    if codebook is None:
        codebook = levels <= LARGEST_CODEBOOK
    make = quantise_freely if codebook else quantise
    coded, scale = make(entries.values, levels)
    if entries.spec.dtype is Dtype.INT8:
        coded, scale = _on_whole_grid(entries.values, scale, levels)
    coded = _kept_sound(entries, coded, scale, levels)
    here = np.flatnonzero(coded)
    return SparseDiff(entries.positions[here], coded[here], scale) if here.size else None


def quantise(values: Floats, levels: int) -> tuple[Levels, Scale]:
    """Levels and step of least squared error, as far as a few refinements find them.

    Args:
        values: Finite and non-zero, shape (N,), N >= 1.
        levels: K, 1 to 127.

    Returns:
        int8, shape (N,), each -K..-1 or 1..K; and a `Uniform`.
    """
    magnitudes = np.abs(values.astype(np.float64))
    sample = magnitudes[:: -(-magnitudes.size // SAMPLE_SIZE)]
    largest = float(magnitudes.max()) / levels
    shares = (1.0,) if levels >= MANY_LEVELS else STEP_SHARES
    guesses = [_refine(sample, levels, largest * share) for share in shares]
    step = min(guesses, key=lambda guess: _squared_error(sample, levels, guess))
    step = _refine(magnitudes, levels, step)
    nearest = _nearest(magnitudes, levels, step)
    price = BYTE_WORTH / 8 * float(np.square(magnitudes - nearest * step).sum())
    curvature = np.square(nearest).sum(keepdims=True)
    step = float(shortened(np.array([step]), curvature, price)[0])
    return _signed(_nearest(magnitudes, levels, step), values), Uniform(step)


def quantise_freely(values: Floats, levels: int) -> tuple[Levels, Scale]:
    """Levels and magnitudes of least squared error: K-means of the magnitudes (Lloyd 1982).

    Args:
        values: Finite and non-zero, shape (N,), N >= 1.
        levels: K, 1 to 127; few values get fewer magnitudes.

    Returns:
        int8, shape (N,), none zero; and a `Codebook`.
    """
    magnitudes = np.abs(values.astype(np.float64))
    count = min(levels, max(1, magnitudes.size // ENTRIES_A_MAGNITUDE))
    best = centroids(magnitudes, None, count)
    nearest = nearest_magnitudes(magnitudes, best)
    price = BYTE_WORTH / 8 * float(np.square(magnitudes - best[nearest]).sum())
    best = np.unique(shortened(best, np.bincount(nearest, minlength=best.size), price))
    nearest = nearest_magnitudes(magnitudes, best)
    return _signed(nearest + 1.0, values), Codebook(tuple(map(float, best)))


def quantise_with_zero(values: Floats, step: float, levels: int = MAX_LEVEL) -> Levels:
    """The nearest level of each value, zero allowed: int8, shape (N,)."""
    nearest: Floats = np.clip(np.rint(values / step), -levels, levels)
    return nearest.astype(np.int8)


def nearest_magnitudes(magnitudes: Floats, table: Floats) -> NDArray[np.int64]:
    """Index of the entry of an increasing table that is nearest to each: shape (N,)."""
    return np.searchsorted(table[:-1] + np.diff(table) / 2, magnitudes)


def as_step(step: float) -> float:
    """The positive finite float32 nearest to a step."""
    return float(np.float32(min(max(step, SMALLEST), FLOAT32_MAX)))


def require_levels(levels: int) -> None:
    """Refuse a K outside 1 to 127.

    Raises:
        InputError: saying so.
    """
    if not 1 <= levels <= MAX_LEVEL:
        raise InputError(f"expected 1 to {MAX_LEVEL} levels, found {levels}")


def require_delta(base: ParameterSet, name: str, delta: NDArray[Any]) -> NDArray[np.float32]:
    """Refuse a delta that cannot be quantised.

    Raises:
        InputError: it is infinite or NaN somewhere.
        LayoutError: the base has no such tensor, or one of another shape.
    """
    spec = base.layout.index.get(name)
    if spec is None or spec.shape != delta.shape:
        raise LayoutError(
            f"tensor {name}: the base has {spec or 'no such tensor'}, the delta has shape "
            f"{list(delta.shape)}"
        )
    if not np.isfinite(delta).all():
        raise InputError(f"tensor {name}: expected finite deltas, found infinity or NaN")
    return delta.astype(np.float32, copy=False)


def _on_whole_grid(values: Floats, scale: Scale, levels: int) -> tuple[Levels, Scale]:
    """Whole numbers instead of a scale's, and the levels nearest to values."""
    sizes = np.abs(values)
    if isinstance(scale, Uniform):
        # As fine as K levels allow: a step of 1 reproduces the weights.
        step = max(1.0, float(np.rint(scale.step))) if sizes.max() > levels else 1.0
        nearest = _nearest(sizes, min(levels, int(MAX_INT8_STEP // step)), step)
        return _signed(nearest, values), Uniform(step)
    table = np.unique(np.clip(np.rint(scale.magnitudes), 1, MAX_INT8_STEP))
    nearest = nearest_magnitudes(sizes, table) + 1.0
    return _signed(nearest, values), Codebook(tuple(map(float, table)))


def _kept_sound(entries: Entries, coded: Levels, scale: Scale, levels: int) -> Levels:
    """Lower levels for entries whose result would leave what the dtype holds.

    Between base and new weights every result is sound, so these get the next magnitude below
    the value; there may be none, and the entry is 0.
    """
    is_sound = entries.is_sound(scale.amounts(coded))
    if is_sound.all():
        return coded
    steps = np.arange(1, levels + 1) * magnitudes(scale)[0]
    table = steps if isinstance(scale, Uniform) else np.array(scale.magnitudes)
    below = np.searchsorted(table, np.abs(entries.values), side="right").astype(np.float64)
    return np.where(is_sound, coded, _signed(below, entries.values)).astype(np.int8)


def _refine(magnitudes: Floats, levels: int, step: float) -> float:
    """Lloyd's alternation: nearest levels for a step, best step for the levels."""
    for _ in range(REFINEMENTS):
        step = _best_step(magnitudes, _nearest(magnitudes, levels, step), step)
    return step


def _nearest(magnitudes: Floats, levels: int, step: float) -> Floats:
    nearest: Floats = np.rint(magnitudes / step)
    np.clip(nearest, 1, levels, out=nearest)
    return nearest


def _best_step(magnitudes: Floats, nearest: Floats, step: float) -> float:
    # Sums by pairwise addition, not by dot: BLAS may add in another order on another machine.
    best = float((magnitudes * nearest).sum() / (nearest * nearest).sum())
    return best or step


def _squared_error(magnitudes: Floats, levels: int, step: float) -> float:
    return float(np.square(magnitudes - _nearest(magnitudes, levels, step) * step).sum())


def _signed(nearest: Floats, values: Floats) -> Levels:
    return np.copysign(nearest, values).astype(np.int8)

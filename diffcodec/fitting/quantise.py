"""Values to levels: level * step per tensor, K positive and K negative levels.

A kept non-zero of a sparse diff never becomes zero: which entries travel was decided before (by
training, or by magnitude), and dropping one would save its position too. The step is the one of
least squares for the levels. Computed in float64; only the result, levels and a float32 step,
matters to a device. Letters: N values of one tensor.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.changes import FLOAT32_MAX, MAX_LEVEL, Scale, SparseDiff, Uniform
from diffcodec.diff import Diff
from diffcodec.errors import InputError, LayoutError
from diffcodec.parameters import Dtype, ParameterSet, TensorSpec

# 5 bits an entry with its sign: half a level is 3 % of a tensor's largest delta.
DEFAULT_LEVELS = 15
# First guesses of the step, as shares of the largest magnitude / K. At 1 nothing is clipped;
# lower ones serve a bulk of small values at the cost of the few largest. With many levels that
# only trades bytes for error at the going rate, and fewer bytes are what was asked for.
STEP_SHARES = tuple(np.geomspace(0.2, 1.0, 9))
MANY_LEVELS = 8
REFINEMENTS = 5
# Guesses are compared on this many values; more change the choice hardly ever.
SAMPLE_SIZE = 32_768
SMALLEST_STEP = float(np.finfo(np.float32).smallest_subnormal)

Deltas: TypeAlias = Mapping[str, NDArray[np.float32]]
Levels: TypeAlias = NDArray[np.int8]
Floats: TypeAlias = NDArray[np.floating[Any]]


def sparse_diff(
    base: ParameterSet,
    deltas: Deltas,
    levels: int = DEFAULT_LEVELS,
    keep: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Diff:
    """Quantise float32 deltas into a sparse diff; each tensor gets a step of its own.

    Args:
        base: What the deltas are added to.
        deltas: new - base by tensor, float32, of the tensors' shapes. Absent: unchanged.
        levels: K, 1 to 127.
        keep: Which entries may travel, by tensor, of the tensors' shapes. None, or an absent
            tensor: all. Zeros never travel.

    Raises:
        InputError: K is out of range, a delta is infinite or NaN, or the tensor is not float32.
        LayoutError: the base has no such tensor, or one of another shape.
    """
    require_levels(levels)
    changes = {}
    for name, delta in deltas.items():
        flat = require_delta(base, name, delta).reshape(-1)
        is_kept = flat != 0
        if keep is not None and name in keep:
            is_kept &= keep[name].reshape(-1)
        positions = np.flatnonzero(is_kept)
        if positions.size:
            changes[name] = SparseDiff(positions, *quantise(flat[positions], levels))
    return Diff.of(base.layout, base.digest(), changes)


def quantise(values: Floats, levels: int) -> tuple[Levels, Scale]:
    """Levels and step of least squared error, as far as a few refinements find them.

    Args:
        values: Finite and non-zero, shape (N,), N >= 1.
        levels: K, 1 to 127.

    Returns:
        int8, shape (N,), each -K..-1 or 1..K; and the step, a positive float32.
    """
    magnitudes = np.abs(values.astype(np.float64))
    sample = magnitudes[:: -(-magnitudes.size // SAMPLE_SIZE)]
    largest = float(magnitudes.max()) / levels
    shares = (1.0,) if levels >= MANY_LEVELS else STEP_SHARES
    guesses = [_refine(sample, levels, largest * share) for share in shares]
    step = min(guesses, key=lambda guess: _squared_error(sample, levels, guess))
    step = as_step(_refine(magnitudes, levels, step))
    return _signed(_nearest(magnitudes, levels, step), values), Uniform(step)


def quantise_at(values: Floats, step: float) -> tuple[Levels, Scale]:
    """Levels of up to 127 for a given step, and the step that fits those levels best.

    Args:
        values: Finite and non-zero, shape (N,), N >= 1.
        step: Positive. Raised where the largest value would need a level above 127.

    Returns:
        int8, shape (N,), none zero; and the step, a positive float32.
    """
    magnitudes = np.abs(values.astype(np.float64))
    step = max(step, magnitudes.max() / MAX_LEVEL)
    nearest = _nearest(magnitudes, MAX_LEVEL, step)
    return _signed(nearest, values), Uniform(as_step(_best_step(magnitudes, nearest, step)))


def quantise_with_zero(values: Floats, step: float, levels: int = MAX_LEVEL) -> Levels:
    """The nearest level of each value, zero allowed: int8, shape (N,)."""
    nearest: Floats = np.clip(np.rint(values / step), -levels, levels)
    return nearest.astype(np.int8)


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
        InputError: it is infinite or NaN somewhere, or the tensor is not float32.
        LayoutError: the base has no such tensor, or one of another shape.
    """
    spec = base.layout.index.get(name)
    if spec is None or spec.shape != delta.shape:
        raise LayoutError(
            f"tensor {name}: the base has {spec or 'no such tensor'}, the delta has shape "
            f"{list(delta.shape)}"
        )
    require_float32(spec)
    if not np.isfinite(delta).all():
        raise InputError(f"tensor {name}: expected finite deltas, found infinity or NaN")
    return delta.astype(np.float32, copy=False)


def require_float32(spec: TensorSpec) -> None:
    """Refuse a tensor that levels cannot change.

    Raises:
        InputError: naming it and its dtype.
    """
    if spec.dtype is not Dtype.FLOAT32:
        raise InputError(
            f"tensor {spec.name}: expected float32 for a sparse or hash diff, found "
            f"{spec.dtype}; a lossless diff takes any dtype"
        )


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


def as_step(step: float) -> float:
    """The positive finite float32 nearest to a step."""
    return float(np.float32(min(max(step, SMALLEST_STEP), FLOAT32_MAX)))

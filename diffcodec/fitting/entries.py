"""The entries of a delta that may travel, tensor by tensor, and what an error in each costs.

Letters: N entries of one tensor.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import narrow, widen
from diffcodec.changes import FLOAT32_MAX
from diffcodec.errors import InputError, LayoutError
from diffcodec.fitting.rates import Grid
from diffcodec.parameters import Dtype, ParameterSet, TensorSpec

Floats: TypeAlias = NDArray[np.floating[Any]]
Deltas: TypeAlias = Mapping[str, NDArray[np.float32]]
Sensitivities: TypeAlias = Mapping[str, NDArray[Any]]

# What a result may be. The bfloat16 next to infinity is the float32 with its last 16 bits cut.
RANGES = {
    Dtype.FLOAT32: (-FLOAT32_MAX, FLOAT32_MAX),
    Dtype.FLOAT16: (-65504.0, 65504.0),
    Dtype.BFLOAT16: (-255 * 2.0**120, 255 * 2.0**120),
    Dtype.INT8: (-128.0, 127.0),
}
# Drawn to find what an entry must be worth to be among the best.
SAMPLE_SIZE = 2**18


@dataclass(frozen=True)
class Entries:
    """Non-zero entries of one tensor's delta.

    Attributes:
        spec: Of the tensor.
        positions: int64, shape (N,), increasing.
        values: What each should change by: float64, shape (N,), non-zero.
        weights: What a squared error in each counts: float64, shape (N,), not negative.
        start: The base's elements, float32, shape (N,), where rounding decides what a change
            comes to; None: a change comes to itself.
    """

    spec: TensorSpec
    positions: NDArray[np.int64]
    values: Floats
    weights: Floats
    start: NDArray[np.float32] | None

    @classmethod
    def of(
        cls,
        base: ParameterSet,
        name: str,
        delta: NDArray[np.float32],
        positions: NDArray[np.int64],
        weight: Floats | None = None,
    ) -> "Entries":
        """Entries of a flattened delta at positions where it is not zero.

        Args:
            base: What the delta is added to.
            name: Of the tensor.
            delta: Finite, shape (size,).
            positions: int64, shape (N,), increasing.
            weight: What a squared error counts, shape (size,); None: one.
        """
        spec = base.layout.index[name]
        before = widen(base.arrays[name].reshape(-1)[positions], spec.dtype)
        values = delta[positions].astype(np.float64)
        weights = np.ones(values.size) if weight is None else weight[positions].astype(np.float64)
        reach = float(np.abs(before).max(initial=0)) + 2 * float(np.abs(values).max(initial=0))
        # Nothing rounds away or overflows in the float32 of any model worth the name.
        is_plain = spec.dtype is Dtype.FLOAT32 and reach < FLOAT32_MAX
        return cls(spec, positions, values, weights, None if is_plain else before)

    @property
    def grid(self) -> Grid:
        """Where they stand in the tensor's matrix."""
        return Grid.of(self.spec.matrix, self.positions)

    @property
    def worth(self) -> Floats:
        """Error that is left where an entry stays as it is: float64, shape (N,)."""
        return self.weights * np.square(self.values)

    def errors(self, amounts: Floats) -> Floats:
        """Error that is left where each entry changes by an amount; infinite where it cannot.

        Args:
            amounts: float64, shape (N,), of float32 values.
        """
        if self.start is None:
            return self.weights * np.square(self.values - amounts)
        is_sound = self.is_sound(amounts)
        wide = self.start + np.where(is_sound, amounts, 0).astype(np.float32)
        result = narrow(wide, self.spec.dtype, self.spec.name)
        reached = widen(result, self.spec.dtype).astype(np.float64) - self.start
        return np.where(is_sound, self.weights * np.square(self.values - reached), np.inf)

    def is_sound(self, amounts: Floats) -> NDArray[np.bool_]:
        """Whether each entry, changed by an amount, is what its dtype holds: shape (N,)."""
        if self.start is None:
            return np.ones(self.values.size, dtype=bool)
        with np.errstate(over="ignore", invalid="ignore"):
            wide = self.start + amounts.astype(np.float32)
        lowest, highest = RANGES[self.spec.dtype]
        return (wide >= lowest) & (wide <= highest)

    def some(self, chosen: NDArray[Any]) -> "Entries":
        """Those at indices, or where a mask is true."""
        start = None if self.start is None else self.start[chosen]
        return Entries(
            self.spec, self.positions[chosen], self.values[chosen], self.weights[chosen], start
        )


def contenders(
    start: ParameterSet,
    deltas: Deltas,
    sensitivities: Sensitivities | None,
    at_most: int,
) -> tuple[list[Entries], bool]:
    """The entries worth most, about `at_most` of them, and whether those are all.

    Args:
        start: What the deltas are added to.
        deltas: float32 by tensor.
        sensitivities: What a squared error counts, by tensor, of the deltas' shapes, for every
            tensor of the deltas; None: one.
        at_most: More cannot matter to the caller.

    Raises:
        InputError: a tensor has no sensitivities, or they are negative, infinite or NaN.
        LayoutError: sensitivities of another shape than the delta.
    """
    weights = {name: weights_of(name, delta, sensitivities) for name, delta in deltas.items()}
    least = _least_worth(deltas, weights, at_most)
    found = []
    for name, delta in deltas.items():
        flat, weight = delta.reshape(-1), weights[name]
        is_chosen = flat != 0
        if weight is not None:
            is_chosen &= weight > 0
        if least > 0:
            is_chosen &= _worth(flat, weight) >= least
        positions = np.flatnonzero(is_chosen)
        if positions.size:
            found.append(Entries.of(start, name, flat, positions, weight))
    return found, least == 0


def _least_worth(deltas: Deltas, weights: Mapping[str, Floats | None], at_most: int) -> float:
    """What an entry must be worth to be among about the best `at_most`; 0: all are."""
    total = sum(np.count_nonzero(delta) for delta in deltas.values())
    if total <= at_most:
        return 0.0
    rng = np.random.default_rng(0)
    drawn = []
    size = sum(delta.size for delta in deltas.values())
    for name, delta in deltas.items():
        flat, weight = delta.reshape(-1), weights[name]
        count = -(-min(size, SAMPLE_SIZE) * delta.size // size)
        here = rng.integers(0, delta.size, count) if count < delta.size else np.arange(delta.size)
        # Tensors are drawn from as they are large, so that each entry has the same chance.
        drawn.append(_worth(flat[here], None if weight is None else weight[here]))
    worths = np.concatenate(drawn)
    return float(np.quantile(worths, max(0.0, 1 - at_most / size)))


def _worth(flat: NDArray[np.float32], weight: Floats | None) -> Floats:
    worth = np.square(flat, dtype=np.float64)
    return worth if weight is None else worth * weight


def weights_of(
    name: str, delta: NDArray[np.float32], sensitivities: Sensitivities | None
) -> Floats | None:
    """What a squared error counts in a tensor: shape (size,); None: one.

    Raises:
        InputError: the tensor has no sensitivities, or they are negative, infinite or NaN.
        LayoutError: they are of another shape than the delta.
    """
    if sensitivities is None:
        return None
    if name not in sensitivities:
        raise InputError(f"tensor {name}: expected sensitivities for every tensor that changes")
    weight = np.asarray(sensitivities[name])
    if weight.shape != delta.shape:
        raise LayoutError(
            f"tensor {name}: expected sensitivities of shape {list(delta.shape)}, "
            f"found {list(weight.shape)}"
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise InputError(f"tensor {name}: expected finite sensitivities from 0 on, found others")
    return weight.reshape(-1)

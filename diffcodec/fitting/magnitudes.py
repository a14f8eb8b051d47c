"""Magnitudes that a file states in few bytes, and the ones that least squares asks for.

A scale is written as a varint of a float32's bits in reverse order, so trailing zeros of the
mantissa cost nothing: 6 mantissa bits take 2 bytes, all 23 take 5. Most magnitudes may be moved
a little at no measurable loss, and a small diff has as many of them as it has kilobytes.
Letters: N values of one tensor, K magnitudes.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.changes import FLOAT32_MAX

Floats: TypeAlias = NDArray[np.floating[Any]]

# Mantissa bits that fill a varint (8 bits are the exponent's), and its bytes.
PRECISIONS = ((6, 2), (13, 3), (20, 4), (23, 5))
SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
REFINEMENTS = 30
SETTLED = 1e-5


def shortened(magnitudes: Floats, curvatures: NDArray[Any], bit_price: float) -> Floats:
    """Round magnitudes to as few mantissa bits as pays.

    Args:
        magnitudes: Positive, shape (K,).
        curvatures: What moving a magnitude by x costs, over x squared: shape (K,).
        bit_price: Error that one bit of the file is worth.

    Returns:
        Positive float32s, in float64, shape (K,); two may have become equal.
    """
    rounded = [_rounded(magnitudes, bits) for bits, _ in PRECISIONS]
    costs = [
        curvatures * np.square(found - magnitudes) + 8 * length * bit_price
        for found, (_, length) in zip(rounded, PRECISIONS, strict=True)
    ]
    cheapest = np.argmin(costs, axis=0)
    chosen: Floats = np.take_along_axis(np.array(rounded), cheapest[None], axis=0)[0]
    return chosen


def written_bits(magnitudes: Floats) -> int:
    """Bits that float32 magnitudes take in a header."""
    bits = magnitudes.astype(np.float32).view(np.uint32)
    lengths = np.full(bits.shape, 5)
    for mantissa, length in reversed(PRECISIONS):
        lengths[bits & ((1 << (23 - mantissa)) - 1) == 0] = length
    return 8 * int(lengths.sum())


def centroids(magnitudes: Floats, weights: Floats | None, count: int) -> Floats:
    """Up to K magnitudes of least weighted squared error (Lloyd 1982).

    Started from the ranges and from the quantiles of the values; the better end is taken.

    Args:
        magnitudes: Positive, shape (N,), N >= 1.
        weights: What a squared error counts, not negative, shape (N,); None: all alike.
        count: K.

    Returns:
        Increasing float64s, shape (at most K,): no more than there are different values.
    """
    order = np.argsort(magnitudes)
    values = magnitudes[order].astype(np.float64)
    counts = np.ones(values.size) if weights is None else weights[order].astype(np.float64)
    if not counts.any():
        counts = np.ones(values.size)
    runs = _Runs(values, counts / counts.max())
    shares = (np.arange(count) + 0.5) / count
    ranges = values[0] + shares * (values[-1] - values[0])
    quantiles = values[(shares * values.size).astype(np.int64)]
    found = [runs.refined(start) for start in (ranges, quantiles)]
    return min(found, key=runs.squared_error)


class _Runs:
    """Sums over runs of sorted values, in constant time each.

    Args:
        values: Increasing, shape (N,).
        weights: Shape (N,), not all zero.
    """

    def __init__(self, values: Floats, weights: Floats) -> None:
        self._values = values
        # Relative to the largest value, so that squares neither overflow nor vanish.
        self._unit = values[-1]
        scaled = values / self._unit
        self._sums = [
            np.concatenate([[0.0], np.cumsum(weights * scaled**power)]) for power in range(3)
        ]

    def refined(self, centres: Floats) -> Floats:
        """Lloyd's alternation: nearest centre of each value, mean of the values of each centre."""
        for _ in range(REFINEMENTS):
            ends = self._ends(centres)
            weight, total, _ = (np.diff(sums[ends]) for sums in self._sums)
            moved = total[weight > 0] / weight[weight > 0] * self._unit
            is_settled = (
                moved.size == centres.size
                and float(np.abs(moved - centres).max()) <= SETTLED * self._unit
            )
            centres = moved
            if is_settled:
                break
        return np.unique(centres)

    def squared_error(self, centres: Floats) -> float:
        """Of each value against its nearest centre, relative."""
        weight, total, square = (np.diff(sums[self._ends(centres)]) for sums in self._sums)
        scaled = centres / self._unit
        return float((square - 2 * scaled * total + scaled**2 * weight).sum())

    def _ends(self, centres: Floats) -> NDArray[np.int64]:
        borders = centres[:-1] + np.diff(centres) / 2
        inner = np.searchsorted(self._values, borders)
        return np.concatenate([[0], inner, [self._values.size]])


def _rounded(magnitudes: Floats, mantissa_bits: int) -> Floats:
    """To the nearest float32 of a shorter mantissa, positive and finite."""
    exact = np.clip(magnitudes, SMALLEST, FLOAT32_MAX).astype(np.float32)
    dropped = 23 - mantissa_bits
    if not dropped:
        return exact.astype(np.float64)
    bits = exact.view(np.uint32).astype(np.int64)
    near = (bits + (1 << (dropped - 1))) >> dropped << dropped
    rounded = near.astype(np.uint32).view(np.float32)
    is_sound = np.isfinite(rounded) & (rounded > 0)
    return np.where(is_sound, rounded, exact).astype(np.float64)

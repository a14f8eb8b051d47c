"""Low-rank changes: the strongest directions of a delta, as quantised factors.

A matrix of deltas is sum_k s_k u_k v_k^T (singular values, descending). Both factors carry
sqrt(s_k) and one grid of step q, so that a level of U times one of V is worth q^2. Rounding errors
of q^2 / 12 an entry then cost component k about

    D_k = s_k q^2 (rows + columns) / 12        and, left out, s_k^2,

so for a price of a bit the rank and the grid follow: component k is kept where s_k^2 - D_k is
more than its bits are worth, and q is the one at which all of them together gain most. After U is
rounded, V is fitted to it anew by least squares.
Letters: r rank; rows and columns of `TensorSpec.matrix`.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import widen
from diffcodec.changes import MAX_FACTOR_ENTRIES, MAX_LEVEL, MAX_RANK, LowRankDiff
from diffcodec.fitting.entries import RANGES
from diffcodec.fitting.magnitudes import shortened
from diffcodec.fitting.quantise import quantise_with_zero
from diffcodec.parameters import Dtype, TensorSpec

Floats: TypeAlias = NDArray[np.floating[Any]]

# Below this a singular value decomposition is exact and takes less than a second.
EXACT_SIDE = 512
# Directions looked for in larger matrices, and the draws that find them (Halko, Martinsson &
# Tropp 2011, algorithm 4.4).
MOST_DIRECTIONS = 128
OVERSAMPLING = 10
POWER_ITERATIONS = 2
# Grids looked at, in units of the finest that int8 holds.
GRIDS = tuple(2.0 ** (k / 2) for k in range(14))
# Bits of a record: method, rank, K and step.
RECORD_BITS = 64.0


@dataclass(frozen=True)
class Directions:
    """The strongest directions of a matrix: sum of left_k right_k^T.

    Attributes:
        spec: Of the tensor.
        left: u_k sqrt(s_k), float64, shape (rows, r).
        right: v_k sqrt(s_k), float64, shape (columns, r).
        strengths: s_k, descending, positive, shape (r,).
        reach: How far any element may move without leaving what the dtype holds.
    """

    spec: TensorSpec
    left: Floats
    right: Floats
    strengths: Floats
    reach: float

    @classmethod
    def of(cls, spec: TensorSpec, delta: NDArray[np.float32], start: NDArray[Any]) -> "Directions":
        """Decompose a delta of the tensor's shape; large ones only as far as can pay.

        Args:
            spec: Of the tensor.
            delta: float32, of its shape, not all zero.
            start: What the delta is added to, in the dtype's storage.
        """
        matrix = delta.reshape(spec.matrix).astype(np.float64)
        if min(matrix.shape) <= EXACT_SIDE:
            u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        else:
            u, s, vt = _strongest(matrix)
        most = min(MAX_RANK, MAX_FACTOR_ENTRIES // sum(matrix.shape))
        kept = slice(min(most, int((s > s[0] * 1e-9).sum())))
        roots = np.sqrt(s[kept])
        reach = RANGES[spec.dtype][1] - float(np.abs(widen(start, spec.dtype)).max())
        return cls(spec, u[:, kept] * roots, vt[kept].T * roots, s[kept], reach)

    def change(self, delta: NDArray[np.float32], bit_price: float) -> LowRankDiff | None:
        """The rank, grid and levels at which the delta's error and bits cost least.

        Args:
            delta: What was decomposed.
            bit_price: Error that one bit of the file is worth.

        Returns:
            None: no direction is worth its bits, or results might overflow.
        """
        rank, grid = self._best(bit_price)
        if not rank:
            return None
        rows = quantise_with_zero(self.left[:, :rank], grid)
        used = np.flatnonzero(rows.any(axis=0))
        if not used.size:
            return None
        rows = rows[:, used]
        matrix = delta.reshape(self.spec.matrix).astype(np.float64)
        change = _refitted(matrix, rows, grid, bit_price)
        return change if change is not None and _farthest(change) < self.reach else None

    def _best(self, bit_price: float) -> tuple[int, float]:
        """Rank and grid of least cost; rank 0: none."""
        best, least = (0, 1.0), 0.0
        sides = self.spec.matrix
        finest = max(np.abs(self.left).max(), np.abs(self.right).max()) / MAX_LEVEL
        for grid in (finest * factor for factor in GRIDS):
            lost = self.strengths * grid * grid * sum(sides) / 12
            bits = sum(n * _bits(self.strengths / n / grid**2) for n in sides)
            gains = np.square(self.strengths) - lost - bit_price * bits
            totals = np.cumsum(gains) - bit_price * RECORD_BITS
            rank = int(np.argmax(totals))
            if totals[rank] > least:
                best, least = (rank + 1, float(grid)), float(totals[rank])
        return best


def can_have_rank(spec: TensorSpec) -> bool:
    """Whether a tensor is a matrix of floats with more than one row and column."""
    return spec.dtype is not Dtype.INT8 and min(spec.matrix) > 1


def _farthest(change: LowRankDiff) -> float:
    """No element moves further."""
    rows, columns = (np.abs(f.astype(np.int64)) for f in (change.rows, change.columns))
    return float(rows.sum(axis=1).max()) * float(columns.max()) * change.step


def _bits(variances: Floats) -> Floats:
    """Entropy of rounded Gaussians of a variance in steps squared, about."""
    bits: Floats = np.log2(1 + 2 * np.pi * np.e * variances) / 2
    return bits


def _refitted(
    matrix: Floats, rows: NDArray[np.int8], grid: float, bit_price: float
) -> LowRankDiff | None:
    """The change whose columns suit rounded rows best."""
    wide = rows.astype(np.float64)
    gram, shares = wide.T @ wide, wide.T @ matrix
    exact = np.linalg.lstsq(gram, shares, rcond=None)[0].T
    # A level of U is worth 1 here, so one of V is worth the square of the grid.
    step = max(grid * grid, float(np.abs(exact).max()) / MAX_LEVEL)
    columns = quantise_with_zero(exact, step)
    used = columns.astype(np.float64)
    power = float((gram * (used.T @ used)).sum())
    covered = float((shares.T * used).sum())
    if power <= 0 or covered <= 0:
        return None
    stated = shortened(np.array([covered / power]), np.array([power]), bit_price)
    return LowRankDiff(rows, columns, float(stated[0]))


def _strongest(matrix: Floats) -> tuple[Floats, Floats, Floats]:
    """The leading part of a singular value decomposition, by a randomised range finder."""
    count = min(MOST_DIRECTIONS + OVERSAMPLING, min(matrix.shape))
    drawn = np.random.default_rng(0).standard_normal((matrix.shape[1], count))
    basis = np.linalg.qr(matrix @ drawn)[0]
    for _ in range(POWER_ITERATIONS):
        basis = np.linalg.qr(matrix @ np.linalg.qr(matrix.T @ basis)[0])[0]
    u, s, vt = np.linalg.svd(basis.T @ matrix, full_matrices=False)
    return (basis @ u)[:, :MOST_DIRECTIONS], s[:MOST_DIRECTIONS], vt[:MOST_DIRECTIONS]

"""What an entry costs: bits of its position by row and column, bits of its level by frequency.

A model of the coders, not one of them: good coders pay for a position by how busy its row and
column are (coders/max.md), so the rate of a non-zero is taken as

    p_ij = p * (row's rate / p) * (column's rate / p)

and one more entry costs log2((1 - p_ij) / p_ij) bits. Rates are estimated as an adaptive coder
would learn them: every row and column starts with an imagined entry at the tensor's rate,
and an entry does not count for itself. File sizes follow the model up to a factor, which the
search measures by encoding.
Letters: N entries that may travel, R rows, C columns, K levels.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

# Imagined entries that a row or column starts with.
PRIOR_ENTRIES = 1.0
HIGHEST_RATE = 0.95
# What a tensor's record and the first steps of its statistics cost.
RECORD_BITS = 40.0
# Learning the frequency of a level.
LEVEL_BITS = 5.0
SIGN_BITS = 1.0


@dataclass(frozen=True)
class Grid:
    """Where the entries of a tensor stand in its matrix.

    Attributes:
        shape: R and C.
        rows: int, shape (N,).
        columns: int, shape (N,).
    """

    shape: tuple[int, int]
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    @classmethod
    def of(cls, shape: tuple[int, int], positions: NDArray[np.int64]) -> "Grid":
        """Split positions in the flattened matrix."""
        rows, columns = np.divmod(positions, shape[1])
        return cls(shape, rows, columns)

    def position_bits(self, is_kept: NDArray[np.bool_]) -> tuple[Floats, float]:
        """Bits that each position costs beside those that are kept.

        Args:
            is_kept: Which entries travel, shape (N,).

        Returns:
            What keeping an entry adds: float64, shape (N,). And what saying of all others
            that they stay costs.
        """
        size = self.shape[0] * self.shape[1]
        count = int(is_kept.sum())
        rate = (count + 1.0) / (size + 2.0)
        logs = np.full(is_kept.size, np.log2(rate))
        spread = 1.0
        for indices, lines in ((self.rows, self.shape[0]), (self.columns, self.shape[1])):
            expected = rate * size / lines
            found = np.bincount(indices[is_kept], minlength=lines)
            relative = (found + PRIOR_ENTRIES) / (expected + PRIOR_ENTRIES)
            without = (np.maximum(found - 1, 0) + PRIOR_ENTRIES) / (expected + PRIOR_ENTRIES)
            logs += np.where(is_kept, np.log2(without)[indices], np.log2(relative)[indices])
            spread *= float(np.square(relative).mean())
        rates = np.minimum(np.exp2(logs), HIGHEST_RATE)
        # -log2(1 - p) summed over all positions, to the second order.
        rest = (count + size * min(rate * rate * spread, 1.0) / 2) / np.log(2)
        return np.log2(1 - rates) - np.log2(rates), float(rest)


def level_bits(counts: NDArray[np.int64]) -> Floats:
    """Bits of each level with its sign, from how often it occurs: shape (K,)."""
    smoothed = counts + 1.0
    bits: Floats = np.log2(smoothed.sum()) - np.log2(smoothed) + SIGN_BITS
    return bits

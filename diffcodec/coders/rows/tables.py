"""What row-class coding knows before the first symbol: alphabets, contexts and their priors.

Everything here is part of the format and integer arithmetic alone. A context only says where
learning starts; the tables follow the data (`diffcodec.coders.rows.rans.Model`).

Letters: R rows, C columns of a tensor seen as a matrix; K the largest level of a tensor.
"""

import numpy as np
from numpy.typing import NDArray

from diffcodec.coders.rows.rans import Indices, Model
from diffcodec.parameters import matrix_of

# Label 0 is a row or column without entries. Label l > 0 stands for a density between
# 2**(5 - l) and 2**(6 - l) times the strip's own.
LABELS = 16
EMPTY = 0
MEAN_LABEL = 5

SHORTEST_ROW, LONGEST_ROW = 16, 16_384
FOLDED_ROW = 256

# How the labels of an axis are coded: all alike, without context, by the row a quarter of the
# rows before (LSTM and GRU gates stand below each other), by remembered labels 1, 2, ... ago.
ALIKE, PLAIN, QUARTER, REMEMBERED = 0, 1, 2, 3
REMEMBERED_AXES = 16
FEWEST_QUARTERED = 64

# Gaps are coded in units of 2**shift elements, so that a mean gap is 16 to 32 units at most:
# 0..63 directly, up to 1,023 by quarter octaves with raw bits, above by an escape.
GAP_CLASSES = 132
DIRECT_GAPS = 64
ESCAPE_UNITS = 1_024
# So that no gap but an escape has more than 31 raw bits.
LARGEST_SHIFT = 24
_BUCKETS = [(o, quarter) for o in range(6, 10) for quarter in range(4)]
GAP_BASE = np.array(
    [*range(DIRECT_GAPS), *[(4 + quarter) << (o - 2) for o, quarter in _BUCKETS], ESCAPE_UNITS]
)
GAP_EXTRA_BITS = np.array([0] * DIRECT_GAPS + [o - 2 for o, _ in _BUCKETS] + [0], dtype=np.uint8)
GAP_ESCAPE = GAP_BASE.size - 1
ESCAPED_GAP_BITS = 32
GAP_SYMBOL = (np.searchsorted(GAP_BASE, np.arange(ESCAPE_UNITS + 1), "right") - 1).astype(np.uint8)

# Bits of the number of entries in a cell: 0 to 17, for 0 to 65,536 entries.
COUNT_LENGTHS = 18
# Mean magnitudes above 1, in quarter octaves of (mean + 1/4); the last context: none known yet.
MEAN_CLASSES = 36
# Weight with which a row label of a tensor starts from what tensors before showed.
LEVEL_WEIGHT = 512
# How a tensor's signs are coded: with the magnitude in one symbol, apart by the sign that
# prevails in the column, or apart by the sign of the left neighbour.
JOINT, BY_COLUMN, BY_NEIGHBOUR = 0, 1, 2
# Contexts by column: bits of |negatives - positives| and of their sum in the column, 0 to 5.
SIGN_LENGTHS = 6


def matrix_view(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor (`matrix_of`), where rows are neither very short nor long.

    Such rows would make labels dear or strips impossible: those tensors, and vectors, are cut
    into rows of 256 elements, of which the last may reach beyond the tensor.
    """
    rows, columns = matrix_of(shape)
    if rows > 1 and SHORTEST_ROW <= columns <= LONGEST_ROW:
        return rows, columns
    size = rows * columns
    columns = min(size, FOLDED_ROW)
    return -(-size // columns), columns


def bit_length(values: Indices) -> Indices:
    """Bits that each value >= 0 takes: 0 for 0, 3 for 7."""
    left, found = values, np.zeros(values.shape, dtype=np.int64)
    for step in (32, 16, 8, 4, 2, 1):
        is_longer = left >> step > 0
        found += is_longer * step
        left = np.where(is_longer, left >> step, left)
    return found + (left > 0)


def quarter_octaves(values: Indices) -> Indices:
    """floor(4 * log2(value)) with the mantissa taken linearly; values >= 4."""
    octave = bit_length(values) - 1
    return octave * 4 + (values >> (octave - 2) & 3)


def gap_classes(sizes: Indices, counts: Indices) -> Indices:
    """Contexts of the gaps in cells of some size with some entries, 1 <= counts <= sizes."""
    return quarter_octaves((sizes << 8) // counts) - 32


def mean_class(total: int, count: int) -> int:
    """Context for a group of count magnitudes whose excess over 1 sums up to total."""
    return int(quarter_octaves(np.array([total * 16 // count + 4]))[0]) - 8


class Tables:
    """All that is learnt across tensors, on both sides alike."""

    def __init__(self) -> None:
        self.modes = Model(np.full((2, REMEMBERED + REMEMBERED_AXES), 2))
        self.plain_labels = Model(np.full((2, LABELS), 8))
        self.known_labels = Model(_near_diagonal(LABELS + 1, LABELS, 8, 40))
        self.counts = Model(_near_diagonal(COUNT_LENGTHS, COUNT_LENGTHS, 2, 34))
        self.gaps = Model(_gap_prior())
        self.means = Model(np.full((MEAN_CLASSES + 1, MEAN_CLASSES), 2))
        self.column_signs = Model(np.full((SIGN_LENGTHS**2, 2), 256))
        self.neighbour_signs = Model(np.full((2, 2), 256))
        self._magnitudes: dict[int, Indices] = {}

    def magnitudes(self, largest: int) -> Indices:
        """Weights of magnitudes 1 to K seen so far, to be added to: shape (MEAN_CLASSES, K)."""
        if largest not in self._magnitudes:
            self._magnitudes[largest] = _magnitude_prior(largest)
        return self._magnitudes[largest]


def _near_diagonal(contexts: int, symbols: int, floor: int, peak: int) -> Indices:
    """Weights that expect a symbol to equal its context, or nearly."""
    distance = np.abs(np.arange(contexts)[:, None] - np.arange(symbols))
    return floor + np.select([distance == 0, distance == 1], [peak, peak // 3], 0)


def _powers(numerator: int, denominator: int, length: int) -> NDArray[np.uint64]:
    """(1 - denominator / numerator)**k for k below length, in units of 2**-32."""
    factor = ((numerator - denominator) << 32) // numerator
    powers = np.full(length, 1 << 32, dtype=np.uint64)
    known = 1
    while known < length:
        more = powers[known : 2 * known]
        more[:] = powers[: more.size] * np.uint64(factor >> 2) >> np.uint64(30)
        factor = factor * factor >> 32
        known *= 2
    return powers


def _gap_prior() -> Indices:
    """Geometric gaps of the mean that a class stands for; in the second set, more of 0."""
    rows = []
    for quarter in range(20):
        mean_eighths = (9 + 2 * (quarter % 4)) << quarter // 4
        beyond = np.append(_powers(mean_eighths, 8, ESCAPE_UNITS + 1)[GAP_BASE], np.uint64(0))
        rows.append((beyond[:-1] - beyond[1:]) >> np.uint64(19))
    # From 32 on gaps are taken in larger units, whose mean is 16 to 32 again.
    rows += [rows[16 + quarter % 4] for quarter in range(20, GAP_CLASSES)]
    scattered = np.array(rows).astype(np.int64)
    clustered = scattered.copy()
    clustered[:, 0] += 4_096
    return np.concatenate([scattered, clustered])


def _magnitude_prior(largest: int) -> Indices:
    """Geometric magnitudes of the mean that a class stands for, as if 4 had been seen."""
    rows = []
    for quarter in range(MEAN_CLASSES):
        mean_above_0 = ((9 + 2 * (quarter % 4)) << quarter // 4) + 24
        beyond = _powers(mean_above_0, 32, largest + 1)
        rows.append((beyond[:-1] - beyond[1:]) >> np.uint64(26))
    return np.array(rows).astype(np.int64) + 1

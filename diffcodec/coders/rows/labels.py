"""Which rows and columns of a strip are coded alike: the encoder's choice.

Any labels decode; good ones make positions cheap. Rows and columns start out by their density
in octaves. Then neighbouring classes merge greedily as long as the whole gets shorter: what
the entries of a cell cost at the cell's own density, what its count costs, and what the labels
cost. Floating point is fine here, because the labels themselves are sent.

Letters: R rows, C columns, I row classes, J column classes.
"""

import numpy as np
from numpy.typing import NDArray

from diffcodec.coders.rows.rans import Indices
from diffcodec.coders.rows.tables import EMPTY, LABELS, MEAN_LABEL

CELL_BITS = 7.0
# Contexts save about this much of the entropy of row labels.
ROW_LABEL_SHARE = 0.8

Floats = NDArray[np.float64]
Labels = NDArray[np.uint8]


def choose_labels(
    rows: Indices, columns: Indices, extent: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels of the rows and of the columns of a strip.

    Args:
        rows: Row of each entry, shape (N,), N >= 1.
        columns: Column of each entry, shape (N,).
        extent: R and C.
    """
    row_labels = _by_density(np.bincount(rows, minlength=extent[0]))
    column_labels = _by_density(np.bincount(columns, minlength=extent[1]))
    row_kinds, row_class = np.unique(row_labels, return_inverse=True)
    column_kinds, column_class = np.unique(column_labels, return_inverse=True)
    shape = (row_kinds.size, column_kinds.size)
    cell = row_class[rows] * shape[1] + column_class[columns]
    entries = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)
    row_map, column_map = _merge(
        entries,
        _Axis(row_kinds, row_class, ROW_LABEL_SHARE),
        _Axis(column_kinds, column_class, 1.0),
    )
    return row_map[row_class].astype(np.uint8), column_map[column_class].astype(np.uint8)


def _by_density(counts: Indices) -> Indices:
    """Label of each line from its entries, relative to the mean line."""
    relative = counts * counts.size / counts.sum()
    octave = np.floor(np.log2(np.maximum(relative, 1e-9)))
    return np.where(counts > 0, np.clip(MEAN_LABEL - octave, 1, LABELS - 1), EMPTY).astype(np.int64)


class _Axis:
    """Classes of neighbouring density along one axis, while they merge."""

    def __init__(self, kinds: Indices, classes: Indices, share: float) -> None:
        self.lines = np.bincount(classes).astype(np.float64)
        self.share = share
        self._kinds, self._first_lines = kinds, self.lines
        self._members = [[i] for i in range(kinds.size)]

    def saved_by_merging(self) -> Floats:
        """Bits of labels saved by merging each class with its next."""
        either = self.lines[:-1] + self.lines[1:]
        saved = _log_power(either) - _log_power(self.lines[:-1]) - _log_power(self.lines[1:])
        return self.share * saved

    def merge(self, at: int) -> None:
        """Make one class of class at and its next."""
        self.lines = _added(self.lines, at)
        self._members[at : at + 2] = [self._members[at] + self._members[at + 1]]

    def labels(self) -> Indices:
        """Label of each class that there was at first: that of its largest fellow."""
        labels = self._kinds.copy()
        for group in self._members:
            if len(group) > 1:
                largest = group[int(np.argmax(self._first_lines[group]))]
                labels[group] = max(1, int(self._kinds[largest]))
        return labels


def _merge(entries: Floats, rows: _Axis, columns: _Axis) -> tuple[Indices, Indices]:
    """Merge until nothing is saved; entries: shape (I, J)."""
    while True:
        by_row = _change(entries, rows, columns)
        by_column = _change(entries.T, columns, rows)
        if min(by_row.min(initial=0), by_column.min(initial=0)) >= 0:
            return rows.labels(), columns.labels()
        if by_row.min(initial=0) <= by_column.min(initial=0):
            at = int(by_row.argmin())
            rows.merge(at)
            entries = _added(entries, at)
        else:
            at = int(by_column.argmin())
            columns.merge(at)
            entries = _added(entries.T, at).T


def _change(entries: Floats, axis: _Axis, other: _Axis) -> Floats:
    """Bits more if class i and i + 1 were one, for each i."""
    sizes = np.outer(axis.lines, other.lines)
    now = _cell_bits(entries, sizes).sum(axis=1)
    merged = _cell_bits(entries[:-1] + entries[1:], sizes[:-1] + sizes[1:]).sum(axis=1)
    change: Floats = merged - now[:-1] - now[1:] - axis.saved_by_merging()
    return change


def _cell_bits(entries: Floats, sizes: Floats) -> Floats:
    """log2 of the ways to place entries in a cell, by Stirling's leading terms, and its count."""
    free = sizes - entries
    return _log_power(sizes) - _log_power(entries) - _log_power(free) + CELL_BITS


def _log_power(values: Floats) -> Floats:
    """Each value times its log2; 0 for 0."""
    powers: Floats = values * np.log2(np.maximum(values, 1))
    return powers


def _added(values: Floats, at: int) -> Floats:
    """Values with line at + 1 added to line at."""
    added: Floats = np.add.reduceat(values, np.delete(np.arange(len(values)), at + 1), axis=0)
    return added

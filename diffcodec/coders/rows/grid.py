"""What both directions of row-class coding derive alike: cells, contexts and calls.

Letters: N entries, R rows, C columns of a strip; M cells; K the largest level of a tensor.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffcodec.coders.rows import tables
from diffcodec.coders.rows.rans import Indices, Model
from diffcodec.coders.rows.tables import LABELS, Tables
from diffcodec.errors import FormatError

STRIP_ENTRIES = 65_536
STRIP_ROWS = 65_536
# A strip has at least about so many elements, or a tensor could have endless strips.
STRIP_ELEMENTS = 32_768
HEIGHT_BITS = 16
COUNT_BITS = 17
SIGN_MODE_BITS = 2
# Calls of the coder grow with what a tensor has shown, as tables learn between calls. A call of
# so small a share of what a table has seen has little to teach it.
FIRST_CALL = 64
FIRST_GAP_CALL = 1_024
KNOWN_SHARE = 8

Labels = NDArray[np.uint8]


class Grid:
    """A strip's cells: rows of one label crossed with columns of one label.

    Cells stand in the order of row label, then column label. Lines labelled empty are in none.

    Attributes:
        row_labels: shape (R,).
        sizes: Elements of each cell, shape (M,).
    """

    def __init__(self, row_labels: Labels, column_labels: Labels) -> None:
        self.row_labels = row_labels
        self._rows, self._columns = _Lines(row_labels), _Lines(column_labels)
        self._row_label = np.repeat(self._rows.kinds, self._columns.kinds.size)
        self._column_label = np.tile(self._columns.kinds, self._rows.kinds.size)
        self._widths = self._columns.lengths[self._column_label]
        self.sizes = self._rows.lengths[self._row_label] * self._widths

    @property
    def row_kinds(self) -> list[int]:
        """Labels of rows that may have entries, increasing."""
        return [int(kind) for kind in self._rows.kinds]

    def count_contexts(self, count: int) -> Indices:
        """Bits of the entries that labels let expect, for each cell but the last."""
        elements = self._rows.labels.size * self._columns.labels.size
        shifts = self._row_label[:-1] + self._column_label[:-1]
        expected = [
            ((count * int(size) << 2 * tables.MEAN_LABEL + 1) // elements) >> int(shift)
            for size, shift in zip(self.sizes[:-1], shifts, strict=True)
        ]
        lengths = [min(value.bit_length(), tables.COUNT_LENGTHS - 1) for value in expected]
        return np.array(lengths, dtype=np.int64)

    def gap_contexts(self, counts: Indices, gap_set: int) -> tuple[Indices, Indices]:
        """Context and unit (as a shift) of each gap, cell after cell: both shape (N,)."""
        classes = tables.gap_classes(self.sizes, np.maximum(counts, 1))
        shifts = np.clip(classes // 4 - 4, 0, tables.LARGEST_SHIFT)
        contexts = classes + gap_set * tables.GAP_CLASSES
        return np.repeat(contexts, counts), np.repeat(shifts, counts)

    def gaps(self, rows: Indices, columns: Indices) -> tuple[Indices, Indices]:
        """Entries of each cell, shape (M,), and their gaps, cell after cell, shape (N,)."""
        row_label, column_label = self._rows.labels[rows], self._columns.labels[columns]
        kind_of = np.zeros(LABELS, dtype=np.int64)
        kind_of[self._rows.kinds] = np.arange(self._rows.kinds.size) * self._columns.kinds.size
        column_kind = np.zeros(LABELS, dtype=np.int64)
        column_kind[self._columns.kinds] = np.arange(self._columns.kinds.size)
        cells = kind_of[row_label] + column_kind[column_label]
        places = self._rows.ranks()[rows] * self._widths[cells] + self._columns.ranks()[columns]
        ordered = np.sort(cells << 32 | places)
        counts = np.bincount(cells, minlength=self.sizes.size)
        places = ordered & 0xFFFFFFFF
        gaps = np.diff(places, prepend=-1) - 1
        firsts = (np.cumsum(counts) - counts)[counts > 0]
        gaps[firsts] = places[firsts]
        return counts, gaps

    def positions(self, counts: Indices, gaps: Indices) -> NDArray[np.int32]:
        """Positions in the strip, cell after cell, shape (N,); the inverse of `gaps`.

        Raises:
            FormatError: gaps lead beyond their cell.
        """
        reached = np.cumsum(gaps + 1)
        # A strip has at most 2**30 elements.
        positions = np.empty(gaps.size, dtype=np.int32)
        end = passed = 0
        for cell in np.flatnonzero(counts):
            first, end = end, end + int(counts[cell])
            places = reached[first:end] - (passed + 1)
            passed = int(reached[end - 1])
            if places[-1] >= self.sizes[cell]:
                raise FormatError(
                    f"cell: expected places below {self.sizes[cell]}, found {places[-1]}"
                )
            rows = places // self._widths[cell]
            places -= rows * self._widths[cell]
            row_lines = self._rows.of(int(self._row_label[cell]))
            column_lines = self._columns.of(int(self._column_label[cell]))
            positions[first:end] = row_lines[rows] * self._columns.labels.size
            positions[first:end] += column_lines[places]
        return positions


class _Lines:
    """Rows or columns by label: those of one label keep their order."""

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.lengths = np.bincount(labels, minlength=LABELS)
        self.kinds = np.flatnonzero(self.lengths[1:]) + 1
        self._order = np.argsort(labels, kind="stable")
        self._ends = np.cumsum(self.lengths)

    def of(self, label: int) -> Indices:
        """Lines of a label, increasing."""
        return self._order[self._ends[label] - self.lengths[label] : self._ends[label]]

    def ranks(self) -> Indices:
        """Of each line among those of its label."""
        ranks = np.empty(self.labels.size, dtype=np.int64)
        ranks[self._order] = np.arange(self.labels.size)
        return ranks - (self._ends - self.lengths)[self.labels]


class TensorState:
    """What coding one tensor needs from strip to strip."""

    def __init__(self, shape: tuple[int, ...], count: int, largest: int) -> None:
        self.count, self.largest = count, largest
        self.rows, self.columns = tables.matrix_view(shape)
        self.size = math.prod(shape)
        self.is_one_strip = count <= STRIP_ENTRIES and self.rows <= STRIP_ROWS
        self.seen = 0
        self.last_class = tables.MEAN_CLASSES
        self._classes: dict[int, int] = {}

    def unknown_labels(self, grid: Grid) -> list[int]:
        """Row labels whose mean magnitude is still to come."""
        if self.largest == 1:
            return []
        return [label for label in grid.row_kinds if label not in self._classes]

    def start_levels(self, sign_mode: int) -> None:
        """Know how signs are coded, before the first level."""
        self.sign_mode = sign_mode
        self.column_signs = ColumnSigns(self.columns)
        alphabet = 2 * self.largest if sign_mode == tables.JOINT else self.largest
        self.levels = Model(np.ones((LABELS, alphabet), dtype=np.int64))

    def start_label(self, learnt: Tables, label: int, mean_class: int) -> None:
        """Let the magnitudes of a row label start from those of its mean class."""
        weights = learnt.magnitudes(self.largest)[mean_class]
        weights = weights * tables.LEVEL_WEIGHT // weights.sum() + 1
        self.levels.reset(label, np.repeat(weights, self.levels.alphabet // self.largest))
        self._classes[label] = self.last_class = mean_class

    def learn(self, learnt: Tables, labels: Indices, magnitudes: NDArray[np.uint8]) -> None:
        """Note a strip's magnitudes (less 1) for later tensors."""
        self.seen += magnitudes.size
        if self.largest == 1:
            return
        weights = learnt.magnitudes(self.largest)
        flat = labels * self.largest + magnitudes
        hits = np.bincount(flat, minlength=LABELS * self.largest).reshape(LABELS, -1)
        for label, mean_class in self._classes.items():
            weights[mean_class] += hits[label]


class ColumnSigns:
    """Which sign prevailed in each column so far."""

    def __init__(self, columns: int) -> None:
        self._negative_lead = np.zeros(columns, dtype=np.int64)
        self._seen = np.zeros(columns, dtype=np.int64)
        self._context = np.zeros(columns, dtype=np.int64)

    def contexts(self, columns: Indices) -> tuple[Indices, NDArray[np.bool_]]:
        """Context of each entry's sign, and whether its column was mostly negative."""
        return self._context[columns], (self._negative_lead > 0)[columns]

    def learn(self, columns: Indices, is_negative: NDArray[np.bool_]) -> None:
        """Count the signs of a call."""
        seen = np.bincount(columns, minlength=self._seen.size)
        negative = np.bincount(columns[is_negative], minlength=self._seen.size)
        self._seen += seen
        self._negative_lead += 2 * negative - seen
        lead = tables.bit_length(np.abs(self._negative_lead))
        longest = tables.SIGN_LENGTHS - 1
        self._context = np.minimum(lead, longest) * tables.SIGN_LENGTHS
        self._context += np.minimum(tables.bit_length(self._seen), longest)


def have_left_neighbours(
    positions: NDArray[np.signedinteger[Any]], columns: NDArray[np.signedinteger[Any]]
) -> NDArray[np.bool_]:
    """Whether the element left of each entry, in its row, is an entry; positions increase."""
    is_next: NDArray[np.bool_] = np.diff(positions, prepend=-2) == 1
    return is_next & (columns > 0)


def chain_signs(symbols: NDArray[np.uint8], is_chained: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Signs from symbols, which for chained entries say whether the sign is not the last one's.

    Args:
        symbols: 0 or 1, shape (N,).
        is_chained: Whether an entry has a left neighbour, shape (N,).
    """
    running = np.bitwise_xor.accumulate(np.append(np.uint8(0), symbols))
    firsts = np.maximum.accumulate(np.where(is_chained, 0, np.arange(symbols.size)))
    return (running[1:] ^ running[firsts]).astype(bool)


class Axes:
    """Modes in which labels are coded, and the labels that were coded lately."""

    def __init__(self, learnt: Tables) -> None:
        self._learnt = learnt
        self._remembered: list[Labels] = []

    def remember(self, labels: Labels) -> None:
        """Keep the labels of an axis that was just coded."""
        self._remembered = [labels, *self._remembered[: tables.REMEMBERED_AXES - 1]]

    def modes(self, length: int) -> list[int]:
        """All modes that an axis of this length can have, but ALIKE."""
        modes = [tables.PLAIN]
        if length % 4 == 0 and length >= tables.FEWEST_QUARTERED:
            modes.append(tables.QUARTER)
        ago = enumerate(self._remembered, start=tables.REMEMBERED)
        return modes + [mode for mode, labels in ago if labels.size == length]

    def model(self, mode: int) -> Model:
        """The tables for labels of a mode."""
        return self._learnt.plain_labels if mode == tables.PLAIN else self._learnt.known_labels

    def contexts(self, mode: int, axis: int, labels: Labels, part: slice) -> Indices:
        """Contexts of a part of an axis, from what was coded before it."""
        if mode == tables.PLAIN:
            return np.full(part.stop - part.start, axis)
        if mode >= tables.REMEMBERED:
            return self._remembered[mode - tables.REMEMBERED][part].astype(np.int64)
        if part.start == 0:
            return np.full(part.stop, LABELS)
        return labels[2 * part.start - part.stop : part.start].astype(np.int64)


def label_calls(mode: int, length: int, seen: int) -> Iterator[slice]:
    """How the labels of an axis are cut into calls, by what their model has seen."""
    if mode == tables.QUARTER:
        return (slice(at, at + length // 4) for at in range(0, length, length // 4))
    return calls(length, 0, max(FIRST_CALL, seen // KNOWN_SHARE))


def gap_calls(count: int, seen: int) -> Iterator[slice]:
    """How the gaps of a strip are cut into calls, by what their model has seen."""
    return calls(count, 0, max(FIRST_GAP_CALL, seen // KNOWN_SHARE))


def calls(count: int, seen: int, first: int) -> Iterator[slice]:
    """Cut count symbols into calls, each as long as all seen before it, or `first` if longer."""
    at = 0
    while at < count:
        end = min(count, at + max(first, seen + at))
        yield slice(at, end)
        at = end


def gap_bits(symbols: NDArray[np.uint8], shifts: Indices) -> NDArray[np.uint8]:
    """Widths of the raw bits that complete gaps."""
    widths = tables.GAP_EXTRA_BITS[symbols] + shifts.astype(np.uint8)
    widths[symbols == tables.GAP_ESCAPE] = tables.ESCAPED_GAP_BITS
    return widths

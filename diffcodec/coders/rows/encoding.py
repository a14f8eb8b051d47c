"""Row-class coding, the encoder: the steps of `diffcodec.coders.rows.Decoder` in their order.

What the format leaves open is decided here: strips, labels, how labels are coded, and whether
signs follow their columns. Floating point only weighs these choices.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diffcodec.coders.rows import tables
from diffcodec.coders.rows.grid import (
    COUNT_BITS,
    FIRST_CALL,
    HEIGHT_BITS,
    SIGN_MODE_BITS,
    STRIP_ELEMENTS,
    STRIP_ENTRIES,
    STRIP_ROWS,
    Axes,
    Grid,
    Labels,
    TensorState,
    calls,
    gap_bits,
    gap_calls,
    have_left_neighbours,
    label_calls,
)
from diffcodec.coders.rows.labels import CELL_BITS, Floats, choose_labels
from diffcodec.coders.rows.rans import COUNT_STEP, Indices, Model, Writer
from diffcodec.coders.rows.tables import Tables
from diffcodec.coders.streams import EntriesPart

CLUSTERED_SHARE = 1.25
# Below this, signs are not worth a symbol of their own.
LEAST_SAVED_BITS = 16


def encode(tensors: Sequence[EntriesPart]) -> bytes:
    """Code all tensors as one stream."""
    encoder = Encoder()
    for tensor in tensors:
        encoder.tensor(tensor.shape, tensor.positions, tensor.levels, tensor.largest)
    return encoder.finish()


class Encoder:
    """Takes tensors in order, then gives the stream."""

    def __init__(self) -> None:
        self._writer = Writer()
        self._tables = Tables()
        self._axes = Axes(self._tables)

    def finish(self) -> bytes:
        """The stream of all tensors."""
        return self._writer.finish()

    def tensor(
        self,
        shape: tuple[int, ...],
        positions: NDArray[np.int64],
        levels: NDArray[np.int8],
        largest: int,
    ) -> None:
        """Code one tensor; see `diffcodec.coders.streams.EntriesPart`."""
        tensor = TensorState(shape, positions.size, largest)
        height = tensor.rows
        if not tensor.is_one_strip:
            height = _strip_height(tensor, positions)
            self._bits(height - 1, HEIGHT_BITS)
        tensor.start_levels(_sign_mode(positions, levels < 0, tensor.columns))
        low = 0
        for first in range(0, tensor.rows, height):
            extent = (min(height, tensor.rows - first), tensor.columns)
            high = int(np.searchsorted(positions, (first + extent[0]) * tensor.columns))
            if first + height < tensor.rows:
                self._bits(high - low, COUNT_BITS)
            if high > low:
                inner = positions[low:high] - first * tensor.columns
                self._strip(tensor, extent, inner, levels[low:high])
            low = high

    def _strip(
        self,
        tensor: TensorState,
        extent: tuple[int, int],
        positions: Indices,
        levels: NDArray[np.int8],
    ) -> None:
        rows = positions // tensor.columns
        columns = positions - rows * tensor.columns
        row_labels, column_labels, gap_set = self._plan(rows, columns, extent)
        grid = Grid(self._labels(row_labels, 0), self._labels(column_labels, 1))
        counts, gaps = grid.gaps(rows, columns)
        self._counts(grid, counts)
        self._gaps(grid, counts, gaps, gap_set)
        self._levels(tensor, grid, rows, columns, levels)

    def _plan(
        self, rows: Indices, columns: Indices, extent: tuple[int, int]
    ) -> tuple[Labels, Labels, int]:
        """Labels of both axes, and the set of gap tables."""
        labels = choose_labels(rows, columns, extent)
        if not _are_clustered(rows, columns, extent):
            return *labels, 0
        # Neighbours stay neighbours only if their columns are alike.
        folded = choose_labels(rows, np.zeros_like(columns), (extent[0], 1))[0]
        plans = [
            (*labels, 0),
            (*labels, 1),
            (folded, np.full(extent[1], tables.MEAN_LABEL, dtype=np.uint8), 1),
        ]
        return min(plans, key=lambda plan: self._position_bits(rows, columns, plan))

    def _position_bits(
        self, rows: Indices, columns: Indices, plan: tuple[Labels, Labels, int]
    ) -> float:
        """About what positions cost by a plan."""
        grid = Grid(plan[0], plan[1])
        counts, gaps = grid.gaps(rows, columns)
        contexts, shifts = grid.gap_contexts(counts, plan[2])
        symbols = _gap_symbols(gaps, shifts)
        weights: Floats = (self._tables.gaps.weights + 1).astype(np.float64)
        bits = float(gap_bits(symbols, shifts).sum()) + CELL_BITS * counts.size
        for part in gap_calls(contexts.size, self._tables.gaps.seen):
            bits += _bits_of(weights, contexts[part], symbols[part])
        return bits + sum(_entropy_bits(labels) for labels in plan[:2])

    def _labels(self, labels: Labels, axis: int) -> Labels:
        """Code the labels of an axis; as they are decoded."""
        if (labels == labels[0]).all():
            self._symbol(self._tables.modes, axis, tables.ALIKE)
            return np.full(labels.size, tables.MEAN_LABEL, dtype=np.uint8)
        mode = self._cheapest_mode(labels, axis)
        self._symbol(self._tables.modes, axis, mode)
        model = self._axes.model(mode)
        for part in label_calls(mode, labels.size, model.seen):
            contexts = self._axes.contexts(mode, axis, labels, part)
            self._writer.symbols(model, contexts, labels[part])
        self._axes.remember(labels)
        return labels

    def _cheapest_mode(self, labels: Labels, axis: int) -> int:
        def bits(mode: int) -> float:
            model = self._axes.model(mode)
            weights: Floats = (model.weights + 1).astype(np.float64)
            total = 0.0
            for part in label_calls(mode, labels.size, model.seen):
                contexts = self._axes.contexts(mode, axis, labels, part)
                total += _bits_of(weights, contexts, labels[part])
            return total

        return min(self._axes.modes(labels.size), key=bits)

    def _counts(self, grid: Grid, counts: Indices) -> None:
        lengths = tables.bit_length(counts[:-1])
        contexts = grid.count_contexts(int(counts.sum()))
        self._writer.symbols(self._tables.counts, contexts, lengths.astype(np.uint8))
        low = counts[:-1] - (1 << lengths >> 1)
        self._writer.bits(low, np.maximum(lengths - 1, 0).astype(np.uint8))

    def _gaps(self, grid: Grid, counts: Indices, gaps: Indices, gap_set: int) -> None:
        self._bits(gap_set, 1)
        contexts, shifts = grid.gap_contexts(counts, gap_set)
        symbols = _gap_symbols(gaps, shifts)
        for part in gap_calls(contexts.size, self._tables.gaps.seen):
            self._writer.symbols(self._tables.gaps, contexts[part], symbols[part])
        base = np.where(symbols == tables.GAP_ESCAPE, 0, tables.GAP_BASE[symbols] << shifts)
        self._writer.bits(gaps - base, gap_bits(symbols, shifts))

    def _levels(
        self,
        tensor: TensorState,
        grid: Grid,
        rows: Indices,
        columns: Indices,
        levels: NDArray[np.int8],
    ) -> None:
        labels = grid.row_labels[rows].astype(np.int64)
        magnitudes = np.abs(levels).astype(np.uint8) - np.uint8(1)
        if not tensor.seen:
            self._bits(tensor.sign_mode, SIGN_MODE_BITS)
        for label in tensor.unknown_labels(grid):
            of_label = magnitudes[labels == label].astype(np.int64)
            mean_class = tables.mean_class(int(of_label.sum()), max(1, of_label.size))
            self._symbol(self._tables.means, tensor.last_class, mean_class)
            tensor.start_label(self._tables, label, mean_class)
        is_negative = levels < 0
        symbols = magnitudes
        if tensor.sign_mode == tables.JOINT:
            symbols = magnitudes << np.uint8(1) | is_negative
        if tensor.levels.alphabet > 1:
            for part in calls(levels.size, tensor.seen, FIRST_CALL):
                self._writer.symbols(tensor.levels, labels[part], symbols[part])
        if tensor.sign_mode == tables.BY_COLUMN:
            self._signs_by_column(tensor, columns, is_negative)
        elif tensor.sign_mode == tables.BY_NEIGHBOUR:
            positions = rows * tensor.columns + columns
            is_chained = have_left_neighbours(positions, columns)
            self._signs_by_neighbour(tensor, is_chained, is_negative)
        tensor.learn(self._tables, labels, magnitudes)

    def _signs_by_column(
        self, tensor: TensorState, columns: Indices, is_negative: NDArray[np.bool_]
    ) -> None:
        for part in calls(columns.size, tensor.seen, FIRST_CALL):
            contexts, is_mostly_negative = tensor.column_signs.contexts(columns[part])
            symbols = (is_negative[part] ^ is_mostly_negative).astype(np.uint8)
            self._writer.symbols(self._tables.column_signs, contexts, symbols)
            tensor.column_signs.learn(columns[part], is_negative[part])

    def _signs_by_neighbour(
        self, tensor: TensorState, is_chained: NDArray[np.bool_], is_negative: NDArray[np.bool_]
    ) -> None:
        is_other = np.diff(is_negative, prepend=False)
        symbols = np.where(is_chained, is_other, is_negative).astype(np.uint8)
        for part in calls(is_chained.size, tensor.seen, FIRST_CALL):
            contexts = is_chained[part].astype(np.int64)
            self._writer.symbols(self._tables.neighbour_signs, contexts, symbols[part])

    def _symbol(self, model: Model, context: int, symbol: int) -> None:
        self._writer.symbols(model, np.array([context]), np.array([symbol], dtype=np.uint8))

    def _bits(self, value: int, width: int) -> None:
        self._writer.bits(np.array([value]), np.array([width], dtype=np.uint8))


def _strip_height(tensor: TensorState, positions: Indices) -> int:
    """Rows per strip so that no strip has too many entries or rows."""
    by_row = np.bincount(positions // tensor.columns, minlength=tensor.rows)
    before = np.append(0, np.cumsum(by_row))
    lowest = min(tensor.rows, -(-STRIP_ELEMENTS // tensor.columns))
    height = min(tensor.rows, STRIP_ROWS)
    while height > lowest:
        edges = np.minimum(np.arange(0, tensor.rows + height, height), tensor.rows)
        if np.diff(before[edges]).max() <= STRIP_ENTRIES:
            break
        height = max(lowest, height * 7 // 8)
    return height


def _sign_mode(positions: Indices, is_negative: NDArray[np.bool_], width: int) -> int:
    """How signs are cheapest, by what each way of predicting them gets right."""
    columns = positions % width
    half = columns.size // 2
    sign = 1 - 2 * is_negative.astype(np.float64)
    lead = np.sign(np.bincount(columns[:half], weights=sign[:half], minlength=width))
    is_chained = have_left_neighbours(positions, columns)[1:]
    by_column = 2 * _saved_bits(lead[columns[half:]] * sign[half:])
    by_neighbour = _saved_bits((sign[1:] * sign[:-1])[is_chained])
    if max(by_column, by_neighbour) < LEAST_SAVED_BITS:
        return tables.JOINT
    return tables.BY_COLUMN if by_column >= by_neighbour else tables.BY_NEIGHBOUR


def _saved_bits(agreement: NDArray[np.float64]) -> float:
    """Bits saved on signs that agree (1) with a prediction or do not (-1); 0: none was made."""
    made = int(np.count_nonzero(agreement))
    right = int(np.count_nonzero(agreement > 0))
    # Two standard deviations less, so that chance saves nothing.
    share = (right - math.sqrt(made)) / max(1, made)
    if share <= 0.5:
        return 0.0
    return made * (1 + share * math.log2(share) + (1 - share) * math.log2(1 - share))


def _are_clustered(rows: Indices, columns: Indices, extent: tuple[int, int]) -> bool:
    """Whether clearly more entries have a right neighbour than row and column densities say."""
    positions = rows * extent[1] + columns
    found = float(have_left_neighbours(positions, columns).sum())
    by_row = np.bincount(rows, minlength=extent[0])
    by_column = np.append(np.bincount(columns, minlength=extent[1]), 0)
    expected = float((by_row[rows] * by_column[columns + 1]).sum()) / rows.size
    return found > CLUSTERED_SHARE * expected + 16


def _gap_symbols(gaps: Indices, shifts: Indices) -> NDArray[np.uint8]:
    symbols: NDArray[np.uint8] = tables.GAP_SYMBOL[np.minimum(gaps >> shifts, tables.ESCAPE_UNITS)]
    return symbols


def _entropy_bits(labels: Labels) -> float:
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / labels.size)).sum())


def _bits_of(weights: Floats, contexts: Indices, labels: Labels) -> float:
    """About what a call costs; its symbols are added to the weights."""
    flat = contexts * weights.shape[1] + labels
    hits = np.bincount(flat, minlength=weights.size).reshape(weights.shape)
    bits = -(hits * np.log2(weights / weights.sum(axis=1, keepdims=True))).sum()
    weights += hits * COUNT_STEP
    return float(bits)

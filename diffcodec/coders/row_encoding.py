"""Row-class coding, the encoder: the steps of `diffcodec.coders.rows.Decoder` in their order.

What the format leaves open is decided here: strips, labels, how labels are coded, and whether
signs follow their columns. Floating point only weighs these choices.
"""

import numpy as np
from numpy.typing import NDArray

from diffcodec.coders import row_tables as tables
from diffcodec.coders.rans import COUNT_STEP, Indices, Model, Writer
from diffcodec.coders.row_grid import (
    COUNT_BITS,
    FIRST_CALL,
    FIRST_GAP_CALL,
    HEIGHT_BITS,
    STRIP_ELEMENTS,
    STRIP_ENTRIES,
    STRIP_ROWS,
    Axes,
    ColumnSigns,
    Grid,
    Labels,
    TensorState,
    calls,
    gap_bits,
    label_calls,
)
from diffcodec.coders.row_labels import choose_labels
from diffcodec.coders.row_tables import Tables


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
        """Code one tensor; see `diffcodec.coders.rows.RowTensor`."""
        tensor = TensorState(shape, positions.size, largest)
        height = tensor.rows
        if not tensor.is_one_strip:
            height = _strip_height(tensor, positions)
            self._bits(height - 1, HEIGHT_BITS)
        tensor.start_levels(
            are_signs_predicted=_signs_pay(positions % tensor.columns, levels < 0, tensor.columns)
        )
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
        row_labels, column_labels = choose_labels(rows, columns, extent)
        grid = Grid(self._labels(row_labels, 0), self._labels(column_labels, 1))
        counts, gaps = grid.gaps(rows, columns)
        self._counts(grid, counts)
        self._gaps(grid, counts, gaps)
        self._levels(tensor, grid, rows, columns, levels)

    def _labels(self, labels: Labels, axis: int) -> Labels:
        """Code the labels of an axis; as they are decoded."""
        if (labels == labels[0]).all():
            self._symbol(self._tables.modes, axis, tables.ALIKE)
            return np.full(labels.size, tables.MEAN_LABEL, dtype=np.uint8)
        mode = self._cheapest_mode(labels, axis)
        self._symbol(self._tables.modes, axis, mode)
        model = self._axes.model(mode)
        for part in label_calls(mode, labels.size):
            contexts = self._axes.contexts(mode, axis, labels, part)
            self._writer.symbols(model, contexts, labels[part])
        self._axes.remember(labels)
        return labels

    def _cheapest_mode(self, labels: Labels, axis: int) -> int:
        def bits(mode: int) -> float:
            weights = self._axes.model(mode).weights.astype(np.float64)
            total = 0.0
            for part in label_calls(mode, labels.size):
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

    def _gaps(self, grid: Grid, counts: Indices, gaps: Indices) -> None:
        contexts, shifts = grid.gap_contexts(counts)
        symbols = tables.GAP_SYMBOL[np.minimum(gaps >> shifts, tables.ESCAPE_UNITS)]
        for part in calls(contexts.size, 0, FIRST_GAP_CALL):
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
            self._bits(int(tensor.signs is not None), 1)
        for label in tensor.unknown_labels(grid):
            of_label = magnitudes[labels == label].astype(np.int64)
            mean_class = tables.mean_class(int(of_label.sum()), max(1, of_label.size))
            self._symbol(self._tables.means, tensor.last_class, mean_class)
            tensor.start_label(self._tables, label, mean_class)
        is_negative = levels < 0
        symbols = magnitudes
        if tensor.signs is None:
            symbols = magnitudes << np.uint8(1) | is_negative
        for part in calls(levels.size, tensor.seen, FIRST_CALL):
            if tensor.levels.alphabet > 1:
                self._writer.symbols(tensor.levels, labels[part], symbols[part])
            if tensor.signs is not None:
                self._signs(tensor.signs, columns[part], is_negative[part])
        tensor.learn(self._tables, labels, magnitudes)

    def _signs(self, signs: ColumnSigns, columns: Indices, is_negative: NDArray[np.bool_]) -> None:
        contexts, is_mostly_negative = signs.contexts(columns)
        symbols = (is_negative ^ is_mostly_negative).astype(np.uint8)
        self._writer.symbols(self._tables.signs, contexts, symbols)
        signs.learn(columns, is_negative)

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


def _signs_pay(columns: Indices, is_negative: NDArray[np.bool_], width: int) -> bool:
    """Whether the prevailing sign of a column in its first half tells the second half's."""
    half = columns.size // 2
    sign = 1 - 2 * is_negative.astype(np.float64)
    lead = np.sign(np.bincount(columns[:half], weights=sign[:half], minlength=width))
    agreement = lead[columns[half:]] * sign[half:]
    # Two standard deviations above chance; below that a raw bit is cheaper than learning.
    return float(agreement.sum()) > 2 * float(np.abs(agreement).sum()) ** 0.5


def _bits_of(weights: NDArray[np.float64], contexts: Indices, labels: Labels) -> float:
    """About what a call costs; its symbols are added to the weights."""
    flat = contexts * weights.shape[1] + labels
    hits = np.bincount(flat, minlength=weights.size).reshape(weights.shape)
    bits = -(hits * np.log2(weights / weights.sum(axis=1, keepdims=True))).sum()
    weights += hits * COUNT_STEP
    return float(bits)

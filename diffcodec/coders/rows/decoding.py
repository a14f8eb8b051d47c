"""Positions and levels of sparse tensors by row classes: numpy alone, a vector at a time.

Non-zeros of a real diff crowd in few rows and columns (a unit that learns drags its whole row
along, and its column in the next matrix), so what an entry costs depends on where it stands. Each
row and each column of a tensor gets a label, its density class. Rows of one label crossed with
columns of one label make a *cell*: its elements, row by row, are a sequence that is about as
dense everywhere. Its number of entries is sent, which tells the distribution of the gaps without
any further parameter, and tells the context of every gap before the first is decoded: what a
vector coder needs. Gaps never cross a cell's end.

Levels follow in raster order: magnitudes by row label, signs (where that pays) by which sign
prevailed in their column so far. Tables learn as they go (`diffcodec.coders.rows.rans`), so next to
nothing is sent about them. Derivation and measurements: note.md beside this file.

A tensor comes in strips of consecutive rows with at most 65,536 entries, so that a device needs
bounded memory.

Letters: N entries, R rows, C columns of a strip; K the largest level of a tensor.
"""

from collections.abc import Callable, Iterator

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
    Axes,
    Grid,
    Labels,
    TensorState,
    calls,
    chain_signs,
    gap_bits,
    gap_calls,
    have_left_neighbours,
    label_calls,
)
from diffcodec.coders.rows.rans import Indices, Reader
from diffcodec.coders.rows.tables import Tables
from diffcodec.errors import FormatError

Levels = NDArray[np.int8]

# Marking entries in a map of the strip is quicker than sorting them, where it is not too large.
SORTED_SHARE = 64


class Decoder:
    """Decodes tensor after tensor from bytes that are read forwards.

    For each tensor call `begin`, then exhaust `runs`; after the last call `finish`.

    Args:
        read: Gives exactly the next n bytes (uint8), or raises FormatError.
        coded_length: Bytes of the stream.

    Raises:
        FormatError: the stream cannot be one.
    """

    def __init__(self, read: Callable[[int], NDArray[np.uint8]], coded_length: int) -> None:
        self._reader = Reader(read, coded_length)
        self._tables = Tables()
        self._axes = Axes(self._tables)

    def begin(self, shape: tuple[int, ...], count: int, largest: int) -> None:
        """Announce the next tensor: its shape, its number of entries and its largest level.

        All are believed: check 1 <= count <= elements < 2**32 and 1 <= largest <= 127 first.
        """
        self._tensor = TensorState(shape, count, largest)

    def runs(self) -> Iterator[tuple[NDArray[np.int64], Levels]]:
        """Positions (int64, increasing) and levels (int8) of the tensor, in runs of 1 to 65,536.

        Raises:
            FormatError: while iterating, at the first thing that cannot be.
        """
        tensor = self._tensor
        left = tensor.count
        height = self._strip_height(tensor)
        for first in range(0, tensor.rows, height):
            extent = (min(height, tensor.rows - first), tensor.columns)
            count = left if first + height >= tensor.rows else self._bits(COUNT_BITS)
            if count > min(left, STRIP_ENTRIES, extent[0] * extent[1]):
                raise FormatError(
                    f"strip: expected at most {left} entries of {left} left, found {count}"
                )
            left -= count
            if count:
                yield self._strip(tensor, first, extent, count)

    def finish(self) -> None:
        """Require that the stream is over.

        Raises:
            FormatError: it goes on.
        """
        self._reader.finish()

    def _strip_height(self, tensor: TensorState) -> int:
        if tensor.is_one_strip:
            return tensor.rows
        height = self._bits(HEIGHT_BITS) + 1
        if height * tensor.columns < STRIP_ELEMENTS or height > tensor.rows:
            raise FormatError(
                f"strips: expected {STRIP_ELEMENTS} elements or more in at most {tensor.rows} "
                f"rows, found {height} rows of {tensor.columns}"
            )
        return height

    def _strip(
        self, tensor: TensorState, first: int, extent: tuple[int, int], count: int
    ) -> tuple[NDArray[np.int64], Levels]:
        grid = Grid(self._labels(extent[0], 0), self._labels(extent[1], 1))
        counts = self._counts(grid, count)
        in_cells = grid.positions(counts, self._gaps(grid, counts))
        positions = _in_raster_order(in_cells, extent[0] * extent[1])
        last = first * tensor.columns + int(positions[-1])
        if last >= tensor.size:
            raise FormatError(f"expected positions below {tensor.size}, found {last}")
        levels = self._levels(tensor, grid, positions)
        return positions + np.int64(first * tensor.columns), levels

    def _labels(self, length: int, axis: int) -> Labels:
        mode = int(self._reader.symbols(self._tables.modes, np.array([axis]))[0])
        labels = np.full(length, tables.MEAN_LABEL, dtype=np.uint8)
        if mode == tables.ALIKE:
            return labels
        if mode not in self._axes.modes(length):
            raise FormatError(f"labels: expected a mode for {length} lines, found {mode}")
        model = self._axes.model(mode)
        for part in label_calls(mode, length, model.seen):
            contexts = self._axes.contexts(mode, axis, labels, part)
            labels[part] = self._reader.symbols(model, contexts)
        self._axes.remember(labels)
        return labels

    def _counts(self, grid: Grid, count: int) -> Indices:
        """Entries of each cell; the last one has what is left."""
        if not grid.sizes.size:
            raise FormatError(f"strip: expected a cell for {count} entries, found none")
        contexts = grid.count_contexts(count)
        lengths = self._reader.symbols(self._tables.counts, contexts).astype(np.int64)
        low = self._reader.bits(np.maximum(lengths - 1, 0).astype(np.uint8))
        counts = low + (1 << lengths >> 1)
        counts = np.append(counts, count - int(counts.sum()))
        if counts[-1] < 0 or (counts > grid.sizes).any():
            raise FormatError(f"cells: expected {count} entries that fit into them, found others")
        return counts

    def _gaps(self, grid: Grid, counts: Indices) -> Indices:
        contexts, shifts = grid.gap_contexts(counts, self._bits(1))
        symbols = np.empty(contexts.size, dtype=np.uint8)
        for part in gap_calls(contexts.size, self._tables.gaps.seen):
            symbols[part] = self._reader.symbols(self._tables.gaps, contexts[part])
        gaps = tables.GAP_BASE[symbols] << shifts
        low = self._reader.bits(gap_bits(symbols, shifts))
        is_escape = symbols == tables.GAP_ESCAPE
        if (low[is_escape] < gaps[is_escape]).any():
            raise FormatError("gaps: expected an escape for large gaps only")
        gaps[is_escape] = 0
        return gaps + low

    def _levels(self, tensor: TensorState, grid: Grid, positions: NDArray[np.int32]) -> Levels:
        rows = positions // np.int32(tensor.columns)
        labels = grid.row_labels.astype(np.int64)[rows]
        if not tensor.seen:
            tensor.start_levels(self._sign_mode())
        for label in tensor.unknown_labels(grid):
            context = np.array([tensor.last_class])
            mean_class = int(self._reader.symbols(self._tables.means, context)[0])
            tensor.start_label(self._tables, label, mean_class)
        symbols = np.zeros(positions.size, dtype=np.uint8)
        if tensor.levels.alphabet > 1:
            for part in calls(positions.size, tensor.seen, FIRST_CALL):
                symbols[part] = self._reader.symbols(tensor.levels, labels[part])
        if tensor.sign_mode == tables.JOINT:
            is_negative = (symbols & 1).astype(bool)
            symbols >>= 1
        else:
            is_negative = self._signs(tensor, positions, positions - rows * tensor.columns)
        tensor.learn(self._tables, labels, symbols)
        # Two's complement: -x is ~x + 1.
        negative = is_negative.view(np.int8)
        levels: Levels = ((symbols.view(np.int8) + np.int8(1)) ^ -negative) + negative
        return levels

    def _signs(
        self, tensor: TensorState, positions: NDArray[np.int32], columns: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        if tensor.sign_mode == tables.BY_COLUMN:
            return self._signs_by_column(tensor, columns.astype(np.int64))
        return self._signs_by_neighbour(tensor, have_left_neighbours(positions, columns))

    def _sign_mode(self) -> int:
        mode = self._bits(SIGN_MODE_BITS)
        if mode > tables.BY_NEIGHBOUR:
            raise FormatError(f"signs: expected mode 0 to {tables.BY_NEIGHBOUR}, found {mode}")
        return mode

    def _signs_by_column(self, tensor: TensorState, columns: Indices) -> NDArray[np.bool_]:
        is_negative = np.empty(columns.size, dtype=bool)
        for part in calls(columns.size, tensor.seen, FIRST_CALL):
            contexts, is_mostly_negative = tensor.column_signs.contexts(columns[part])
            symbols = self._reader.symbols(self._tables.column_signs, contexts)
            is_negative[part] = symbols.astype(bool) ^ is_mostly_negative
            tensor.column_signs.learn(columns[part], is_negative[part])
        return is_negative

    def _signs_by_neighbour(
        self, tensor: TensorState, is_chained: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        symbols = np.empty(is_chained.size, dtype=np.uint8)
        for part in calls(is_chained.size, tensor.seen, FIRST_CALL):
            contexts = is_chained[part].astype(np.int64)
            symbols[part] = self._reader.symbols(self._tables.neighbour_signs, contexts)
        return chain_signs(symbols, is_chained)

    def _bits(self, width: int) -> int:
        return int(self._reader.bits(np.array([width], dtype=np.uint8))[0])


def _in_raster_order(positions: NDArray[np.int32], elements: int) -> NDArray[np.int32]:
    """Distinct positions below `elements`, sorted."""
    if elements > SORTED_SHARE * positions.size:
        return np.sort(positions, kind="stable")  # cells are runs already
    is_entry = np.zeros(elements, dtype=bool)
    is_entry[positions] = True
    return np.flatnonzero(is_entry).astype(np.int32)

"""The section of row classes (4.5 of docs/diff-format-v1.md), as slow as the document reads."""

from typing import NamedTuple

from tests.vectors.independent_header import Change, Entries
from tests.vectors.independent_rans import Model, Stream, call_lengths


def decode(section: bytes, sparse: list[Change]) -> list[Entries]:
    decoder = Rows(section)
    found = [decoder.tensor(change) for change in sparse]
    decoder.stream.expect_end()
    return found


# Priors


def near(contexts: int, symbols: int, base: int, equal: int, beside: int) -> list[list[int]]:
    """More weight where the symbol is the context, and one off."""
    more = {0: equal, 1: beside}
    return [
        [base + more.get(abs(s - context), 0) for s in range(symbols)]
        for context in range(contexts)
    ]


def powers(d: int, u: int, count: int) -> list[int]:
    factor, p = ((u - d) << 32) // u, [1 << 32]
    while len(p) < count:
        p += [value * (factor >> 2) >> 30 for value in p]
        factor = factor * factor >> 32
    return p[:count]


def gap_base(symbol: int) -> int:
    a, m = divmod(symbol - 64, 4)
    return symbol if symbol < 64 else (4 + m) << (4 + a)


def gap_priors() -> list[list[int]]:
    first, second = [], []
    for c in range(132):
        p = [*powers(8, (9 + 2 * (c % 4)) << min(c // 4, 4), 1025), 0]
        bases = [*map(gap_base, range(80)), 1024, 1025]
        first.append([(p[bases[s]] - p[bases[s + 1]]) >> 19 for s in range(81)])
        second.append([first[-1][0] + 4096, *first[-1][1:]])
    return first + second


def magnitude_priors(largest: int) -> list[list[int]]:
    priors = []
    for z in range(36):
        q = powers(32, ((9 + 2 * (z % 4)) << (z // 4)) + 24, largest + 1)
        priors.append([((q[v] - q[v + 1]) >> 26) + 1 for v in range(largest)])
    return priors


def octave_class(value: int) -> int:
    octave = value.bit_length() - 1
    return 4 * octave + (value << 2 >> octave & 3)


# Tensors and strips


class Cell(NamedTuple):
    """Rows of label i crossed with columns of label j."""

    i: int
    j: int
    rows: list[int]
    columns: list[int]

    @property
    def size(self) -> int:
        return len(self.rows) * len(self.columns)


def lines_of(labels: list[int], label: int) -> list[int]:
    return [line for line, its_label in enumerate(labels) if its_label == label]


class Rows:
    """The decoder of one section: its stream, and the models that live as long."""

    def __init__(self, section: bytes):
        self.stream = Stream(section)
        self.modes = Model([[2] * 19] * 2)
        self.plain = Model([[8] * 16] * 2)
        self.known = Model(near(17, 16, 8, 40, 13))
        self.counts = Model(near(18, 18, 2, 34, 11))
        self.gaps = Model(gap_priors())
        self.means = Model([[2] * 36] * 37)
        self.by_column = Model([[256] * 2] * 36)
        self.by_neighbour = Model([[256] * 2] * 2)
        self.remembered: list[list[int]] = []  # labels of the latest axes, the last one first
        self.magnitudes: dict[int, list[list[int]]] = {}  # P by K

    def tensor(self, change: Change) -> Entries:
        tensor, (rows, columns) = change.tensor, change.tensor.matrix
        if rows == 1 or not 16 <= columns <= 16_384:
            columns = min(tensor.size, 256)
            rows = -(-tensor.size // columns)
        height = rows
        if change.count > 65_536 or rows > 65_536:
            height = self.stream.number(16) + 1
        levels, entries = None, []
        for top in range(0, rows, height):
            left = change.count - len(entries)
            is_last = top + height >= rows
            n = left if is_last else self.stream.number(17)
            if n == 0:
                continue
            labels, places = self.places(n, min(height, rows - top), columns)
            levels = levels or Levels(self, change.largest)
            for (row, column), level in zip(places, levels.strip(labels, places), strict=True):
                entries.append(((top + row) * columns + column, level))
        assert len(entries) == change.count
        assert all(position < tensor.size for position, _ in entries)
        return entries

    def places(self, n: int, rows: int, columns: int) -> tuple[list[int], Entries]:
        """The row labels of a strip, and its entries' rows and columns in raster order."""
        row_labels, column_labels = self.labels(0, rows), self.labels(1, columns)
        cells = [
            Cell(i, j, lines_of(row_labels, i), lines_of(column_labels, j))
            for i in sorted(set(row_labels) - {0})
            for j in sorted(set(column_labels) - {0})
        ]
        counts = self.cell_counts(n, rows * columns, cells)
        places = []
        for cell, gaps in zip(cells, self.cell_gaps(cells, counts), strict=True):
            q = -1
            for gap in gaps:
                q += gap + 1
                assert q < cell.size
                row, column = divmod(q, len(cell.columns))
                places.append((cell.rows[row], cell.columns[column]))
        return row_labels, sorted(places)

    def labels(self, axis: int, lines: int) -> list[int]:
        mode = self.stream.symbol(self.modes, axis)
        if mode == 0:
            return [5] * lines
        found: list[int] = []
        if mode == 2:
            for _ in range(4):
                before = found[-(lines // 4) :] or [16] * (lines // 4)
                found += self.stream.symbols(self.known, before)
        else:
            model = self.plain if mode == 1 else self.known
            contexts = [axis] * lines if mode == 1 else self.remembered[mode - 3]
            assert len(contexts) == lines
            for length in call_lengths(lines, max(64, model.symbols // 8)):
                found += self.stream.symbols(model, contexts[len(found) :][:length])
        self.remembered = [found, *self.remembered][:16]
        return found

    def cell_counts(self, n: int, area: int, cells: list[Cell]) -> list[int]:
        contexts = [
            min(17, (((n * cell.size << 11) // area) >> (cell.i + cell.j)).bit_length())
            for cell in cells[:-1]
        ]
        digits = self.stream.symbols(self.counts, contexts)
        low = self.stream.bits([max(b - 1, 0) for b in digits])
        counts = [(1 << b - 1) + value if b else 0 for b, value in zip(digits, low, strict=True)]
        return [*counts, n - sum(counts)]

    def cell_gaps(self, cells: list[Cell], counts: list[int]) -> list[list[int]]:
        gap_set = self.stream.number(1)
        classes = []
        for cell, count in zip(cells, counts, strict=True):
            if count:
                classes += [octave_class(cell.size * 256 // count) - 32] * count
        symbols: list[int] = []
        for length in call_lengths(len(classes), max(1024, self.gaps.symbols // 8)):
            contexts = [gap_set * 132 + c for c in classes[len(symbols) :][:length]]
            symbols += self.stream.symbols(self.gaps, contexts)
        shifts = [min(max(c // 4 - 4, 0), 24) for c in classes]
        widths = [
            32 if s == 80 else shift + (0 if s < 64 else 4 + (s - 64) // 4)
            for s, shift in zip(symbols, shifts, strict=True)
        ]
        raw = self.stream.bits(widths)
        bases = [0 if s == 80 else gap_base(s) for s in symbols]
        gaps = iter([(b << s) + r for b, s, r in zip(bases, shifts, raw, strict=True)])
        return [[next(gaps) for _ in range(count)] for count in counts]


class Levels:
    """Levels of one tensor: its model, and what its signs have been."""

    def __init__(self, section: Rows, largest: int):
        self.section, self.stream, self.largest = section, section.stream, largest
        self.sign_mode = self.stream.number(2)
        self.model = Model([[1] * (largest if self.sign_mode else 2 * largest)] * 16)
        self.mean = 36
        self.started: dict[int, int] = {}  # mean class by row label
        self.coded = 0
        self.column_signs: dict[int, list[int]] = {}  # positive and negative entries

    def strip(self, row_labels: list[int], places: Entries) -> list[int]:
        labels = [row_labels[row] for row, _ in places]
        if self.largest > 1:
            self.start(sorted(set(row_labels) - {0}))
        lengths = list(call_lengths(len(places), 64, self.coded))
        self.coded += len(places)
        symbols = self.symbols(labels, lengths)
        if self.sign_mode == 0:
            magnitudes, signs = [s // 2 + 1 for s in symbols], [s % 2 for s in symbols]
        else:
            by_mode = {1: self.signs_by_column, 2: self.signs_by_neighbour}
            magnitudes, signs = [s + 1 for s in symbols], by_mode[self.sign_mode](places, lengths)
        if self.largest > 1:
            p = self.section.magnitudes[self.largest]
            for label, magnitude in zip(labels, magnitudes, strict=True):
                p[self.started[label]][magnitude - 1] += 1
        return [-m if s else m for m, s in zip(magnitudes, signs, strict=True)]

    def start(self, labels: list[int]) -> None:
        p = self.section.magnitudes.setdefault(self.largest, magnitude_priors(self.largest))
        for label in labels:
            if label not in self.started:
                self.mean = self.stream.symbol(self.section.means, self.mean)
                self.started[label] = self.mean
                total = sum(p[self.mean])
                w = [value * 512 // total + 1 for value in p[self.mean]]
                both = 1 if self.sign_mode else 2
                self.model.restart(label, [value for value in w for _ in range(both)])

    def symbols(self, labels: list[int], lengths: list[int]) -> list[int]:
        if self.sign_mode and self.largest == 1:
            return [0] * len(labels)
        found: list[int] = []
        for length in lengths:
            found += self.stream.symbols(self.model, labels[len(found) :][:length])
        return found

    def signs_by_column(self, places: Entries, lengths: list[int]) -> list[int]:
        signs: list[int] = []
        for length in lengths:
            columns = [column for _, column in places[len(signs) :][:length]]
            seen = [self.column_signs.setdefault(column, [0, 0]) for column in columns]
            contexts = [
                min(5, abs(m - p).bit_length()) * 6 + min(5, (m + p).bit_length()) for p, m in seen
            ]
            prevails = [int(m > p) for p, m in seen]
            symbols = self.stream.symbols(self.section.by_column, contexts)
            signs += [s ^ sign for s, sign in zip(symbols, prevails, strict=True)]
            for pair, sign in zip(seen, signs[-length:], strict=True):
                pair[sign] += 1
        return signs

    def signs_by_neighbour(self, places: Entries, lengths: list[int]) -> list[int]:
        signs: list[int] = []
        known: dict[tuple[int, int], int] = {}
        entries = set(places)
        is_chained = [int((row, column - 1) in entries) for row, column in places]
        for length in lengths:
            contexts = is_chained[len(signs) :][:length]
            for symbol in self.stream.symbols(self.section.by_neighbour, contexts):
                row, column = places[len(signs)]
                known[row, column] = symbol ^ known.get((row, column - 1), 0)
                signs.append(known[row, column])
        return signs

"""Entries of coder `max` (4.6 of docs/diff-format-v1.md), one element in turn.

Names are the document's where it gives any.
"""

import math
from dataclasses import dataclass, field

from tests.vectors.independent_header import Change, Entries, Tensor
from tests.vectors.independent_votes import E, L, RangeDecoder, T, Votes, clamp, probability, within


def decode_entries(section: bytes, sparse: list[Change]) -> list[Entries]:
    kept = Kept(RangeDecoder(section))
    found = []
    for change in sparse:
        levels = SparseTensor(kept, change).decode()
        found.append([(i, level) for i, level in enumerate(levels) if level])
    kept.stream.expect_end()
    return found


class Kept:
    """The numbers that are kept through the section."""

    def __init__(self, stream: RangeDecoder):
        self.stream = stream
        self.wc, self.wr, self.wg = [838861] * 2, [629146] * 2, [838861] * 2
        self.gate = [[0] * 8 for _ in range(4)]
        self.hits = [[0] * 8 for _ in range(4)]
        self.empty: dict[tuple[int, ...], tuple[int, int]] = {}
        self.lift = [[number, number // 2] for number in L]
        self.sw = [98304, 19661, 131072, 131072, 131072]
        self.magnitudes = Votes(stream, least_rate=768)

    def forget(self, digits: int) -> None:
        """What happens to counts at the start of a tensor."""
        self.hits = [[min(4, count) for count in hits] for hits in self.hits]
        for table in self.magnitudes.tables:
            for (_, d, _), vote in table.items():
                if d == digits:
                    vote[1] = min(4, vote[1])


def row_length(shape: tuple[int, ...]) -> int:
    rows, columns = Tensor("", 0, shape).matrix
    if rows == 1:
        columns = 64
    if columns < 16:
        columns *= -(-32 // columns)
    return 4096 if columns > 65_536 else columns


def gate_distance(shape: tuple[int, ...]) -> int:
    """G: a quarter of the tensor, or of its first of two halves; 0 where there are no gates."""
    size, divisions = math.prod(shape), 1
    q = shape[0] if shape else 1
    if len(shape) == 3 and shape[0] == 2:
        q, divisions = shape[1], 2
    return size // (4 * divisions) if q % 4 == 0 and 256 <= size <= 2**24 else 0


def rowrate(rowmass: int) -> int:
    return 2**30 // (39322 + 4096 * min(1023, rowmass >> 12))


def colrate(n: int) -> int:
    return max(328, 163840 // (15 + 6 * n))


def gaterate(n: int) -> int:
    return max(328, 16384 // (2 + 2 * n))


def share(n: int) -> int:
    return 16384 // (n + 1)


@dataclass
class Row:
    """What is known of the row so far."""

    row: int = 0
    rowmass: int = 0
    rowseen: int = 0
    rowmean: int = 0
    own: list[int] = field(default_factory=lambda: [0] * 4)
    agree: list[int] = field(default_factory=lambda: [0] * 3)


class Segment:
    """A part of a row: n elements, the first of number a in column c."""

    def __init__(self, tensor: "SparseTensor", a: int, c: int, n: int):
        self.a, self.c, self.n = a, c, n
        distance = tensor.gate_distance
        self.g = sum(distance * k <= a for k in (1, 2, 3)) if distance else 0
        self.f = int(self.g > 0)
        self.around = [
            [self.gate_level(tensor, a + i - (k + 1) * distance, k) for k in range(3)]
            for i in range(n)
        ]

    def gate_level(self, tensor: "SparseTensor", number: int, k: int) -> int:
        return tensor.levels[number] if k < self.g and number < self.a else 0


class SparseTensor:
    """The decoder of one tensor."""

    def __init__(self, kept: Kept, change: Change):
        self.kept, self.stream = kept, kept.stream
        self.size, self.left, self.largest = change.tensor.size, change.count, change.largest
        self.digits = (change.largest - 1).bit_length()
        shape = change.tensor.shape
        while len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
        self.columns, self.gate_distance = row_length(shape), gate_distance(shape)
        self.levels = [0] * self.size
        self.was_empty = self.sum = self.count = 0
        density = self.left * 65536 // self.size
        self.base = 512 * (next((i for i in range(2816) if T[i] >= density), 2815) - 1408) + 256
        self.col, self.lean, self.colseen, self.colmean = ([0] * self.columns for _ in range(4))
        self.factor = [
            [((4 * j + d + 1) * 2654435761 % 2**32 >> 20) - 2048 for d in range(4)]
            for j in range(self.columns)
        ]
        kept.forget(self.digits)

    def decode(self) -> list[int]:
        longest = -(-self.columns // -(-self.columns // 96))
        for start in range(0, self.size, self.columns):
            row, row_size = Row(), min(self.columns, self.size - start)
            for c in range(0, row_size, longest):
                if self.left > 0:
                    segment = Segment(self, start + c, c, min(longest, row_size - c))
                    self.segment(row, segment)
        assert self.left == 0
        return self.levels

    def segment(self, row: Row, segment: Segment) -> None:
        m = segment.n * probability(self.base + row.row)
        up = None
        if m < 65536 and self.left <= self.size - segment.a - segment.n:
            o = m.bit_length() - 1
            q = 2 * o + (m >> o - 1 & 1 if o > 0 else 0)
            if self.is_empty(q, segment, row):
                row.row = max(-327680, row.row - ((m * rowrate(row.rowmass)) >> 15))
                return
            up = self.kept.lift[q]
        self.elements(row, segment, up)

    def is_empty(self, q: int, segment: Segment, row: Row) -> bool:
        """Step 1."""
        key = (q, segment.c > 0, row.rowseen > 0, self.was_empty)
        p, k = self.kept.empty.get(key, (64 * E[q], 0))
        b = self.stream.bit(within(p >> 6, 1, 65535))
        if b:
            p += 5 * (2**22 - 1 - p) // (5 * k + 8)
        else:
            p -= 5 * p // (5 * k + 8)
        self.kept.empty[key] = p, min(60, k + 1)
        self.was_empty = b
        return bool(b)

    def elements(self, row: Row, segment: Segment, up: list[int] | None) -> None:
        """Steps 2 and 3; then step 4."""
        kept, n, a, c = self.kept, segment.n, segment.a, segment.c
        g, f, is_asked = segment.g, segment.f, up is not None
        up = [0, 0] if up is None else up
        mean = max(256, 256 * self.sum // self.count if self.count else 115 * self.largest)
        x = [self.col[c + i] >> 6 for i in range(n)]
        t = [sum((level != 0) << 2 - k for k, level in enumerate(ls)) for ls in segment.around]
        logit = [
            self.base
            + ((x[i] * (kept.wc[f] >> 8)) >> 6)
            + (((kept.gate[g][t[i]] >> 6) * (kept.wg[f] >> 8)) >> 6)
            for i in range(n)
        ]
        err, seen0 = [0] * n, self.colseen[c : c + n]
        is_all = self.left == self.size - a
        found = slope = i = 0
        while i < n and self.left > 0:
            part = (((row.row >> 4) * (kept.wr[f] >> 8)) >> 8) + up[found > 0]
            lesson = (probability(self.base + part) * rowrate(row.rowmass)) >> 14
            s = min(8 if lesson < 4096 else 2, n - i - (is_asked and found == 0))
            if is_all or s == 0:
                self.hit(row, segment, i, logit[i] + part, mean)
                found, i = found + 1, i + 1
                continue
            mass = b = 0
            while s > 0 and not b:
                p = probability(logit[i] + part)
                b = self.stream.bit(p)
                err[i] = (65536 * b - p) >> 1
                mass, i, s = mass + p, i + 1, s - 1
            e = 65536 * b - mass
            slope += e * (row.row >> 6)
            row.rowmass += mass
            row.row = clamp(row.row + ((e * rowrate(row.rowmass)) >> 14), 393216)
            if is_asked:
                up[found > 0] = clamp(up[found > 0] + (e >> 6), 393216)
            if b:
                self.hit(row, segment, i - 1, logit[i - 1] + part, mean)
                found += 1
        if self.left > 0:
            self.learn(segment, x, t, err, seen0, slope)

    def learn(
        self,
        segment: Segment,
        x: list[int],
        t: list[int],
        err: list[int],
        seen0: list[int],
        slope: int,
    ) -> None:
        """Step 4."""
        kept, g, f = self.kept, segment.g, segment.f
        cs = gs = 0
        ge = [0] * 8
        for i in range(segment.n):
            j = segment.c + i
            cs += (err[i] * x[i]) >> 8
            self.col[j] = clamp(self.col[j] + ((err[i] * colrate(seen0[i])) >> 13), 327680)
            ge[t[i]] += err[i]
            if self.levels[segment.a + i]:
                kept.hits[g][t[i]] = min(63, kept.hits[g][t[i]] + 1)
        for k, (gate, hits) in enumerate(zip(kept.gate[g], kept.hits[g], strict=True)):
            gs += ge[k] * (gate >> 6)
            kept.gate[g][k] = clamp(gate + ((ge[k] * gaterate(hits)) >> 13), 327680)
        kept.wc[f] = within(kept.wc[f] + ((512 * cs) >> 15), 0, 4194303)
        kept.wr[f] = within(kept.wr[f] + (slope >> 15), 0, 4194303)
        kept.wg[f] = within(kept.wg[f] + ((2 * gs) >> 15), 0, 4194303)

    def hit(self, row: Row, segment: Segment, i: int, logit: int, mean: int) -> None:
        j, around = segment.c + i, segment.around[i]
        is_positive = self.sign(row, j, around)
        magnitude = self.magnitude(row, j, around, logit, mean)
        self.levels[segment.a + i] = magnitude if is_positive else -magnitude
        self.colseen[j] = min(63, self.colseen[j] + 1)
        row.rowseen = min(63, row.rowseen + 1)
        self.left -= 1

    def sign(self, row: Row, j: int, around: list[int]) -> bool:
        sw, factor, own, agree = self.kept.sw, self.factor[j], row.own, row.agree
        dot = sum(o * w for o, w in zip(own, factor, strict=True)) >> 12
        signs = [(level > 0) - (level < 0) for level in around]
        inputs = [clamp(dot, 24576), self.lean[j]]
        inputs += [sign * a for sign, a in zip(signs, agree, strict=True)]
        p = probability(sum((w * v) >> 12 for w, v in zip(sw, inputs, strict=True)))
        b = self.stream.bit(p)
        e, e2 = 65536 * b - p, 65536 * b - probability(16 * dot)
        sw[:] = [clamp(w + ((e * v) >> 16), 524288) for w, v in zip(sw, inputs, strict=True)]
        for d in range(4):
            old_own, old_factor = own[d], factor[d]
            own[d] = clamp(old_own + ((e2 * old_factor) >> 16), 32768)
            factor[d] = clamp(old_factor + ((5 * e2 * old_own) >> 20), 32768)
        target = 8192 if b else -8192
        self.lean[j] += ((target - self.lean[j]) * share(self.colseen[j] + 2)) >> 14
        for k, sign in enumerate(signs):
            if sign:
                agree[k] = clamp(agree[k] + (2048 if (sign > 0) == b else -2048), 12288)
        return bool(b)

    def magnitude(self, row: Row, j: int, around: list[int], logit: int, mean: int) -> int:
        per = 2**24 // mean
        rm = row.rowmean if row.rowseen > 0 else mean
        cm = self.colmean[j] if self.colseen[j] > 0 else mean
        w, y = sum(level != 0 for level in around), sum(map(abs, around))
        classes = (
            0,
            within(((rm * per) >> 21) - 4, 0, 9),
            within(((cm * per) >> 21) - 4, 0, 9),
            within(((y * (6 // w) * per * 4) // 6) >> 16, 1, 7) if w else 0,
            within((logit >> 16) + 6, 0, 9),
        )
        v = 1 + self.kept.magnitudes.number(self.largest - 1, self.digits, classes)
        self.sum, self.count = self.sum + v, self.count + 1
        if self.count > 400:
            self.sum, self.count = self.sum // 2, self.count // 2
        row.rowmean = rm + (((256 * v - rm) * share(row.rowseen + 2)) >> 14)
        self.colmean[j] = cm + (((256 * v - cm) * share(self.colseen[j] + 4)) >> 14)
        return v

"""The sparse stream of the coder `max` in plain Python: see reference.py and note.md."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from diffcodec.coders.max.matrix import Matrix
from diffcodec.coders.max.reference import (
    LEAST_SPARSE,
    ONE,
    TABLE,
    RangeDecoder,
    Votes,
    clamp,
    squash,
)
from diffcodec.coders.max.tables import EMPTY, LIFT
from diffcodec.errors import FormatError

SEGMENT = 96
GATE_CONTEXTS = 8
EMPTY_MOST = ONE
FACTORS = 4
SEEN_HITS = 63
EMPTY_RATES = 60
DOUBT = 4
COLUMN_RATES = [max(328, 163_840 // (15 + 6 * n)) for n in range(SEEN_HITS + 1)]
GATE_RATES = [max(328, 16_384 // (2 + 2 * n)) for n in range(SEEN_HITS + 1)]
ROW_RATES = [2**30 // (39_322 + 4096 * k) for k in range(1024)]
SHARES = [16_384 // (n + 1) for n in range(SEEN_HITS + 5)]


@dataclass
class Learnt:
    """What one tensor teaches the next."""

    # [no gate before, at least one]; 2^20 = 1.
    column_weight: list[int] = field(default_factory=lambda: [838_861] * 2)
    row_weight: list[int] = field(default_factory=lambda: [629_146] * 2)
    gate_weight: list[int] = field(default_factory=lambda: [838_861] * 2)
    gate: list[list[int]] = field(default_factory=lambda: [[0] * GATE_CONTEXTS for _ in range(4)])
    gate_hits: list[list[int]] = field(
        default_factory=lambda: [[0] * GATE_CONTEXTS for _ in range(4)]
    )
    empty: dict[tuple[int, bool, bool, bool], int] = field(default_factory=dict)
    empty_seen: dict[tuple[int, bool, bool, bool], int] = field(default_factory=dict)
    lift: dict[int, list[int]] = field(default_factory=dict)
    sign_weight: list[int] = field(
        default_factory=lambda: [98_304, 19_661, 131_072, 131_072, 131_072]
    )
    magnitude: Votes = field(default_factory=lambda: Votes(LEAST_SPARSE))


def decode_sparse(
    coded: bytes, tensors: Sequence[tuple[tuple[int, ...], int, int]]
) -> list[list[int]]:
    """Dense levels of each tensor, described by (shape, non-zeros, largest level).

    Raises:
        FormatError: the bytes are not what an encoder writes.
    """
    coder, learnt = RangeDecoder(coded), Learnt()
    results = [
        Tensor(coder, learnt, Matrix.of(shape), count, largest).decode()
        for shape, count, largest in tensors
    ]
    coder.finish()
    return results


class Tensor:
    """One tensor's model and its decoding."""

    def __init__(
        self, coder: RangeDecoder, learnt: Learnt, matrix: Matrix, count: int, largest: int
    ) -> None:
        self.coder, self.learnt, self.matrix = coder, learnt, matrix
        self.remaining, self.largest = count, largest
        self.bits = (largest - 1).bit_length()
        self.base = base_logit(count, matrix.size)
        self.levels = [0] * matrix.size
        self.sum = self.count = 0
        self.was_empty = False
        width = matrix.width
        self.column = [0] * width
        self.column_rate = [COLUMN_RATES[0]] * width
        self.leaning, self.column_mean, self.column_seen = [0] * width, [0] * width, [0] * width
        self.factors = [
            [((FACTORS * j + d + 1) * 2_654_435_761 % 2**32 >> 20) - 2048 for d in range(FACTORS)]
            for j in range(width)
        ]
        learnt.magnitude.doubt(self.bits, DOUBT)
        for hits in learnt.gate_hits:
            hits[:] = [min(DOUBT, n) for n in hits]

    def decode(self) -> list[int]:
        """All levels, in C order."""
        width, size = self.matrix.width, self.matrix.size
        segments = -(-width // SEGMENT)
        step = -(-width // segments)
        for row in range(0, size, width):
            self.row = self.row_mass = self.row_seen = self.row_mean = 0
            self.own, self.agreement = [0] * FACTORS, [0] * 3
            for start in range(0, min(width, size - row), step):
                if self.remaining == 0:
                    return self.levels
                end = min(row + width, row + start + step, size)
                self.segment(row + start, start, end - row - start)
        if self.remaining:
            raise FormatError(
                f"expected {self.remaining} more non-zeros in a tensor, found its end"
            )
        return self.levels

    def segment(self, at: int, start: int, length: int) -> None:
        """Elements at .. at + length - 1, which are the columns from `start` on."""
        lift = [0, 0]
        is_empty, asked = self.is_empty(at, start, length)
        if is_empty:
            return
        if asked is not None:
            lift = self.learnt.lift.setdefault(asked, [LIFT[asked], LIFT[asked] // 2])
        self.mean = 256 * self.sum // self.count if self.count else 115 * self.largest
        self.mean = max(256, self.mean)
        self.per_mean = 2**24 // self.mean
        gates = 0
        while gates < 3 and self.matrix.lag and at >= (gates + 1) * self.matrix.lag:
            gates += 1
        contexts = [self.context(at + j, gates) for j in range(length)]
        logits, narrow = self.logits(start, contexts, gates)
        errors, slope = self.elements(at, start, logits, lift, asked is not None, gates)
        if self.remaining:
            self.learn(at, start, contexts, narrow, errors, slope, gates)

    def is_empty(self, at: int, start: int, length: int) -> tuple[bool, int | None]:
        """Whether all elements are zero, and the class of what was expected where it was asked."""
        mass = length * squash(self.base + self.row)
        if mass >= EMPTY_MOST or self.remaining > self.matrix.size - at - length:
            return False, None
        octave = max(1, mass).bit_length() - 1
        asked = 2 * octave + (mass >> (octave - 1) & 1 if octave else 0)
        context = (asked, start > 0, self.row_seen > 0, self.was_empty)
        p = self.learnt.empty.get(context, EMPTY[asked] << 6)
        seen = self.learnt.empty_seen.get(context, 0)
        is_empty = bool(self.coder.bit(max(1, min(ONE - 1, p >> 6))))
        miss = 2**22 - 1 - p if is_empty else p
        self.learnt.empty[context] = p + miss * 5 // (5 * seen + 8) * (1 if is_empty else -1)
        self.learnt.empty_seen[context] = min(EMPTY_RATES, seen + 1)
        self.was_empty = is_empty
        if is_empty:
            self.row = max(-5 * ONE, self.row - (mass * self.row_rate() >> 15))
        return is_empty, asked

    def row_rate(self) -> int:
        """How far the row's logit moves for an error of 1; 2^14 = 1 nat."""
        return ROW_RATES[min(len(ROW_RATES) - 1, self.row_mass >> 12)]

    def context(self, at: int, gates: int) -> int:
        """Which of the up to three gates before have a non-zero here: the last counts 4."""
        lag = self.matrix.lag
        return sum((4 >> k) * (self.levels[at - (k + 1) * lag] != 0) for k in range(gates))

    def logits(self, start: int, contexts: list[int], gates: int) -> tuple[list[int], list[int]]:
        """What is known of each element before the first; and the columns' part, 2^10 = 1."""
        by_column = self.learnt.column_weight[gates > 0] >> 8
        by_gate = self.learnt.gate_weight[gates > 0] >> 8
        narrow = [self.column[start + j] >> 6 for j in range(len(contexts))]
        votes = self.learnt.gate[gates]
        return [
            (column * by_column >> 6) + self.base + ((votes[context] >> 6) * by_gate >> 6)
            for column, context in zip(narrow, contexts, strict=True)
        ], narrow

    def elements(
        self, at: int, start: int, logits: list[int], lift: list[int], lifted: bool, gates: int
    ) -> tuple[list[int], int]:
        """Decode every element; the errors (2^15 = 1) and the slope of the row's weight."""
        by_row = self.learnt.row_weight[gates > 0] >> 8
        must_all = self.remaining == self.matrix.size - at
        errors = [0] * len(logits)
        slope = found = j = 0
        while j < len(logits) and self.remaining:
            part = ((self.row >> 4) * by_row >> 8) + lift[found > 0]
            lesson = squash(self.base + part) * self.row_rate() >> 14
            stride = min(8 if lesson < ONE // 16 else 2, len(logits) - (lifted and not found) - j)
            if must_all or stride == 0:
                self.hit(at, start, j, logits[j] + part, gates)
                found += 1
                j += 1
                continue
            mass = run = bit = 0
            while run < stride and not bit:
                p = squash(logits[j + run] + part)
                bit = self.coder.bit(p)
                errors[j + run] = (bit * ONE - p) >> 1
                mass += p
                run += 1
            error = bit * ONE - mass
            slope += error * (self.row >> 6)
            self.row_mass += mass
            self.row = clamp(self.row + (error * self.row_rate() >> 14), 6 * ONE)
            if lifted:
                lift[found > 0] = clamp(lift[found > 0] + (error >> 6), 6 * ONE)
            j += run
            if bit:
                self.hit(at, start, j - 1, logits[j - 1] + part, gates)
                found += 1
        return errors, slope

    def hit(self, at: int, start: int, j: int, logit: int, gates: int) -> None:
        """Sign and magnitude of a non-zero."""
        lag = self.matrix.lag
        before = [at + j - (k + 1) * lag for k in range(3)]
        # Levels of the segment at work are not looked at, even where the lag is short.
        around = [self.levels[p] if k < gates and p < at else 0 for k, p in enumerate(before)]
        is_positive = self.sign(start + j, around)
        magnitude = self.magnitude(start + j, logit, around)
        self.column_seen[start + j] = min(SEEN_HITS, self.column_seen[start + j] + 1)
        self.row_seen = min(SEEN_HITS, self.row_seen + 1)
        self.levels[at + j] = magnitude if is_positive else -magnitude
        self.remaining -= 1

    def sign(self, column: int, around: list[int]) -> int:
        """Rows and columns have factors whose product leans to a sign; gates agree or not."""
        other = self.factors[column]
        dot = sum(a * b for a, b in zip(self.own, other, strict=True)) >> 12
        inputs = [clamp(dot, 6 << 12), self.leaning[column]] + [
            0 if level == 0 else self.agreement[k] * (1 if level > 0 else -1)
            for k, level in enumerate(around)
        ]
        weights = self.learnt.sign_weight
        logit = sum(w * x >> 12 for w, x in zip(weights, inputs, strict=True))
        p = squash(clamp(logit, 11 * ONE))
        positive = self.coder.bit(p)
        error = positive * ONE - p
        for k, x in enumerate(inputs):
            weights[k] = clamp(weights[k] + (error * x >> 16), 8 * ONE)
        miss = positive * ONE - squash(clamp(dot * 16, 11 * ONE))
        for d in range(FACTORS):
            mine, its = self.own[d], other[d]
            self.own[d] = clamp(mine + (miss * its >> 16), 8 << 12)
            other[d] = clamp(its + (miss * mine * 5 >> 20), 8 << 12)
        target = 8192 if positive else -8192
        share = SHARES[self.column_seen[column] + 2]
        self.leaning[column] += (target - self.leaning[column]) * share >> 14
        for k, level in enumerate(around):
            if level:
                agrees = (level > 0) == bool(positive)
                self.agreement[k] = clamp(self.agreement[k] + (2048 if agrees else -2048), 3 << 12)
        return positive

    def magnitude(self, column: int, logit: int, around: list[int]) -> int:
        """1..largest, from the means of row, column and gates and how likely it was at all."""
        of_gates = 0
        count = sum(level != 0 for level in around)
        if count:
            total = sum(map(abs, around)) * (6 // count) * self.per_mean * 4
            of_gates = max(1, min(7, total // 6 >> 16))
        seen = self.column_seen[column]
        column_mean = self.column_mean[column] if seen else self.mean
        row_mean = self.row_mean if self.row_seen else self.mean
        classes = [
            0,
            self.relative(row_mean),
            self.relative(column_mean),
            of_gates,
            max(0, min(9, (logit >> 16) + 6)),
        ]
        value = 1 + self.learnt.magnitude.number(self.coder, classes, self.bits, self.largest - 1)
        self.sum += value
        self.count += 1
        if self.count > 400:
            self.sum, self.count = self.sum // 2, self.count // 2
        self.row_mean = row_mean + ((256 * value - row_mean) * SHARES[self.row_seen + 2] >> 14)
        self.column_mean[column] = column_mean + (
            (256 * value - column_mean) * SHARES[seen + 4] >> 14
        )
        return value

    def relative(self, mean: int) -> int:
        """Ratio to the tensor's mean, in eighths from 4/8 on: 0..9."""
        return max(0, min(9, (mean * self.per_mean >> 21) - 4))

    def learn(
        self,
        at: int,
        start: int,
        contexts: list[int],
        narrow: list[int],
        errors: list[int],
        row_slope: int,
        gates: int,
    ) -> None:
        """Columns, gate contexts and weights, once the segment is known."""
        votes, hits = self.learnt.gate[gates], self.learnt.gate_hits[gates]
        column_slope = 0
        gate_error = [0] * GATE_CONTEXTS
        for j, error in enumerate(errors):
            column = start + j
            column_slope += error * narrow[j] >> 8
            moved = self.column[column] + (error * self.column_rate[column] >> 13)
            self.column[column] = clamp(moved, 5 * ONE)
            gate_error[contexts[j]] += error
            if self.levels[at + j]:
                hits[contexts[j]] = min(SEEN_HITS, hits[contexts[j]] + 1)
                self.column_rate[column] = COLUMN_RATES[self.column_seen[column]]
        gate_slope = 0
        for k, error in enumerate(gate_error):
            gate_slope += error * (votes[k] >> 6)
            votes[k] = clamp(votes[k] + (error * GATE_RATES[hits[k]] >> 13), 5 * ONE)
        for weights, slope in (
            (self.learnt.column_weight, column_slope * 512),
            (self.learnt.row_weight, row_slope),
            (self.learnt.gate_weight, gate_slope * 2),
        ):
            moved = weights[gates > 0] + (slope >> 15)
            weights[gates > 0] = max(0, min((4 << 20) - 1, moved))
        self.row_mass = min(2**30, self.row_mass)


def base_logit(count: int, size: int) -> int:
    """The least logit of the table whose probability reaches count / size."""
    wanted = (count << 16) // size
    reached = (i for i, p in enumerate(TABLE) if p >= wanted)
    return (next(reached, len(TABLE) - 1) - len(TABLE) // 2) * 512 + 256

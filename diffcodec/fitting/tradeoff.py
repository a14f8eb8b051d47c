"""Which entries travel and at which levels, where a bit of the file has a price (tradeoff.md).

Minimise D + price * R: D the weighted squared error, R the bits (rates.py). For given magnitudes
q_1 < ... < q_K of a tensor each entry is decided alone,

    level of entry i  =  argmin_k  s_i (d_i - q_k)^2 + price * (position_i + level_k),

with staying (no level) at s_i d_i^2: an entry travels when what it mends is worth its bits, and
moves to a cheaper level where the nearest one costs more than it mends. For given levels the best
magnitudes are the weighted means of their values, and frequent levels become cheap: so the two
are alternated (entropy-constrained quantisation, Chou, Lookabaugh & Gray 1989). Rates of positions
depend on what is kept, so they take part in the alternation.
Letters: N entries of a tensor, K magnitudes; s sensitivities, d deltas.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.changes import MAX_INT8_STEP, MAX_LEVEL, Codebook, Scale, Uniform
from diffcodec.fitting.entries import Entries
from diffcodec.fitting.magnitudes import centroids, shortened, written_bits
from diffcodec.fitting.rates import LEVEL_BITS, RECORD_BITS, level_bits
from diffcodec.parameters import Dtype

Floats: TypeAlias = NDArray[np.floating[Any]]
Signless: TypeAlias = NDArray[np.int16]

# Codebooks up to here are tried; finer ones gain nothing over equal steps.
CODEBOOK_SIZES = (1, 2, 3, 4, 6, 8)
# Steps over sqrt(price / sensitivity). At high rates the best is sqrt(6 / ln 2) = 2.9 (an error
# of step^2 / 12 falls by a factor of four a bit).
STEP_RATIOS = (3.0, 2.4, 1.9)
# A tensor that asks for more steps than this has no use for a codebook.
MANY_STEPS = 24
# Entries on which scales are compared.
SAMPLE_SIZE = 4096
ROUNDS = 2
# Up to here every level is looked at, beyond it the nearest and its neighbours.
FEW_LEVELS = 4


@dataclass(frozen=True)
class Coding:
    """What the levels of a tensor stand for and cost.

    Attributes:
        magnitudes: Increasing, positive: float64, shape (K,).
        bits: Of each level with its sign, shape (K,).
        is_uniform: The magnitudes are multiples of the first.
    """

    magnitudes: Floats
    bits: Floats
    is_uniform: bool

    @property
    def scale(self) -> Scale:
        """As the file states it."""
        if self.is_uniform:
            return Uniform(float(self.magnitudes[0]))
        return Codebook(tuple(float(m) for m in self.magnitudes))

    @property
    def header_bits(self) -> float:
        """What the tensor's record costs, and learning its statistics."""
        stated = self.magnitudes[:1] if self.is_uniform else self.magnitudes
        return RECORD_BITS + written_bits(stated) + LEVEL_BITS * self.magnitudes.size


def choose(entries: Entries, coding: Coding, positions: Floats, bit_price: float) -> Signless:
    """The best level of each entry, its sign apart; 0: the entry stays.

    Args:
        entries: N of a tensor.
        coding: Its magnitudes.
        positions: Bits of each position, shape (N,).
        bit_price: Error that one bit is worth.
    """
    magnitudes = np.abs(entries.values)
    signs = np.sign(entries.values)
    best = entries.worth - bit_price * positions
    levels = np.zeros(magnitudes.size, dtype=np.int16)
    for tried in _trials(magnitudes, coding.magnitudes):
        cost = entries.errors(signs * coding.magnitudes[tried]) + bit_price * coding.bits[tried]
        is_better = cost < best
        levels = np.where(is_better, tried + 1, levels).astype(np.int16)
        best = np.where(is_better, cost, best)
    return levels


def _trials(magnitudes: Floats, levels: Floats) -> Iterator[NDArray[np.int64]]:
    """Indices of levels worth a look, for each entry."""
    if levels.size <= FEW_LEVELS:
        yield from (np.full(magnitudes.size, index) for index in range(levels.size))
        return
    nearest = np.searchsorted(levels[:-1] + np.diff(levels) / 2, magnitudes)
    for step in (0, -1, 1):
        yield np.clip(nearest + step, 0, levels.size - 1)


def refitted(entries: Entries, coding: Coding, levels: Signless, bit_price: float) -> Coding | None:
    """The best magnitudes for the levels of the entries that travel; None: none does.

    Magnitudes get as few bits as pays. Their number may fall, so levels must be chosen anew.
    """
    here = np.flatnonzero(levels)
    if not here.size:
        return None
    index = levels[here] - 1
    weights = entries.weights[here]
    sizes = np.abs(entries.values[here])
    is_int8 = entries.spec.dtype is Dtype.INT8
    highest = int(index.max()) + 1
    counts = np.bincount(index, minlength=highest)
    if coding.is_uniform:
        steps = index + 1.0
        curvature = np.array([(weights * steps * steps).sum()])
        best = np.array([(weights * steps * sizes).sum()]) / curvature
        step = _stated(best, curvature, bit_price, is_int8)[0]
        if is_int8:
            highest = min(highest, int(MAX_INT8_STEP / step))
            counts = counts[:highest]
        return Coding(step * np.arange(1, highest + 1), level_bits(counts), True)
    mass = np.bincount(index, weights, highest)
    used = np.flatnonzero(mass > 0)
    best = np.bincount(index, weights * sizes, highest)[used] / mass[used]
    magnitudes, first = np.unique(_stated(best, mass[used], bit_price, is_int8), return_index=True)
    return Coding(magnitudes, level_bits(np.add.reduceat(counts[used], first)), False)


def _stated(best: Floats, curvature: NDArray[Any], bit_price: float, is_int8: bool) -> Floats:
    """Magnitudes as a header states them."""
    if is_int8:
        return np.clip(np.rint(best), 1, MAX_INT8_STEP)
    return shortened(best, curvature, bit_price)


def best_coding(
    entries: Entries, positions: Floats, bit_price: float, largest: int | None
) -> Coding | None:
    """Codebook or equal steps, and how many levels: what makes D + price * R least.

    Args:
        entries: N of a tensor.
        positions: Bits of each position, shape (N,).
        bit_price: Error that one bit is worth.
        largest: K must not be above it; None: free.

    Returns:
        None: no entry is worth its bits.
    """
    hopeful = np.flatnonzero(entries.worth > bit_price * (positions + 1))
    if not hopeful.size:
        return None
    drawn = hopeful
    if hopeful.size > SAMPLE_SIZE:
        drawn = np.random.default_rng(0).choice(hopeful, SAMPLE_SIZE, replace=False)
        # Steps must reach the largest.
        largest_of_all = hopeful[np.argmax(np.abs(entries.values[hopeful]))]
        drawn = np.union1d(drawn, [largest_of_all])
    sample, share = entries.some(drawn), hopeful.size / drawn.size
    best, best_cost = None, 0.0
    for starts in _families(sample, bit_price, largest):
        for start in starts:
            coding, cost = _settled(sample, start, positions[drawn], bit_price, share)
            if best is not None and cost >= best_cost:
                break
            if coding is not None and cost < best_cost:
                best, best_cost = coding, cost
    return best


def _families(sample: Entries, bit_price: float, largest: int | None) -> Iterator[Iterator[Coding]]:
    """Codebooks where few levels pay, and equal steps."""
    step = STEP_RATIOS[0] * np.sqrt(bit_price / sample.weights.mean())
    if np.abs(sample.values).max() < MANY_STEPS * step or (largest or MAX_LEVEL) < MANY_STEPS:
        yield _codebooks(sample, largest)
    yield _steps(sample, bit_price, largest)


def _codebooks(sample: Entries, largest: int | None) -> Iterator[Coding]:
    """Ever larger ones."""
    magnitudes = np.abs(sample.values)
    for count in CODEBOOK_SIZES:
        if largest is None or count <= largest:
            centres = centroids(magnitudes, sample.weights, count)
            yield Coding(centres, np.full(centres.size, 2.0), False)


def _steps(sample: Entries, bit_price: float, largest: int | None) -> Iterator[Coding]:
    """Ever finer ones."""
    most = MAX_LEVEL if largest is None else largest
    highest = np.abs(sample.values).max()
    unit = np.sqrt(bit_price / sample.weights.mean())
    for ratio in STEP_RATIOS:
        step = max(ratio * unit, highest / most)
        count = int(min(np.ceil(highest / step), most))
        yield Coding(step * np.arange(1, count + 1), np.full(count, 4.0), True)


def _settled(
    sample: Entries, start: Coding, positions: Floats, bit_price: float, share: float
) -> tuple[Coding | None, float]:
    """Alternate levels and magnitudes; the end, and what it changes of D + price * R."""
    coding, levels = start, choose(sample, start, positions, bit_price)
    for _ in range(ROUNDS):
        refit = refitted(sample, coding, levels, bit_price / share)
        if refit is None:
            return None, 0.0
        coding, levels = refit, choose(sample, refit, positions, bit_price)
    saved = share * _saved(sample, coding, positions, levels, bit_price)
    return coding, bit_price * coding.header_bits - saved


def _saved(
    entries: Entries, coding: Coding, positions: Floats, levels: Signless, bit_price: float
) -> float:
    """What levels take off D + price * R, the header apart."""
    here = np.flatnonzero(levels)
    part, index = entries.some(here), levels[here] - 1
    errors = part.errors(np.sign(part.values) * coding.magnitudes[index])
    bits = positions[here] + coding.bits[index]
    return float((part.worth - errors - bit_price * bits).sum())

"""Fitting a diff to a budget of B bytes of file.

The file is never longer, and at least 95 % of B where the delta has that much to say.

Sparse: as long as entries are the bottleneck, the largest ones travel at few levels (K = 2 costs
an entry little beside its position, and trained diffs lose next to nothing by it). When all of
them fit, the bytes that are left buy finer steps. Hash: arrays are quantised as finely as fits.
File sizes are found by encoding; a handful of trials suffices.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from diffcodec.changes import MAX_LEVEL, HashDiff
from diffcodec.diff import Diff, Layer
from diffcodec.errors import BudgetError
from diffcodec.file import encode, encoded_size
from diffcodec.fitting.hash_fit import Arrays, array_lengths, fit_arrays, quantise_arrays
from diffcodec.fitting.quantise import quantise, quantise_at, require_levels
from diffcodec.fitting.selection import Candidates, Scores, differences
from diffcodec.parameters import Layout, ParameterSet

# Levels while there are more entries than fit: measured to be the best use of the bytes.
SCARCE_LEVELS = 2
# A search ends at this share of the budget; the last percent costs as many trials as the rest.
ENOUGH = 0.985
AIM = 0.995
MAX_TRIALS = 24
# What an entry of a trained diff costs with its position, roughly: where the search starts.
FIRST_GUESS_BITS = 8
# No entry costs less unless the whole delta is one regular pattern.
FEWEST_BITS = 2
# What an entry of A should cost: more and coarser entries beat fewer and finer ones down to
# where the entropy coder's whole bits begin to show.
HASH_ENTRY_BITS = 2.5
# Step over the root mean square of A: every entry exact enough, and hardly any left.
FINEST, COARSEST = 2.0**-5, 4.0


@dataclass(frozen=True)
class _Trial:
    """A setting and the size in bytes of the file it gives; sizes grow with settings."""

    setting: float
    size: int


def fit_sparse(
    base: ParameterSet | None,
    new: ParameterSet,
    budget_bytes: int,
    levels: int | None = None,
    scores: Scores | None = None,
) -> bytes:
    """The sparse diff that says most of new - base within a budget, as a file.

    Args:
        base: Float32 where it differs from new. None: zeros; the file is a snapshot.
        new: What to come near to; where it equals the base nothing travels.
        budget_bytes: Size that the file may have.
        levels: K, 1 to 127. None: 2 while not all entries fit, finer steps once they do.
        scores: What an entry is worth, by tensor, of the tensors' shapes, for every tensor that
            differs. None: its magnitude.

    Raises:
        BudgetError: not even an empty diff fits; the message names its size.
        InputError: K is out of range, or a tensor that differs is not float32 or not finite.
        LayoutError: base and new have different layouts.
    """
    require_levels(SCARCE_LEVELS if levels is None else levels)
    unchanged = Diff(new.layout, base.digest() if base is not None else None)
    floor = _Trial(0, encoded_size(unchanged))
    _require_budget(budget_bytes, floor.size)
    deltas = differences(base if base is not None else ParameterSet.zeros(new.layout), new)
    candidates = Candidates.of(deltas, scores, at_most=budget_bytes * 8 // FEWEST_BITS)
    diff = _best_sparse(unchanged, candidates, levels, floor, budget_bytes)
    if diff.nonzeros == candidates.count and not candidates.is_all:
        candidates = Candidates.of(deltas, scores)
        diff = _best_sparse(unchanged, candidates, levels, floor, budget_bytes)
    return encode(diff, base)


def fit_hash(
    base: ParameterSet, new: ParameterSet, budget_bytes: int, hashes: int = 3, seed: int = 0
) -> bytes:
    """The hash diff nearest to new - base within a budget, as a file.

    Args:
        base: Float32 where it differs from new.
        new: What to come near to.
        budget_bytes: Size that the file may have.
        hashes: Number of hash functions, 1 to 4.
        seed: The diff's hash seed; a new one each generation.

    Raises:
        BudgetError: one entry a tensor is too much; the message names the size of that.
        InputError: a tensor that differs is not float32 or not finite.
        LayoutError: base and new have different layouts.
    """
    lengths = hash_array_lengths(base.layout, budget_bytes)
    arrays = fit_arrays(base, new, lengths, hashes, seed)
    return fit_hash_arrays(base, arrays, budget_bytes, hashes, seed)


def hash_array_lengths(layout: Layout, budget_bytes: int) -> dict[str, int]:
    """Lengths of A, by tensor, that `fit_hash_arrays` can bring within a budget.

    For arrays that are fitted to a delta. The training recipe sizes its own, with fewer and finer
    entries (server.training.recipes.HASH_BITS_PER_ENTRY); which is better is not measured yet.

    Raises:
        BudgetError: one entry a tensor is too much; the message names the size of that.
    """
    shortest = array_lengths(layout, 1 / 2**32)
    one = {name: HashDiff(np.ones(m, np.int8), 1.0, 1) for name, m in shortest.items()}
    floor = encoded_size(Diff.of(layout, bytes(32), one))
    _require_budget(budget_bytes, floor)
    entries = (budget_bytes - floor) * 8 / HASH_ENTRY_BITS
    size = max(1, sum(layout.index[name].size for name in shortest))
    return array_lengths(layout, min(1.0, max(entries / size, 1 / 2**32)))


def fit_hash_arrays(
    base: ParameterSet, arrays: Arrays, budget_bytes: int, hashes: int, seed: int
) -> bytes:
    """Given arrays A as a hash diff, quantised as finely as a budget allows, as a file.

    Args:
        base: What the diff is for.
        arrays: A by tensor, float32, shape (m,).
        budget_bytes: Size that the file may have.
        hashes: Number of hash functions they were made for.
        seed: The diff's hash seed they were made for.

    Raises:
        BudgetError: the coarsest steps are too fine; the message names the size of that.
        InputError: an array is not finite, or does not fit its tensor.
    """

    def diff_of(fineness: float) -> Diff:
        return quantise_arrays(base, arrays, hashes, seed, 2.0**-fineness)

    low, high = (float(-np.log2(coarseness)) for coarseness in (COARSEST, FINEST))
    floor = _Trial(low, encoded_size(diff_of(low)))
    _require_budget(budget_bytes, floor.size)
    fineness = _finest_fit(lambda t: encoded_size(diff_of(t)), floor, high, budget_bytes)
    return encode(diff_of(fineness), base)


def _best_sparse(
    unchanged: Diff, candidates: Candidates, levels: int | None, floor: _Trial, budget_bytes: int
) -> Diff:
    """As many entries as fit, the best first; when all do, at the finest steps that fit."""

    def diff_of(count: int) -> Diff:
        changes = candidates.best(count, partial(quantise, levels=levels or SCARCE_LEVELS))
        return replace(unchanged, layers=(Layer(changes),))

    count = _most_entries(lambda n: encoded_size(diff_of(n)), candidates.count, floor, budget_bytes)
    is_scarce = count < candidates.count or not candidates.count
    if levels is None and not is_scarce:
        finest = _finest(unchanged, candidates, budget_bytes)
        if finest is not None:
            return finest
    return diff_of(count)


def _finest(unchanged: Diff, candidates: Candidates, budget_bytes: int) -> Diff | None:
    """All candidates at the smallest step, one for all tensors, that fits; None if none does.

    One step for all is what least squares asks for at a given rate: an error costs the same in
    every tensor.
    """

    def diff_of(fineness: float) -> Diff:
        step = 2.0**-fineness
        changes = candidates.best(candidates.count, partial(quantise_at, step=step))
        return replace(unchanged, layers=(Layer(changes),))

    largest = [float(np.abs(part).max()) for part in candidates.by_tensor()]
    low, high = -np.log2(max(largest)), -np.log2(min(largest) / MAX_LEVEL)
    floor = _Trial(low, encoded_size(diff_of(low)))
    if floor.size > budget_bytes:
        return None
    return diff_of(_finest_fit(lambda t: encoded_size(diff_of(t)), floor, high, budget_bytes))


def _most_entries(
    size_of: Callable[[int], int], available: int, low: _Trial, budget_bytes: int
) -> int:
    """About the largest number of entries whose file fits."""
    count = min(available, max(1, budget_bytes * 8 // FIRST_GUESS_BITS))
    while low.setting < available:
        trial = _Trial(count, size_of(count))
        if trial.size > budget_bytes:
            return int(_between(lambda t: size_of(int(t)), low, trial, 1, budget_bytes))
        low = trial
        count = min(available, 2 * count)
    return int(low.setting)


def _finest_fit(
    size_of: Callable[[float], int], low: _Trial, highest: float, budget_bytes: int
) -> float:
    """About the largest setting up to `highest` whose file fits; `low` is known to."""
    high = _Trial(highest, size_of(highest))
    if high.size <= budget_bytes:
        return highest
    return _between(size_of, low, high, 1e-3, budget_bytes)


def _between(
    size_of: Callable[[float], int],
    low: _Trial,
    high: _Trial,
    resolution: float,
    budget_bytes: int,
) -> float:
    """Narrow down to a setting that fits and nearly fills the budget.

    Args:
        size_of: File size of a setting.
        low: Fits.
        high: Does not.
        resolution: Settings nearer than this are the same.
        budget_bytes: What must fit.
    """
    for trial in range(MAX_TRIALS):
        if low.size >= ENOUGH * budget_bytes or high.setting - low.setting <= resolution:
            break
        # Interpolation lands within a percent or two at once; halving makes sure of an end.
        share = (AIM * budget_bytes - low.size) / (high.size - low.size)
        share = 0.5 if trial % 3 == 2 else min(max(share, 0.02), 0.98)
        setting = low.setting + share * (high.setting - low.setting)
        if resolution >= 1:
            setting = min(max(round(setting), low.setting + 1), high.setting - 1)
        found = _Trial(setting, size_of(setting))
        low, high = (found, high) if found.size <= budget_bytes else (low, found)
    return low.setting


def _require_budget(budget_bytes: int, smallest: int) -> None:
    if budget_bytes < smallest:
        raise BudgetError(
            f"expected a budget of at least {smallest} bytes for this layout, found {budget_bytes}"
        )

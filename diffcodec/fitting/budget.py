"""Fitting a diff to a budget of B bytes of file.

The file is never longer, and nearly B long where the delta has that much to say. Each fit takes
what it may encode with, finds file sizes by encoding, and ends after a handful of trials:

    fit_sparse   entries, levels and scales of least error (`tradeoff`), or the ones ranked highest
    fit_hash     arrays quantised as finely as fits
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from diffcodec.changes import HashDiff, SparseDiff
from diffcodec.diff import Diff, Layer, apply
from diffcodec.errors import BudgetError, InputError
from diffcodec.file import encode, encoded_size
from diffcodec.fitting.entries import Deltas, Entries, Sensitivities, contenders
from diffcodec.fitting.hash_fit import Arrays, array_lengths, fit_arrays, quantise_arrays
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.fitting.quantise import require_levels, sparse_change
from diffcodec.fitting.selection import Candidates, Scores, differences, started
from diffcodec.fitting.sparse_fit import fit_entries
from diffcodec.header import Coder
from diffcodec.parameters import Layout, ParameterSet

# Levels of entries that are ranked by scores, while not all of them fit.
RANKED_LEVELS = 2
# A search ends at this share of the budget; the last percent costs as many trials as the rest.
ENOUGH = 0.985
AIM = 0.995
MAX_TRIALS = 24
# What an entry of a trained diff costs with its position, roughly: where the search starts.
FIRST_GUESS_BITS = 8
# Entries cost more unless the delta is one regular pattern, which is found out.
FEWEST_BITS = 4
# Below this a changed weight cannot be reproduced: its last mantissa bits are noise.
FEWEST_EXACT_BITS = 4
# Layers of ever finer levels, each of the error that the ones below leave.
FINE_LAYERS = 3
FULL = 0.97
# What an entry of A should cost: more and coarser entries beat fewer and finer ones down to
# where the entropy coder's whole bits begin to show.
HASH_ENTRY_BITS = 2.5
# Step over the root mean square of A: every entry exact enough, and hardly any left.
FINEST, COARSEST = 2.0**-5, 4.0


Changes: TypeAlias = dict[str, SparseDiff]


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
    *,
    sensitivities: Sensitivities | None = None,
    coders: Collection[Coder] = (Coder.FAST,),
) -> bytes:
    """The diff by sparse levels that comes nearest to new within a budget, as a file.

    Nearest: of least sum over all weights of sensitivity * (new - result)^2. Where the exact
    (lossless) diff fits, and no levels are asked for, that is the answer.

    Args:
        base: None: zeros; the file is a snapshot.
        new: What to come near to. Its layout may have more tensors, fewer, or grown ones.
        budget_bytes: Size that the file may have.
        levels: K that no tensor exceeds, 1 to 127. None: what serves the budget best.
        scores: A ranking of entries by the caller, by tensor, of the tensors' shapes, for every
            tensor that differs: those with the highest travel, however small. None: error decides.
        sensitivities: What a squared error in a weight counts, for example its Fisher
            information: finite, from 0 on, by tensor, of the tensors' shapes, for every tensor
            that differs. None: 1. An entry of 0 never travels.
        coders: What the target can decode.

    Raises:
        BudgetError: not even an empty diff fits; the message names its size.
        InputError: K is out of range, a tensor differs by infinity or NaN, or scores or
            sensitivities are missing or unsound, or both are given.
        LayoutError: a tensor is smaller than in the base, or scores or sensitivities have
            another shape.
    """
    require_levels(RANKED_LEVELS if levels is None else levels)
    if scores is not None and sensitivities is not None:
        raise InputError("expected scores or sensitivities, found both")
    task = _Task.of(base, new, budget_bytes, coders)
    if levels is None:
        exact = task.exact()
        if exact is not None:
            return exact
    if scores is None:
        layers = _nearest(task, sensitivities, levels)
    else:
        layers = _ranked(task, scores, levels)
    return encode(task.diff_of(layers), base, coders)


def fit_hash(
    base: ParameterSet, new: ParameterSet, budget_bytes: int, hashes: int = 3, seed: int = 0
) -> bytes:
    """The hash diff nearest to new - base within a budget, as a file.

    Args:
        base: Of floats where it differs from new.
        new: What to come near to.
        budget_bytes: Size that the file may have.
        hashes: Number of hash functions, 1 to 4.
        seed: The diff's hash seed; a new one each generation.

    Raises:
        BudgetError: one entry a tensor is too much; the message names the size of that.
        InputError: a tensor that differs is of int8 or not finite.
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


@dataclass(frozen=True)
class _Task:
    """What is to be said in how many bytes.

    Attributes:
        base: None: zeros.
        new: What to come near to.
        start: The base in new's layout.
        deltas: new - start of every tensor that differs.
        unchanged: The diff that says nothing.
        budget_bytes: What the file may take.
        coders: What it may be coded with.
    """

    base: ParameterSet | None
    new: ParameterSet
    start: ParameterSet
    deltas: Deltas
    unchanged: Diff
    budget_bytes: int
    coders: Collection[Coder]

    @classmethod
    def of(
        cls,
        base: ParameterSet | None,
        new: ParameterSet,
        budget_bytes: int,
        coders: Collection[Coder],
    ) -> "_Task":
        """Raises what `fit_sparse` says."""
        digest, layout = (None, None) if base is None else (base.digest(), base.layout)
        unchanged = Diff(new.layout, digest, (), layout)
        _require_budget(budget_bytes, encoded_size(unchanged, coders))
        start, deltas = started(base, new.layout), differences(base, new)
        return cls(base, new, start, deltas, unchanged, budget_bytes, coders)

    @property
    def count(self) -> int:
        """Entries that differ."""
        return sum(int(np.count_nonzero(delta)) for delta in self.deltas.values())

    def diff_of(self, layers: Sequence[Changes]) -> Diff:
        """The diff that changes make, one after the other."""
        return replace(self.unchanged, layers=tuple(Layer(c) for c in layers if c))

    def size_of(self, layers: Sequence[Changes]) -> int:
        """Its size as a file, in bytes."""
        return encoded_size(self.diff_of(layers), self.coders)

    def exact(self) -> bytes | None:
        """The file that reproduces new, if it fits."""
        if 8 * self.budget_bytes < FEWEST_EXACT_BITS * self.count:
            return None
        diff = lossless_diff(self.base, self.new)
        if encoded_size(diff, self.coders) > self.budget_bytes:
            return None
        return encode(diff, self.base, self.coders)


def _nearest(task: _Task, sensitivities: Sensitivities | None, levels: int | None) -> list[Changes]:
    """Layers of least error that fit: one, or more where bytes are left of 127 levels."""
    layers = [_layer(task, [], task.deltas, sensitivities, levels)]
    while levels is None and len(layers) < FINE_LAYERS:
        if task.size_of(layers) > FULL * task.budget_bytes:
            break
        deltas = differences(apply(task.base, task.diff_of(layers)), task.new)
        finer = _layer(task, layers, deltas, sensitivities, None)
        if not finer:
            break
        layers.append(finer)
    return layers


def _layer(
    task: _Task,
    below: list[Changes],
    deltas: Deltas,
    sensitivities: Sensitivities | None,
    levels: int | None,
) -> Changes:
    """Changes of least error that fit above other layers."""
    at_most = 8 * task.budget_bytes // FEWEST_BITS
    while True:
        entries, are_all = contenders(task.start, deltas, sensitivities, at_most)
        changes = fit_entries(
            entries, task.budget_bytes, lambda tried: task.size_of([*below, tried]), levels
        )
        travelling = sum(change.positions.size for change in changes.values())
        if are_all or travelling < 0.8 * sum(e.positions.size for e in entries):
            return changes
        at_most = task.count


def _ranked(task: _Task, scores: Scores, levels: int | None) -> list[Changes]:
    """Changes of as many entries as fit, those with the highest scores; fine where all fit."""
    floor = _Trial(0, task.size_of([]))
    candidates = Candidates.of(task.deltas, scores)

    def changes_of(count: int) -> Changes:
        chosen = candidates.positions_of_best(count).items()
        entries = [Entries.of(task.start, n, task.deltas[n].reshape(-1), at) for n, at in chosen]
        found = {e.spec.name: sparse_change(e, levels or RANKED_LEVELS) for e in entries}
        return {name: change for name, change in found.items() if change is not None}

    count = _most_entries(
        lambda n: task.size_of([changes_of(n)]), candidates.count, floor, task.budget_bytes
    )
    if levels is None and count == candidates.count:
        return _nearest(task, None, None)
    return [changes_of(count)]


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

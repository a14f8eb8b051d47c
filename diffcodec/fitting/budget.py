"""Fitting a diff to a budget of B bytes of file.

The file is never longer, and nearly B long where the delta has that much to say:

    fit_sparse   entries, levels and scales of least error, or the entries ranked highest
    fit_lowrank  the strongest directions of each matrix
    fit_auto     for each tensor what serves the budget best; never worse than fit_sparse
    fit_hash     arrays quantised as finely as fits

"Least error" is a price on bits: tradeoff.md derives it. Sizes are found by encoding.
"""

from collections.abc import Collection

import numpy as np

from diffcodec.changes import HashDiff
from diffcodec.diff import Diff
from diffcodec.errors import InputError
from diffcodec.file import encode, encoded_size
from diffcodec.fitting.entries import Sensitivities
from diffcodec.fitting.hash_fit import Arrays, array_lengths, fit_arrays, quantise_arrays
from diffcodec.fitting.mixture import low_rank_layers, mixed_layers
from diffcodec.fitting.quantise import require_levels
from diffcodec.fitting.search import Trial, finest_fit
from diffcodec.fitting.selection import Scores
from diffcodec.fitting.sparse_layers import RANKED_LEVELS, nearest_layers, ranked_layer
from diffcodec.fitting.task import Task, require_budget
from diffcodec.header import Coder
from diffcodec.parameters import Layout, ParameterSet

# What an entry of A should cost: more and coarser entries beat fewer and finer ones down to 2
# bits (error left of a fine-tuned LSTM at 40 kB: 0.86 at 6.5, 0.73 at 3, 0.71 at 2.5 and 2); at
# 1.5 the coarsest steps do not fit any more.
HASH_ENTRY_BITS = 2.5
# Step over the root mean square of A: every entry exact enough, and hardly any left.
FINEST, COARSEST = 2.0**-5, 4.0


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
    task = Task.of(base, new, budget_bytes, coders)
    if levels is None:
        exact = task.exact()
        if exact is not None:
            return exact
    if scores is None:
        layers = nearest_layers(task, sensitivities, levels).layers
    else:
        layers = ranked_layer(task, scores, levels)
    return encode(task.diff_of(layers), base, coders)


def fit_lowrank(
    base: ParameterSet | None,
    new: ParameterSet,
    budget_bytes: int,
    *,
    coders: Collection[Coder] = (Coder.FAST,),
) -> bytes:
    """The low-rank diff that comes nearest to new within a budget, as a file.

    Only matrices of floats change; vectors and int8 tensors stay as they are.

    Args:
        base: None: zeros; the file is a snapshot.
        new: What to come near to. Its layout may have more tensors, fewer, or grown ones.
        budget_bytes: Size that the file may have.
        coders: What the target can decode.

    Raises:
        BudgetError: not even an empty diff fits; the message names its size.
        InputError: a tensor differs by infinity or NaN.
        LayoutError: a tensor is smaller than in the base.
    """
    task = Task.of(base, new, budget_bytes, coders)
    return encode(task.diff_of(low_rank_layers(task)), base, coders)


def fit_auto(
    base: ParameterSet | None,
    new: ParameterSet,
    budget_bytes: int,
    *,
    sensitivities: Sensitivities | None = None,
    coders: Collection[Coder] = (Coder.FAST,),
) -> bytes:
    """The diff of any methods that comes nearest to new within a budget, as a file.

    Each tensor stays, receives sparse levels, low-rank factors, both one above the other, or
    its exact bytes. Hash diffs are left out: for a delta that is given, sparse levels are always
    nearer (an entry of A is worth at most what a bit of it would be as a position).

    Args:
        base: None: zeros; the file is a snapshot.
        new: What to come near to. Its layout may have more tensors, fewer, or grown ones.
        budget_bytes: Size that the file may have.
        sensitivities: As for `fit_sparse`.
        coders: What the target can decode.

    Raises:
        As `fit_sparse`.
    """
    task = Task.of(base, new, budget_bytes, coders)
    exact = task.exact()
    if exact is not None:
        return exact
    return encode(task.diff_of(mixed_layers(task, sensitivities)), base, coders)


def fit_hash(
    base: ParameterSet,
    new: ParameterSet,
    budget_bytes: int,
    hashes: int = 3,
    seed: int = 0,
    *,
    coders: Collection[Coder] = (Coder.FAST,),
) -> bytes:
    """The hash diff nearest to new - base within a budget, as a file.

    Args:
        base: Of floats where it differs from new.
        new: What to come near to.
        budget_bytes: Size that the file may have.
        hashes: Number of hash functions, 1 to 4.
        seed: The diff's hash seed; a new one each generation.
        coders: What the target can decode.

    Raises:
        BudgetError: one entry a tensor is too much; the message names the size of that.
        InputError: a tensor that differs is of int8 or not finite.
        LayoutError: base and new have different layouts.
    """
    lengths = hash_array_lengths(base.layout, budget_bytes)
    arrays = fit_arrays(base, new, lengths, hashes, seed)
    return fit_hash_arrays(base, arrays, budget_bytes, hashes, seed, coders=coders)


def hash_array_lengths(layout: Layout, budget_bytes: int) -> dict[str, int]:
    """Lengths of A, by tensor, that `fit_hash_arrays` can bring within a budget.

    For arrays that are fitted to a delta. Those that training fills have fewer and finer entries,
    sized by the recipe (server.training.recipes.HASH_BITS_PER_ENTRY).

    Raises:
        BudgetError: one entry a tensor is too much; the message names the size of that.
    """
    shortest = array_lengths(layout, 1 / 2**32)
    one = {name: HashDiff(np.ones(m, np.int8), 1.0, 1) for name, m in shortest.items()}
    floor = encoded_size(Diff.of(layout, bytes(32), one))
    require_budget(budget_bytes, floor)
    entries = (budget_bytes - floor) * 8 / HASH_ENTRY_BITS
    size = max(1, sum(layout.index[name].size for name in shortest))
    return array_lengths(layout, min(1.0, max(entries / size, 1 / 2**32)))


def fit_hash_arrays(
    base: ParameterSet,
    arrays: Arrays,
    budget_bytes: int,
    hashes: int,
    seed: int,
    *,
    coders: Collection[Coder] = (Coder.FAST,),
) -> bytes:
    """Given arrays A as a hash diff, quantised as finely as a budget allows, as a file.

    Args:
        base: What the diff is for.
        arrays: A by tensor, float32, shape (m,).
        budget_bytes: Size that the file may have.
        hashes: Number of hash functions they were made for.
        seed: The diff's hash seed they were made for.
        coders: What the target can decode.

    Raises:
        BudgetError: the coarsest steps are too fine; the message names the size of that.
        InputError: an array is not finite, or does not fit its tensor.
    """

    def diff_of(fineness: float) -> Diff:
        return quantise_arrays(base, arrays, hashes, seed, 2.0**-fineness)

    def size_of(fineness: float) -> int:
        return encoded_size(diff_of(fineness), coders)

    low, high = (float(-np.log2(coarseness)) for coarseness in (COARSEST, FINEST))
    floor = Trial(low, size_of(low))
    require_budget(budget_bytes, floor.size)
    return encode(diff_of(finest_fit(size_of, floor, high, budget_bytes)), base, coders)

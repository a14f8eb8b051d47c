"""The methods as anybody uses them: wrap a module, train it as usual, encode.

    learned = wrap(model, budget="40KB", steps=1_000)
    optimizer = torch.optim.Adam(learned.free(), lr=1e-3 * learned.speed)
    learned.attach(optimizer)
    ...  # 1,000 steps of whatever loss
    Path("update.ndiff").write_bytes(learned.encode())

The recipes of our own tasks (server.training.recipes) use the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from diffcodec import Layout, ParameterSet, parse_size
from diffcodec.fitting.hash_fit import array_lengths
from server.training.errors import TrainingRequestError
from server.training.learned.auto import choose
from server.training.learned.diff import LearnedDiff
from server.training.learned.hashed import Hashed
from server.training.learned.int8 import Int8Grid
from server.training.learned.lowrank import LowRank
from server.training.learned.scores import Score, by_fisher, by_magnitude
from server.training.learned.sparse import Pruning, Sparse
from server.training.parameters import to_parameters
from server.training.schedule import CubicSchedule

PRUNED_FROM, PRUNED_TO = 0.05, 0.6
"""Shares of all steps: when entries go, and when what is left becomes levels."""
SETTLED = 0.4
"""Share of all steps after which low-rank factors become levels."""
HASH_SPEED = 10.0
"""The learning rate over that of dense training: entries of arrays scale weights of about 0.05."""
SLOW_RATIO, SLOWEST, SPARSE_SPEED = 1 / 300, 1.0, 4.0
"""Few entries have further to go than many: below 1/300 of the bytes they learn four times as fast
as dense weights do, above it slower, as fast as those at about 1/30."""
HASH_ENTRY_BITS = 3.0
"""What an entry of an array may cost: many coarse ones beat few fine ones."""
FEWEST = 1 / 2**32


def wrap(
    model: nn.Module, budget: int | str, steps: int, method: str = "auto", seed: int = 0
) -> LearnedDiff:
    """Anchor a module, to learn a diff that fits a budget.

    Args:
        model: Any module of float32 parameters, holding F_t; learned in place.
        budget: Bytes that the file may have, or a size such as "40KB".
        steps: Optimiser steps that the training will have.
        method: sparse, hash, lowrank; auto: what measured best at such a budget.
        seed: Of hash functions; another one for each generation.

    Raises:
        TrainingRequestError: there is no such method, or the module has nothing to learn.
        BudgetError: not even the smallest diff fits; the message names its size.
        CodecError: the budget is no size.
    """
    budget_bytes = parse_size(budget) if isinstance(budget, str) else budget
    if method == "auto":
        parameters = sum(p.numel() for p in model.parameters())
        method = choose(budget_bytes / (4 * parameters)).method
    if method not in METHODS:
        expected = ", ".join([*METHODS, "auto"])
        raise TrainingRequestError(f"expected a method of {expected}, found {method!r}")
    return METHODS[method](model, budget_bytes, steps, seed)


@dataclass(frozen=True)
class SparseOptions:
    """How a sparse diff of ours may differ; see learned.sparse.

    Attributes:
        score: Ranks entries.
        is_regrowing: Pruned entries go on learning unseen, and may come back.
        has_feedback: What did not travel is where the next generation starts.
    """

    score: Score = by_fisher
    is_regrowing: bool = False
    has_feedback: bool = False


SPARSE_OPTIONS: Mapping[str, SparseOptions] = {
    "sparse": SparseOptions(),
    "sparse_magnitude": SparseOptions(score=by_magnitude),
    "sparse_regrow": SparseOptions(is_regrowing=True),
    "sparse_feedback": SparseOptions(has_feedback=True),
}
"""By name of the recipe: `sparse`, and what each option alone makes of it."""


def sparse(
    model: nn.Module,
    budget_bytes: int,
    steps: int,
    seed: int = 0,
    options: SparseOptions = SPARSE_OPTIONS["sparse"],
    start: ParameterSet | None = None,
) -> Sparse:
    """Ranked by what pruning an entry would cost; the coder ends it, and levels learn on."""
    size = sum(p.numel() for p in model.parameters())
    schedule = sparse_schedule(size, budget_bytes, steps)
    learned = Sparse(
        model,
        Pruning(schedule, options.score, is_regrowing=options.is_regrowing),
        budget_bytes,
        has_levels=True,
        has_feedback=options.has_feedback,
        start=start if options.has_feedback else None,
    )
    learned.speed = sparse_speed(budget_bytes / (4 * size))
    return learned


def wrap_int8(model: nn.Module, base: ParameterSet, budget: int | str, steps: int) -> Int8Grid:
    """Anchor a module at weights that a device runs in int8, to learn whole levels.

    Args:
        model: Of float32 parameters, of the tensors of F_t; it takes on the weights of F_t.
        base: F_t in int8 (server.training.grid); from float32 by `quantise`.
        budget: Bytes that the file may have, or a size such as "4KB".
        steps: Optimiser steps that the training will have.

    Raises:
        TrainingRequestError: F_t is of another module, or not on a grid.
        BudgetError: not even an empty diff fits.
        CodecError: the budget is no size.
    """
    budget_bytes = parse_size(budget) if isinstance(budget, str) else budget
    size = sum(p.numel() for p in model.parameters())
    learned = Int8Grid(model, base, sparse_schedule(size, budget_bytes, steps), budget_bytes)
    learned.speed = sparse_speed(budget_bytes / (4 * size))
    return learned


def sparse_schedule(size: int, budget_bytes: int, steps: int) -> CubicSchedule:
    """How entries go down to about what a file can carry.

    Args:
        size: Parameters of the model.
        budget_bytes: Limit of the file.
        steps: Optimiser steps in all.
    """
    sparsity = 1.0 - aimed_density(size, budget_bytes)
    return CubicSchedule(sparsity, round(PRUNED_FROM * steps), round(PRUNED_TO * steps))


def hashed(model: nn.Module, budget_bytes: int, steps: int, seed: int = 0) -> Hashed:
    """Arrays of many coarse entries."""
    lengths = lengths_within(to_parameters(model).layout, budget_bytes, HASH_ENTRY_BITS)
    learned = Hashed(model, lengths, seed, budget_bytes=budget_bytes)
    learned.speed = HASH_SPEED
    return learned


def lowrank(model: nn.Module, budget_bytes: int, steps: int, seed: int = 0) -> LowRank:
    """Low-rank factors and sparse levels, as the coder finds them best."""
    return LowRank(model, budget_bytes, max(1, round(SETTLED * steps)))


METHODS: Mapping[str, Callable[[nn.Module, int, int, int], LearnedDiff]] = {
    "sparse": sparse,
    "hash": hashed,
    "lowrank": lowrank,
}


def sparse_speed(ratio: float) -> float:
    """The learning rate of sparse entries over that of dense training.

    Args:
        ratio: Budget over the float32 bytes.
    """
    speed = SPARSE_SPEED * float((SLOW_RATIO / ratio) ** 0.6)
    return min(SPARSE_SPEED, max(SLOWEST, speed))


def aimed_density(size: int, budget_bytes: int) -> float:
    """The share of weights to prune down to before the encoded file decides.

    Positions that are independent coins of density d cost H(d) bits a weight, levels about two
    bits a non-zero. Learned diffs cluster and cost less; what is left buys finer levels, which
    measured better than more entries.

    Args:
        size: Parameters of the model.
        budget_bytes: Limit of the file.
    """
    densities = np.geomspace(1e-6, 0.5, 2_000)
    entropy = -densities * np.log2(densities) - (1 - densities) * np.log2(1 - densities)
    fitting = densities[(entropy + 2 * densities) * size <= 8 * budget_bytes]
    return float(fitting.max(initial=densities[0]))


def lengths_within(layout: Layout, budget_bytes: int, entry_bits: float) -> dict[str, int]:
    """Lengths of the arrays of a hash diff, by tensor: each the same share of its tensor.

    Args:
        layout: Of the model.
        budget_bytes: Limit of the file.
        entry_bits: What an entry may cost.
    """
    share = 8 * budget_bytes / entry_bits / layout.parameter_count
    return array_lengths(layout, min(1.0, max(FEWEST, share)))

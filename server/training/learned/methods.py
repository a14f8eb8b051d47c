"""The methods as anybody uses them: wrap a module, train it as usual, encode.

    learned = wrap(model, budget="40KB", steps=1_000)
    optimizer = torch.optim.Adam(learned.free(), lr=1e-3 * learned.speed)
    learned.attach(optimizer)
    ...  # 1,000 steps of whatever loss
    Path("update.ndiff").write_bytes(learned.encode())

The recipes of our own tasks (server.training.recipes) use the same.
"""

from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from diffcodec import Layout, parse_size
from diffcodec.fitting.hash_fit import array_lengths
from server.training.errors import TrainingRequestError
from server.training.learned.auto import choose
from server.training.learned.diff import LearnedDiff
from server.training.learned.hashed import Hashed
from server.training.learned.lowrank import LowRank
from server.training.learned.scores import by_fisher
from server.training.learned.sparse import Pruning, Sparse
from server.training.parameters import to_parameters
from server.training.schedule import CubicSchedule

PRUNED_FROM, PRUNED_TO = 0.05, 0.6
"""Shares of all steps: when entries go, and when what is left becomes levels."""
SETTLED = 0.4
"""Share of all steps after which low-rank factors become levels."""
SPARSE_SPEED, HASH_SPEED = 4.0, 10.0
"""Learning rates over that of dense training: few entries have further to go than many, and
entries of arrays scale weights of about 0.05."""
HASH_ENTRY_BITS = 3.0
"""What an entry of an array may cost: many coarse ones beat few fine ones."""
CLUSTERING = 1.25
"""How many more non-zeros a file carries than independent positions would allow."""
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


def sparse(model: nn.Module, budget_bytes: int, steps: int, seed: int = 0) -> Sparse:
    """Ranked by what pruning an entry would cost; the coder ends it, and levels learn on."""
    size = sum(p.numel() for p in model.parameters())
    schedule = sparse_schedule(size, budget_bytes, steps)
    learned = Sparse(model, Pruning(schedule, by_fisher), budget_bytes, has_levels=True)
    learned.speed = SPARSE_SPEED
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


def aimed_density(size: int, budget_bytes: int) -> float:
    """The share of weights to prune down to before the encoded file decides.

    Positions that are independent coins of density d cost H(d) bits a weight, levels about two
    bits a non-zero. Learned diffs cluster and cost less, so the aim is higher than that.

    Args:
        size: Parameters of the model.
        budget_bytes: Limit of the file.
    """
    densities = np.geomspace(1e-6, 0.5, 2_000)
    entropy = -densities * np.log2(densities) - (1 - densities) * np.log2(1 - densities)
    fitting = densities[(entropy + 2 * densities) * size <= 8 * budget_bytes]
    return min(1.0, CLUSTERING * float(fitting.max(initial=densities[0])))


def lengths_within(layout: Layout, budget_bytes: int, entry_bits: float) -> dict[str, int]:
    """Lengths of the arrays of a hash diff, by tensor: each the same share of its tensor.

    Args:
        layout: Of the model.
        budget_bytes: Limit of the file.
        entry_bits: What an entry may cost.
    """
    share = 8 * budget_bytes / entry_bits / layout.parameter_count
    return array_lengths(layout, min(1.0, max(FEWEST, share)))

"""Sparse changes within a budget: those of least error, or those that a ranking puts first."""

from dataclasses import dataclass

from diffcodec.diff import apply
from diffcodec.fitting.entries import Deltas, Entries, Sensitivities, contenders
from diffcodec.fitting.quantise import sparse_change
from diffcodec.fitting.search import Trial, most_entries
from diffcodec.fitting.selection import Candidates, Scores, differences
from diffcodec.fitting.sparse_fit import fit_entries
from diffcodec.fitting.task import Changes, Task

# Levels of entries that are ranked by scores, while not all of them fit.
RANKED_LEVELS = 2
# Entries cost more unless the delta is one regular pattern, which is found out.
FEWEST_BITS = 4
# Layers of ever finer levels, each of the error that the ones below leave.
FINE_LAYERS = 3
FULL = 0.97


@dataclass(frozen=True)
class Fit:
    """Layers that fill a budget.

    Attributes:
        layers: In the order of application.
        bit_price: Error that a bit was worth when the first was chosen; 0: bytes are left.
    """

    layers: tuple[Changes, ...]
    bit_price: float


def nearest_layers(
    task: Task,
    sensitivities: Sensitivities | None,
    levels: int | None,
    below: tuple[Changes, ...] = (),
) -> Fit:
    """Sparse layers of least error that fit: one, or more where bytes are left of 127 levels.

    Args:
        task: What is asked for.
        sensitivities: What a squared error counts; None: one.
        levels: K that no tensor exceeds, in one layer; None: free.
        below: Layers that come first, and fit.
    """
    layers, price = below, 0.0
    for number in range(1 if levels else FINE_LAYERS):
        deltas = differences(apply(task.base, task.diff_of(layers)), task.new)
        changes, last_price = _layer(task, layers, deltas, sensitivities, levels)
        price = price if number else last_price
        if not changes:
            break
        layers = (*layers, changes)
        if task.size_of(layers) > FULL * task.budget_bytes:
            break
    return Fit(layers, price)


def _layer(
    task: Task,
    below: tuple[Changes, ...],
    deltas: Deltas,
    sensitivities: Sensitivities | None,
    levels: int | None,
) -> tuple[Changes, float]:
    """Changes of least error that fit above other layers, and the price of a bit."""
    at_most = 8 * task.budget_bytes // FEWEST_BITS
    while True:
        entries, are_all = contenders(task.start, deltas, sensitivities, at_most)
        changes, price = fit_entries(
            entries, task.budget_bytes, lambda tried: task.size_of([*below, tried]), levels
        )
        travelling = sum(change.positions.size for change in changes.values())
        if are_all or travelling < 0.8 * sum(e.positions.size for e in entries):
            return changes, price
        at_most = task.count


def ranked_layer(task: Task, scores: Scores, levels: int | None) -> tuple[Changes, ...]:
    """Changes of as many entries as fit, those with the highest scores; fine where all fit."""
    floor = Trial(0, task.size_of([]))
    candidates = Candidates.of(task.deltas, scores)

    def changes_of(count: int) -> Changes:
        chosen = candidates.positions_of_best(count).items()
        entries = [Entries.of(task.start, n, task.deltas[n].reshape(-1), at) for n, at in chosen]
        found = {e.spec.name: sparse_change(e, levels or RANKED_LEVELS) for e in entries}
        return {name: change for name, change in found.items() if change is not None}

    count = most_entries(
        lambda n: task.size_of([changes_of(n)]), candidates.count, floor, task.budget_bytes
    )
    if levels is None and count == candidates.count:
        return nearest_layers(task, None, None).layers
    return (changes_of(count),)

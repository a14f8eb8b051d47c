"""Methods mixed in one file: for each tensor what costs least at the price of a bit.

The sparse fit says what a bit is worth. At that price every tensor is looked at alone: sparse
levels, low-rank factors with sparse levels above them for what is left, or its exact bytes.
The chosen factors and bytes make a layer, sparse levels of what they leave fill the budget; the
sparse fit alone is the answer where that comes no nearer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diffcodec.changes import LowRankDiff, TensorDiff
from diffcodec.diff import apply
from diffcodec.fitting.entries import Entries, Floats, Sensitivities, weights_of
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.fitting.lowrank import RECORD_BITS, Directions, can_have_rank
from diffcodec.fitting.search import Trial, between
from diffcodec.fitting.selection import differences
from diffcodec.fitting.sparse_fit import cost_at, next_price
from diffcodec.fitting.sparse_layers import nearest_layers
from diffcodec.fitting.task import Changes, Task

# Prices in the search for low-rank factors alone: the first, over the largest singular value
# squared, and how often it may fall, by this factor.
FIRST_PRICE, FALL, MOST_FALLS = 1e-2, 4.0, 40
# Prices looked at until the tensors' cheapest methods about fill the budget, and how nearly.
PRICES = 6
NEAR = 0.05
# What another method must save of a tensor's cost to be believed before it is encoded.
CLEAR_SAVING = 0.02
# Factors are tried at these multiples of the price: what few directions leave, sparse levels
# may say cheaper than further directions.
FACTOR_PRICES = (1.0, 8.0, 64.0)
# An XOR has bits to code in each changed weight unless it is regular.
FEWEST_EXACT_BITS = 4


@dataclass(frozen=True)
class _Option:
    """One way to change a tensor, with sparse levels above it.

    Attributes:
        change: None: sparse levels alone.
        error: That is left.
        bits: Of all of it.
    """

    change: TensorDiff | None
    error: float
    bits: float

    def cost(self, bit_price: float) -> float:
        """Error and bits together."""
        return self.error + bit_price * self.bits


def mixed_layers(task: Task, sensitivities: Sensitivities | None) -> tuple[Changes, ...]:
    """Layers of any methods that come nearest within the budget.

    Raises:
        InputError: sensitivities are missing or unsound.
        LayoutError: sensitivities have another shape than their tensor.
    """
    plain = nearest_layers(task, sensitivities, None)
    if not plain.bit_price:
        return plain.layers
    directions = _directions(task)
    found = [plain.layers, _low_rank_layers(task, directions)]
    below = _better_than_sparse(task, sensitivities, directions, plain.bit_price)
    if below:
        found.append(_joined(nearest_layers(task, sensitivities, None, (below,)).layers))
    return min(found, key=lambda layers: _error(task, layers, sensitivities))


def low_rank_layers(task: Task) -> tuple[Changes, ...]:
    """Low-rank factors of all matrices, as good as fit; one layer, or none."""
    return _low_rank_layers(task, _directions(task))


def _low_rank_layers(task: Task, directions: Mapping[str, Directions]) -> tuple[Changes, ...]:
    if not directions:
        return ()

    def changes_at(fineness: float) -> Changes:
        price = 2.0**-fineness
        made = {n: found.change(task.deltas[n], price) for n, found in directions.items()}
        return {name: change for name, change in made.items() if change is not None}

    def size_at(fineness: float) -> int:
        return task.size_of([changes_at(fineness)])

    strongest = max(float(found.strengths[0]) for found in directions.values())
    low = Trial(-float(np.log2(FIRST_PRICE) + 2 * np.log2(strongest)), task.size_of([]))
    for _ in range(MOST_FALLS):
        setting = low.setting + float(np.log2(FALL))
        trial = Trial(setting, size_at(setting))
        if trial.size > task.budget_bytes:
            setting = between(size_at, low, trial, 1e-3, task.budget_bytes)
            return (changes_at(setting),)
        if trial.size == low.size > task.size_of([]):
            break
        low = trial
    return (changes_at(low.setting),)


def _directions(task: Task) -> dict[str, Directions]:
    specs = task.new.layout.index
    return {
        name: Directions.of(specs[name], delta, task.start.arrays[name])
        for name, delta in task.deltas.items()
        if can_have_rank(specs[name])
    }


def _better_than_sparse(
    task: Task,
    sensitivities: Sensitivities | None,
    directions: Mapping[str, Directions],
    bit_price: float,
) -> Changes:
    """What stands below sparse levels where each tensor takes its cheapest method.

    The price rises from the one of sparse levels alone until the cheapest methods, which reach
    further, about fill the budget.
    """
    exact = dict(lossless_diff(task.base, task.new).changes())
    room = 8.0 * (task.budget_bytes - task.size_of([]))
    seen: list[tuple[float, float]] = []
    chosen: dict[str, _Option] = {}
    for _ in range(PRICES):
        chosen = {
            name: _cheapest(task, name, sensitivities, directions.get(name), exact, bit_price)
            for name in task.deltas
        }
        if all(option.change is None for option in chosen.values()):
            return {}
        seen.append((bit_price, max(1.0, sum(option.bits for option in chosen.values()))))
        if abs(np.log(seen[-1][1] / room)) < NEAR:
            break
        bit_price = next_price(seen, room)
    below = {n: option.change for n, option in chosen.items() if option.change is not None}
    return below if task.size_of([below]) <= task.budget_bytes else {}


def _cheapest(
    task: Task,
    name: str,
    sensitivities: Sensitivities | None,
    directions: Directions | None,
    exact: Changes,
    bit_price: float,
) -> _Option:
    delta = task.deltas[name]
    weight = weights_of(name, delta, sensitivities)
    sparse = _sparse(task, name, delta.reshape(-1), weight, bit_price)
    options = [sparse]
    if directions is not None:
        options += _low_rank(task, name, directions, weight, bit_price)
    if FEWEST_EXACT_BITS * np.count_nonzero(delta) * bit_price < sparse.cost(bit_price):
        taken = task.size_of([{name: exact[name]}]) - task.size_of([])
        options.append(_Option(exact[name], 0.0, 8.0 * taken))
    best = min(options, key=lambda option: option.cost(bit_price))
    is_clear = best.cost(bit_price) < (1 - CLEAR_SAVING) * sparse.cost(bit_price)
    return best if is_clear else sparse


def _sparse(
    task: Task, name: str, flat: Floats, weight: Floats | None, bit_price: float
) -> _Option:
    """Sparse levels alone; entries that cannot pay are not looked at."""
    worth = np.square(flat, dtype=np.float64) * (1.0 if weight is None else weight)
    positions = np.flatnonzero(worth > bit_price)
    entries = Entries.of(task.start, name, flat, positions, weight)
    error, bits = cost_at(entries, bit_price)
    return _Option(None, error + float(worth[worth <= bit_price].sum()), bits)


def _low_rank(
    task: Task, name: str, directions: Directions, weight: Floats | None, bit_price: float
) -> list[_Option]:
    """Factors with sparse levels above them; nothing where no direction pays."""
    delta = task.deltas[name]
    scale = 1.0 if weight is None else float(weight.mean()) or 1.0
    options: list[_Option] = []
    for dearer in FACTOR_PRICES:
        change = directions.change(delta, dearer * bit_price / scale)
        if change is None:
            break
        product = change.rows.astype(np.float32) @ change.columns.astype(np.float32).T
        left = delta.reshape(-1) - product.reshape(-1) * np.float32(change.step)
        above = _sparse(task, name, left, weight, bit_price)
        bits = above.bits + RECORD_BITS + _entropy(change)
        options.append(_Option(change, above.error, bits))
    return options


def _entropy(change: LowRankDiff) -> float:
    """Bits of all levels by their frequencies."""
    levels = np.concatenate([change.rows.reshape(-1), change.columns.reshape(-1)])
    counts = np.unique(levels, return_counts=True)[1]
    return float((counts * (np.log2(levels.size) - np.log2(counts))).sum())


def _joined(layers: tuple[Changes, ...]) -> tuple[Changes, ...]:
    """The first two layers in one, where no tensor is in both."""
    if len(layers) < 2 or layers[0].keys() & layers[1].keys():
        return layers
    return ({**layers[0], **layers[1]}, *layers[2:])


def _error(task: Task, layers: Sequence[Changes], sensitivities: Sensitivities | None) -> float:
    """Weighted squared error that is left."""
    deltas = differences(apply(task.base, task.diff_of(layers)), task.new)
    total = 0.0
    for name, delta in deltas.items():
        weight = weights_of(name, delta, sensitivities)
        squares = np.square(delta.reshape(-1), dtype=np.float64)
        total += float((squares if weight is None else squares * weight).sum())
    return total

"""The sparse diff of least error within a budget: the price at which the file just fits.

`tradeoff` answers everything for a given price of a bit; here the price is found. A model of the
coders (`rates`) steers and a handful of true encodes corrects it: first scales, rates and price
are settled together, then the price alone is moved until the file fits and is nearly full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from diffcodec.changes import SparseDiff
from diffcodec.fitting.entries import Entries
from diffcodec.fitting.tradeoff import Coding, Floats, Signless, best_coding, choose, refitted

# Bits of an entry in a trained diff: where the search starts.
FIRST_BITS = 9.0
# Rounds by the model before each true encode, until the file is near the budget; then encodes
# with scales that stay.
SETTLINGS = (12, 6, 6)
# Prices this near in logarithm ask for the same scales.
SAME_PRICE = 0.2
# Bits that change by less than this share, though the price fell, have all been said.
PLATEAU = 2e-3
# Entries on which a price is found, and the steps of the search.
SAMPLE_SIZE = 200_000
LARGEST_FACTOR = 3.0
HALVINGS = 10
NEAR = (0.97, 1.03)
FINISHING = 8
# Rounds for a tensor alone at a given price.
COSTING = 2
# The file aimed for, and the one that is full enough, as shares of the budget.
AIM = 0.996
ENOUGH = 0.99
# log(bits) over log(price): before two prices were seen, and what is believed after.
TYPICAL_ELASTICITY = -0.7
ELASTICITIES = (-1.5, -0.005)
LARGEST_STEP = np.log(30.0)

SizeOf = Callable[[dict[str, SparseDiff]], int]


@dataclass(frozen=True)
class Plan:
    """What one tensor would receive.

    Attributes:
        entries: That may travel.
        levels: Of each entry, its sign apart, shape (N,); 0: the entry stays.
        coding: What levels stand for; None: the tensor stays.
        positions: Bits of each position that the levels were chosen by, shape (N,).
        rest: Bits that say of all other positions that they stay.
    """

    entries: Entries
    levels: Signless
    coding: Coding | None
    positions: Floats
    rest: float

    @property
    def error(self) -> float:
        """Weighted squared error that is left."""
        if self.coding is None:
            return float(self.entries.worth.sum())
        return float(self.entries.errors(self._amounts(self.coding)).sum())

    @property
    def entry_bits(self) -> float:
        """What its entries cost in the file, by the model."""
        here = self.levels > 0
        if self.coding is None:
            return 0.0
        levels = self.coding.bits[self.levels[here] - 1]
        return float((self.positions[here] + levels).sum())

    @property
    def bits(self) -> float:
        """What it costs in the file, by the model."""
        if self.coding is None or not self.levels.any():
            return 0.0
        return self.entry_bits + self.rest + self.coding.header_bits

    @property
    def change(self) -> SparseDiff | None:
        """As a diff states it: magnitudes that no entry uses are left out."""
        here = np.flatnonzero(self.levels)
        if self.coding is None or not here.size:
            return None
        levels, coding = self.levels[here].astype(np.int64), self.coding
        if not coding.is_uniform:
            used, levels = np.unique(levels, return_inverse=True)
            coding = replace(coding, magnitudes=coding.magnitudes[used - 1])
            levels = levels + 1
        signed = np.copysign(levels, self.entries.values[here]).astype(np.int8)
        return SparseDiff(self.entries.positions[here], signed, coding.scale)

    def _amounts(self, coding: Coding) -> Floats:
        magnitudes = np.concatenate([[0.0], coding.magnitudes])
        amounts: Floats = np.copysign(magnitudes[self.levels], self.entries.values)
        return amounts


def fit_entries(
    contenders: Sequence[Entries], budget_bytes: int, size_of: SizeOf, largest: int | None
) -> tuple[dict[str, SparseDiff], float]:
    """Entries, levels and scales of least error whose file fits.

    Args:
        contenders: What may travel, by tensor.
        budget_bytes: What must fit; an empty diff does.
        size_of: Bytes of the file that changes make.
        largest: K of all tensors; None: free.

    Returns:
        What each tensor receives, those that stay left out; and the price of a bit at the end.
    """
    search = _Search(size_of, budget_bytes)
    floor = size_of({})
    room = 8 * (AIM * budget_bytes - floor)
    if room <= 0 or not contenders:
        return {}, 0.0
    price = _first_price(contenders, room)
    plans = [_first_plan(entries, price) for entries in contenders]
    factor, before = 1.0, 0
    for rounds in SETTLINGS:
        plans, price = _settled(plans, price, room / factor, rounds, largest)
        size = search.try_out(plans)
        factor = 8 * max(size - floor, 1) / max(sum(plan.bits for plan in plans), 1.0)
        if NEAR[0] < size / budget_bytes < NEAR[1] or floor < size == before < budget_bytes:
            break
        before = size
    price = _finish(search, plans, price, size)
    return search.best, price


def cost_at(entries: Entries, bit_price: float) -> tuple[float, float]:
    """Error and bits of one tensor at a price, by the model."""
    plan = _first_plan(entries, bit_price)
    for _ in range(COSTING):
        plan = _repriced(_recoded(plan, bit_price, True, None), bit_price)
    return plan.error, plan.bits


class _Search:
    """Encodes what is tried and remembers the best that fits."""

    def __init__(self, size_of: SizeOf, budget_bytes: int) -> None:
        self._size_of = size_of
        self._least = np.inf
        self.budget_bytes = budget_bytes
        self.best: dict[str, SparseDiff] = {}

    def try_out(self, plans: Sequence[Plan]) -> int:
        """Size in bytes of the file that plans make."""
        changes = {}
        for plan in plans:
            change = plan.change
            if change is not None:
                changes[plan.entries.spec.name] = change
        size = self._size_of(changes)
        if size <= self.budget_bytes:
            error = sum(plan.error for plan in plans)
            if error < self._least:
                self._least, self.best = error, changes
        return size


def _first_price(contenders: Sequence[Entries], room_bits: float) -> float:
    """What the last entry that fits is worth, a bit; where all fit, what their last bits are."""
    worths = np.concatenate([entries.worth for entries in contenders])
    count = min(worths.size, max(1, int(room_bits / FIRST_BITS)))
    last = float(np.partition(worths, worths.size - count)[worths.size - count])
    # An error falls by a factor of four with every bit.
    spare_bits = min(room_bits / worths.size - FIRST_BITS, 12.0)
    fine = float(worths.mean()) * 4.0**-spare_bits if spare_bits > 0 else 0.0
    return max(last / FIRST_BITS, fine, float(np.finfo(np.float64).tiny))


def _first_plan(entries: Entries, price: float) -> Plan:
    is_kept = entries.worth > FIRST_BITS * price
    nothing = np.zeros(is_kept.size)
    return Plan(entries, is_kept.astype(np.int16), None, nothing, 0.0)


def _settled(
    plans: list[Plan], price: float, room_bits: float, rounds: int, largest: int | None
) -> tuple[list[Plan], float]:
    """Plans and price that fill the room by the model and agree with each other."""
    coded_at, stride, moved, bits = 0.0, np.log(LARGEST_FACTOR), 0.0, 0.0
    for _ in range(rounds):
        is_anew = abs(np.log(price / coded_at)) > SAME_PRICE if coded_at else True
        coded_at = price if is_anew else coded_at
        plans = [_recoded(plan, price, is_anew, largest) for plan in plans]
        before, price = price, _filling_price(plans, price, room_bits, stride)
        plans = [_repriced(plan, price) for plan in plans]
        step = np.log(price / before)
        bits_before, bits = bits, sum(plan.bits for plan in plans)
        if bits < room_bits and abs(bits - bits_before) < PLATEAU * bits:
            break
        # Finer scales ask for a higher price: strides shrink where it swings.
        stride = stride / 2 if step * moved < 0 else stride
        moved = step
        if abs(np.log(price / coded_at)) < SAME_PRICE and abs(step) < SAME_PRICE / 2:
            break
    return plans, price


def _recoded(plan: Plan, price: float, is_anew: bool, largest: int | None) -> Plan:
    """With rates by what travels now, and scales that suit them."""
    entries = plan.entries
    positions, rest = entries.grid.position_bits(plan.levels > 0)
    if is_anew:
        coding = best_coding(entries, positions, price, largest)
    else:
        coding = plan.coding and refitted(entries, plan.coding, plan.levels, price)
    return Plan(entries, plan.levels, coding, positions, rest)


def _repriced(plan: Plan, price: float) -> Plan:
    """With the levels that a price asks for."""
    if plan.coding is None:
        return replace(plan, levels=np.zeros_like(plan.levels))
    return replace(plan, levels=choose(plan.entries, plan.coding, plan.positions, price))


def _filling_price(plans: Sequence[Plan], price: float, room_bits: float, stride: float) -> float:
    """The price at which plans fill the room by the model, rates and scales staying as they are."""
    total = sum(plan.levels.size for plan in plans)
    every = -(-total // SAMPLE_SIZE)
    samples = [_sampled(plan, every) for plan in plans]
    fixed = sum(plan.rest + plan.coding.header_bits for plan in plans if plan.coding)
    low, high = price * np.exp(-stride), price * np.exp(stride)
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        bits = fixed + every * sum(_repriced(sample, middle).entry_bits for sample in samples)
        low, high = (middle, high) if bits > room_bits else (low, middle)
    return float((low * high) ** 0.5)


def _sampled(plan: Plan, every: int) -> Plan:
    chosen = np.arange(0, plan.levels.size, every)
    return replace(
        plan,
        entries=plan.entries.some(chosen),
        levels=plan.levels[chosen],
        positions=plan.positions[chosen],
    )


def _finish(search: "_Search", plans: list[Plan], price: float, size: int) -> float:
    """Move the price alone until the file fits and is nearly full."""
    low, high = 0.0, np.inf
    seen: list[tuple[float, float]] = []
    for _ in range(FINISHING):
        if ENOUGH * search.budget_bytes <= size <= search.budget_bytes:
            break
        if len(seen) > 1 and size == seen[-1][1] < search.budget_bytes:
            break
        seen.append((price, size))
        low, high = (price, high) if size > search.budget_bytes else (low, price)
        price = next_price(seen, AIM * search.budget_bytes)
        if not low < price < high:
            price = (low * high) ** 0.5 if low else high / 2
        size = search.try_out([_repriced(plan, price) for plan in plans])
    return price


def next_price(seen: Sequence[tuple[float, float]], target: float) -> float:
    """The next price to try, by the secant in logarithms of price and size.

    Args:
        seen: Prices and the sizes that they led to, the latest last.
        target: The size wanted.
    """
    price, size = seen[-1]
    elasticity = TYPICAL_ELASTICITY
    if len(seen) > 1:
        before, size_before = seen[-2]
        if abs(np.log(price / before)) > 1e-3:
            elasticity = np.log(size / size_before) / np.log(price / before)
    step = np.log(target / size) / np.clip(elasticity, *ELASTICITIES)
    return float(price * np.exp(np.clip(step, -LARGEST_STEP, LARGEST_STEP)))

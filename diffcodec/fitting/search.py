"""Searches for the setting whose file just fits: sizes grow with settings, encoding tells them."""

from collections.abc import Callable
from dataclasses import dataclass

# A search ends at this share of the budget; the last percent costs as many trials as the rest.
ENOUGH = 0.985
AIM = 0.995
MAX_TRIALS = 24
# What an entry of a trained diff costs with its position, roughly: where a search starts.
FIRST_GUESS_BITS = 8


@dataclass(frozen=True)
class Trial:
    """A setting and the size in bytes of the file it gives."""

    setting: float
    size: int


def most_entries(
    size_of: Callable[[int], int], available: int, low: Trial, budget_bytes: int
) -> int:
    """About the largest number of entries whose file fits."""
    count = min(available, max(1, budget_bytes * 8 // FIRST_GUESS_BITS))
    while low.setting < available:
        trial = Trial(count, size_of(count))
        if trial.size > budget_bytes:
            return int(between(lambda t: size_of(int(t)), low, trial, 1, budget_bytes))
        low = trial
        count = min(available, 2 * count)
    return int(low.setting)


def finest_fit(
    size_of: Callable[[float], int], low: Trial, highest: float, budget_bytes: int
) -> float:
    """About the largest setting up to `highest` whose file fits; `low` is known to."""
    high = Trial(highest, size_of(highest))
    if high.size <= budget_bytes:
        return highest
    return between(size_of, low, high, 1e-3, budget_bytes)


def between(
    size_of: Callable[[float], int],
    low: Trial,
    high: Trial,
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
        found = Trial(setting, size_of(setting))
        low, high = (found, high) if found.size <= budget_bytes else (low, found)
    return low.setting

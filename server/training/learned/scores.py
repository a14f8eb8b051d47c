"""Which entries of G matter most: by magnitude, or by what removing one would cost.

Removing g_i from a trained diff costs about F_ii g_i^2 / 2 of loss, with the Fisher information
F_ii, the mean of squared gradients (Theis et al. 2018, "Faster gaze prediction with dense
networks and Fisher pruning"; LeCun et al. 1989 with the Hessian). So entries are ranked by
|g_i| sqrt(F_ii).
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""(G of a tensor, its mean squared gradients) -> a score from 0 on for each entry."""

FLOOR = 1e-20
"""Added to squared gradients: an entry without any gradient still has a rank."""
HALF_BITS = 16


def by_magnitude(g: Tensor, _squares: Tensor) -> Tensor:
    """|g|: Zhu and Gupta 2018; neural diff paper 3.1."""
    return g.abs()


def by_fisher(g: Tensor, squares: Tensor) -> Tensor:
    """|g| sqrt(F)."""
    return g.abs() * (squares + FLOOR).sqrt()


def threshold(scores: Callable[[], Iterable[Tensor]], keep: int) -> float:
    """The largest value v so that at most `keep` scores are above v.

    Exact, tensor by tensor: floats from 0 on are ordered as their bits are, so two histograms of
    half the bits each find the value without a copy of all scores.

    Args:
        scores: Gives all scores, float32 from 0 on, a tensor at a time; called twice.
        keep: How many may be above.
    """
    high, above = _crossing(scores, keep, lambda bits: bits >> HALF_BITS)
    bottom = (1 << HALF_BITS) - 1

    def low_bits(bits: Tensor) -> Tensor:
        return bits[(bits >> HALF_BITS) == high] & bottom

    low, _ = _crossing(scores, keep - above, low_bits)
    return torch.tensor((high << HALF_BITS) | low, dtype=torch.int32).view(torch.float32).item()


def _crossing(
    scores: Callable[[], Iterable[Tensor]], keep: int, digits: Callable[[Tensor], Tensor]
) -> tuple[int, int]:
    """The digit at which counting from the largest down passes `keep`, and how many are above."""
    counts = torch.zeros(1 << HALF_BITS, dtype=torch.int64)
    for score in scores():
        bits = score.detach().flatten().view(torch.int32)
        counts += torch.bincount(digits(bits), minlength=1 << HALF_BITS).cpu()
    from_top = counts.flip(0).cumsum(0)  # from_top[k]: scores whose digit is among the k + 1 top
    passed = int((from_top <= keep).sum())  # so many whole digits from the top fit
    if passed == len(counts):  # all of them fit
        return 0, int(from_top[-2])
    above = int(from_top[passed - 1]) if passed else 0
    return len(counts) - 1 - passed, above

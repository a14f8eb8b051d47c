"""How training goes on with the steps: the learning rate, and the sparsity of a pruned diff."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LearningRate:
    """Warm up, hold, then decay exponentially (neural diff paper, 4.2).

    Attributes:
        steps: Optimiser steps in all.
        peak: The rate that is held.
    """

    steps: int
    peak: float
    warmup_share: float = 0.05
    hold_share: float = 0.6
    final_factor: float = 0.02

    def at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        progress = step / self.steps
        if progress < self.warmup_share:
            return self.peak * (step + 1) / (self.warmup_share * self.steps + 1)
        if progress < self.hold_share:
            return self.peak
        decay = (progress - self.hold_share) / (1.0 - self.hold_share)
        return float(self.peak * self.final_factor**decay)


@dataclass(frozen=True)
class CubicSchedule:
    """How the sparsity grows: s_r = s_f * (1 - (1 - (r - r_0) / (r_f - r_0))^3).

    Zhu and Gupta 2018; neural diff paper 3.1.
    """

    final_sparsity: float
    first_step: int
    last_step: int

    def sparsity(self, step: int) -> float:
        """The share of pruned weights at a step: 0 before r_0, s_f from r_f on."""
        progress = (step - self.first_step) / max(1, self.last_step - self.first_step)
        remaining = 1.0 - min(1.0, max(0.0, progress))
        return self.final_sparsity * (1.0 - remaining**3)

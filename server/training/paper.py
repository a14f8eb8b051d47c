"""The numbers of the neural diff paper, section 4, for both tasks.

The paper names steps for pruning but not how many there are in all; those, and the learning
rates, are ours. Where a training has other steps its pruning is moved in proportion.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from server.training.learned.methods import HASH_SPEED

Span = tuple[float, float]
"""From r_0 to r_f, as shares of all steps."""


@dataclass(frozen=True)
class Numbers:
    """How a task is learned.

    Attributes:
        steps: Optimiser steps.
        baseline_pruning: When a compressed baseline (BLC) is pruned.
        diff_pruning: When a diff is pruned.
        learning_rate: The rate that is held (schedule.LearningRate).
        hash_speed: The rate of a hash diff's arrays, over that of weights.
        faster: Other rates, by configuration: small models learn in few steps or not at all.
    """

    steps: int
    baseline_pruning: Span
    diff_pruning: Span
    learning_rate: float
    hash_speed: float
    faster: Mapping[str, float] = field(default_factory=dict)

    def rate(self, config: str) -> float:
        """The learning rate of a configuration."""
        return self.faster.get(config, self.learning_rate)


SLU_STEPS, RNNT_STEPS = 20_000, 50_000

NUMBERS: Mapping[str, Numbers] = {
    # "Our sparsity schedule for all sparse training operates over steps 2k-12k" (4.2).
    "slu": Numbers(
        SLU_STEPS,
        baseline_pruning=(2_000 / SLU_STEPS, 12_000 / SLU_STEPS),
        diff_pruning=(2_000 / SLU_STEPS, 12_000 / SLU_STEPS),
        learning_rate=2e-3,
        hash_speed=HASH_SPEED,
    ),
    # "we prune over steps 20k-35k while for diff objects we prune earlier from 1k-11k" (4.1).
    "rnnt": Numbers(
        RNNT_STEPS,
        baseline_pruning=(20_000 / RNNT_STEPS, 35_000 / RNNT_STEPS),
        diff_pruning=(1_000 / RNNT_STEPS, 11_000 / RNNT_STEPS),
        learning_rate=1e-3,
        # At 10 the second diff of a chain diverges: |W| grows with every generation.
        hash_speed=3.0,
        faster={"small": 2e-3},
    ),
}

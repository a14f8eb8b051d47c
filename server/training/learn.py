"""The training loop that every recipe shares.

It knows a model, examples and a parametrization of the weights, and nothing of budgets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.func import functional_call

from server.training.errors import DivergedError
from server.training.parametrization import Parametrization
from server.training.slu.examples import Examples, pad_phrases
from server.training.slu.loss import triplet_loss

Progress = Callable[[int, int, float], None]
"""Called with (step, steps, loss)."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn: warm up, hold, then decay (neural diff paper 4.2)."""

    steps: int
    learning_rate: float
    batch_size: int = 64
    warmup_share: float = 0.05
    hold_share: float = 0.6
    final_factor: float = 0.02

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        progress = step / self.steps
        if progress < self.warmup_share:
            return self.learning_rate * (step + 1) / (self.warmup_share * self.steps + 1)
        if progress < self.hold_share:
            return self.learning_rate
        decay = (progress - self.hold_share) / (1.0 - self.hold_share)
        return float(self.learning_rate * self.final_factor**decay)


def learn(
    model: nn.Module,
    examples: Examples,
    parametrization: Parametrization,
    schedule: Schedule,
    rng: np.random.Generator,
    progress: Progress,
) -> float:
    """Fit the free tensors of a parametrization by Adam.

    Args:
        model: The architecture; its own weights are not used and not changed.
        examples: What to learn from.
        parametrization: The weights and what is free in them; changed in place.
        schedule: Steps, rates and batch size.
        rng: Draws batches, augmentation and the seed of dropout.
        progress: Told about every step.

    Returns:
        The mean loss of the last tenth of the steps.

    Raises:
        DivergedError: the loss is not finite any more.
    """
    optimizer = torch.optim.Adam(parametrization.free(), lr=schedule.learning_rate)
    phrases = pad_phrases(examples.phrases)
    losses = []
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        for step in range(schedule.steps):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            features, labels = examples.draw(schedule.batch_size, rng)
            inputs = (features.values, features.lengths, phrases.values, phrases.lengths)
            speech, text = functional_call(model, dict(parametrization.weights()), inputs)
            loss = triplet_loss(speech, text, labels)
            losses.append(loss.item())
            if not np.isfinite(losses[-1]):
                raise DivergedError(f"expected a finite loss, found {losses[-1]} at step {step}")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parametrization.free(), max_norm=5.0)
            optimizer.step()
            parametrization.after_step(step + 1)
            progress(step + 1, schedule.steps, losses[-1])
    return float(np.mean(losses[-max(1, schedule.steps // 10) :]))

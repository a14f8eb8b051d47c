"""A request with everything that a recipe needs in hand."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn

from diffcodec import Diff, ParameterSet
from diffcodec.fitting.hash_fit import array_lengths
from server.training import paper, parallel
from server.training.checkpoint import Checkpoint
from server.training.errors import TrainingRequestError
from server.training.grid import dequantise
from server.training.learn import Progress, learn
from server.training.learned.diff import LearnedDiff
from server.training.learned.methods import aimed_density, lengths_within
from server.training.parameters import to_weights
from server.training.request import TrainingRequest
from server.training.schedule import LearningRate
from server.training.task import Task
from server.training.tasks import taught_by


class Job:
    """One generation to learn."""

    def __init__(
        self, request: TrainingRequest, task: Task, stream: int, progress: Progress
    ) -> None:
        """Get ready.

        Args:
            request: What to learn.
            task: Its model and data.
            stream: Of randomness: each recipe draws from one of its own.
            progress: Told about every step.

        Raises:
            TrainingRequestError: the task cannot learn from teachers, or not from these.
        """
        self.request = request
        self.numbers = paper.NUMBERS[request.task]
        self.steps = request.steps or self.numbers.steps
        self.checkpoint = Checkpoint(
            request.checkpoint, f"{request.fingerprint()} by {parallel.size()}"
        )
        self._progress = progress
        self._rng = np.random.default_rng([request.seed, request.generation, stream])
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.task = task
        if request.teachers:
            teachers = [self._model(weights, "a teacher") for weights in request.teachers]
            self.task = taught_by(task, teachers)

    def fresh_model(self) -> nn.Module:
        """Random weights."""
        return self.task.new_model(self.request.seed).to(self._device)

    @property
    def base(self) -> ParameterSet:
        """F_t.

        Raises:
            TrainingRequestError: there is none.
        """
        if self.request.base is None:
            raise TrainingRequestError(
                f"recipe {self.request.recipe}: expected a generation to build upon, found none"
            )
        return self.request.base

    def base_model(self) -> nn.Module:
        """The weights of F_t.

        Raises:
            TrainingRequestError: there is none, or of another layout.
        """
        return self._model(self.base, "a base")

    def _model(self, weights: ParameterSet, what: str) -> nn.Module:
        if weights.layout != self.task.layout:
            raise TrainingRequestError(
                f"expected {what} of the layout of configuration {self.request.config!r}, "
                "found another"
            )
        model = self.task.new_model(self.request.seed)
        model.load_state_dict(to_weights(dequantise(weights)))
        return model.to(self._device)

    @property
    def budget_bytes(self) -> int:
        """The size as bytes.

        Raises:
            TrainingRequestError: there is none.
        """
        if self.request.budget_bytes is None:
            raise TrainingRequestError(
                f"recipe {self.request.recipe}: expected a budget in bytes, found none"
            )
        return self.request.budget_bytes

    @property
    def hash_seed(self) -> int:
        """Another one for each generation (3.2)."""
        return (self.request.seed << 32) + self.request.generation

    def density(self) -> float:
        """The share of weights to prune down to: nominally, or for the coder to go on from."""
        if self.request.nominal_ratio is not None:
            return 1.0 / self.request.nominal_ratio
        return aimed_density(self.task.layout.parameter_count, self.budget_bytes)

    def at(self, share: float) -> int:
        """A step, as a share of all."""
        return max(1, round(share * self.steps))

    def lengths(self, entry_bits: float) -> dict[str, int]:
        """Lengths of hash arrays: nominally, or so that entries of so many bits fit."""
        layout, ratio = self.task.layout, self.request.nominal_ratio
        if ratio is not None:
            return array_lengths(layout, 1.0 / ratio)
        return lengths_within(layout, self.budget_bytes, entry_bits)

    def learn(self, learned: LearnedDiff) -> "Learned":
        """Learn a diff."""
        held = self.numbers.rate(self.request.config)
        rate = LearningRate(self.steps, learned.speed * held)
        batch_size = self.request.batch_size
        loss = learn(
            self.task, learned, rate, batch_size, self._rng, self._progress, self.checkpoint
        )
        return Learned(learned, loss)


class Leaving(Protocol):
    """What a recipe leaves: a learned diff, or a generation that nothing was learned for."""

    def encode(self) -> bytes:
        """As an .ndiff file."""

    def free_values(self, diff: Diff) -> int:
        """How many values the decoded file leaves free."""


@dataclass(frozen=True)
class Learned:
    """What a recipe came to.

    Attributes:
        loss: Mean of the last steps.
        note: Why this recipe, where one was chosen.
        card: Of F_t, where nothing was learned; None: the task's.
    """

    diff: Leaving
    loss: float
    note: str = ""
    card: str | None = None

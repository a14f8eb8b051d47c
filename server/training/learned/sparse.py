"""An additive diff, zero at first, whose least entries are pruned as it learns (paper 3.1).

Where G is pruned the model keeps the weight of F_t, so the result stays dense. A snapshot of a
pruned G is a pruned model: the compressed baseline (BLC).

Beyond the paper, each to be switched on by itself:

    score       |g| sqrt(F) in place of |g|                              (scores)
    regrowth    pruned entries go on learning unseen and may come back   (dynamic network surgery,
                Guo et al. 2016)
    budget      pruning ends with what the *encoded file* can carry, and what is left learns on
                as the levels that travel                                (levels)
    feedback    what did not travel is where the G of the next generation starts (error feedback:
                Seide et al. 2014; Karimireddy et al. 2019); takes a copy of the weights
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import (
    Coder,
    Diff,
    ParameterSet,
    SparseDiff,
    apply,
    decode,
    encode,
    fit_sparse,
)
from server.training.errors import TrainingRequestError
from server.training.learned.diff import LearnedDiff, base_digest, fine_levels
from server.training.learned.levels import SLACK, Levels, encode_within
from server.training.learned.scores import Score, by_fisher, by_magnitude, threshold
from server.training.parameters import to_device
from server.training.schedule import CubicSchedule


@dataclass(frozen=True)
class Pruning:
    """How G becomes sparse.

    Attributes:
        schedule: The sparsity by step.
        score: Ranks entries; the least are pruned.
        is_global: One threshold for all tensors; else each tensor is pruned to the same sparsity.
        is_regrowing: Pruned entries go on learning, and come back when they rank high again.
        interval: Steps between two prunings.
    """

    schedule: CubicSchedule
    score: Score = by_magnitude
    is_global: bool = True
    is_regrowing: bool = False
    interval: int = 10

    def is_due(self, step: int) -> bool:
        """Whether to prune after a step, counted from 1."""
        schedule = self.schedule
        in_time = schedule.first_step < step <= schedule.last_step
        return in_time and (step % self.interval == 0 or step == schedule.last_step)


class Sparse(LearnedDiff):
    """F_t + G, G sparse.

    Attributes:
        filled: Share of the budget that is filled where levels begin to learn.
    """

    filled = SLACK

    def __init__(
        self,
        model: nn.Module,
        pruning: Pruning,
        budget_bytes: int | None = None,
        *,
        has_levels: bool = False,
        has_feedback: bool = False,
        start: ParameterSet | None = None,
        is_snapshot: bool = False,
        coders: tuple[Coder, ...] | None = None,
        stored: ParameterSet | None = None,
    ) -> None:
        """Anchor a module.

        Args:
            model: See LearnedDiff.
            pruning: How G becomes sparse.
            budget_bytes: Where pruning ends, the file's size decides how many entries stay. None:
                the schedule's sparsity does.
            has_levels: From there on entries learn as the levels that travel.
            has_feedback: Keep what is pruned, for `residual`.
            start: Where G starts: the residual of the generation before. None: at zero.
            is_snapshot: The anchor is zero.
            coders: What devices decode; None: all that there are here.
            stored: F_t as devices have it, where the module holds it in another form.

        Raises:
            BudgetError: not even an empty diff fits.
            TrainingRequestError: the start is of another layout.
        """
        super().__init__(model, budget_bytes, is_snapshot=is_snapshot, coders=coders)
        if stored is not None:
            self.base, self.layout = stored, stored.layout
        self._pruning = pruning
        self._has_levels = has_levels
        self._size = sum(w.numel() for w in self.weights.values())
        self._kept: dict[str, Tensor] = {}
        # What entries learn, where the module runs on other values: with regrowth on those that are
        # not pruned.
        self._unseen: dict[str, Tensor] = {}
        self._levels: Levels | None = None
        self._has_feedback = has_feedback
        # With feedback: what G was where it was pruned, zero elsewhere.
        self._pruned: dict[str, Tensor] = {}
        if start is not None:
            self._start_at(start)
        if budget_bytes is not None:  # a hopeless one is refused now, not after the training
            empty = self.base or ParameterSet.zeros(self.layout)
            fit_sparse(self.base, empty, budget_bytes, coders=self.coders)

    def free(self) -> list[Tensor]:
        """The module's own weights: their gradients are those of G."""
        return list(self.weights.values())

    def before_step(self) -> None:
        """Give the optimiser the values that learn, where the module ran on others."""
        if self._levels is not None:
            self._levels.show_learning(self.weights, self.anchor)
        for name, values in self._unseen.items():
            self.weights[name].copy_(values)

    def after_step(self) -> None:
        """Prune where it is due; pruned entries stay at F_t."""
        if self._levels is not None:
            self._levels.take_learning(self.weights, self.anchor)
            self._levels.show_travelling(self.weights, self.anchor)
            return
        if self._pruning.is_regrowing and self.steps_done < self._pruning.schedule.last_step:
            self._unseen = {name: w.detach().clone() for name, w in self.weights.items()}
        if self._pruning.is_due(self.steps_done):
            sparsity = self._pruning.schedule.sparsity(self.steps_done)
            self.prune_to(round((1.0 - sparsity) * self._size))
        else:
            self._keep_pruned()
        if self.steps_done == self._pruning.schedule.last_step:
            self._unseen = {}
            room = self.room(self.budget_bytes)
            if room is not None:
                self._settle(room)

    @torch.no_grad()
    def prune_to(self, count: int) -> None:
        """Keep the `count` entries of G that rank highest."""
        limits = self._limits(count)
        for name in self.weights:
            # Not `>`: NaN must stay, and show in the loss, not be pruned away unseen.
            is_kept = ~(self._score(name) <= limits[name])
            if self._has_feedback:
                self._remember(name, is_kept)
            self._kept[name] = is_kept
        self._keep_pruned()

    def file_of_weights(self, budget_bytes: int | None, coders: tuple[Coder, ...]) -> bytes:
        """Without any budget every entry of G travels."""
        if budget_bytes is None:
            return self.file_of_all(coders)
        if self._levels is not None and budget_bytes == self.room(self.budget_bytes):
            return encode_within(self._diff, self.base, budget_bytes, coders)
        return self._fit(budget_bytes, coders)

    @torch.no_grad()
    def residual(self, diff: Diff) -> ParameterSet | None:
        """What was learned and did not travel: where the G of the next generation starts.

        Args:
            diff: The decoded file.

        Returns:
            By the layout of F_t; None without feedback.
        """
        if not self._has_feedback:
            return None
        travelled = apply(self.base, diff)
        arrays = {spec.name: np.zeros(spec.shape, np.float32) for spec in self.layout.tensors}
        for name, g in self._learned_g().items():
            arrays[name] = (self.anchor[name] + g).cpu().numpy() - travelled.arrays[name]
        return ParameterSet.from_arrays(arrays)

    def state(self) -> dict[str, Any]:
        """Masks and levels too."""
        levels = None if self._levels is None else self._levels.state()
        masks = {"kept": self._kept, "unseen": self._unseen, "pruned": self._pruned}
        return super().state() | masks | {"levels": levels}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().restore(state)
        device = next(iter(self.weights.values())).device
        self._kept, self._unseen, self._pruned = (
            to_device(state[part], device) for part in ("kept", "unseen", "pruned")
        )
        self._levels = None
        if state["levels"] is not None:
            self._levels = self.levels_of_state(to_device(state["levels"], device))

    def levels_of(self, changes: Mapping[str, SparseDiff]) -> Levels:
        """Begin with the entries and magnitudes of a fitted diff."""
        deltas = {name: w - self.anchor[name] for name, w in self.weights.items()}
        squares = {name: self._sensitivity(name) for name in changes}
        return Levels.of(changes, deltas, squares)

    def levels_of_state(self, state: Mapping[str, Any]) -> Levels:
        """Go on with those of a checkpoint."""
        return Levels.of_state(state)

    def cost(self, name: str) -> Tensor:
        """What a squared error counts in the unit in which the tensor is stored."""
        return self._sensitivity(name)

    def _settle(self, budget_bytes: int) -> None:
        """Let the coder decide which entries travel, and as which levels."""
        fitted = decode(self._fit(int(self.filled * budget_bytes), self.coders), self.layout).diff
        changes = {n: c for n, c in fitted.changes() if isinstance(c, SparseDiff)}
        if len(changes) < len(list(fitted.changes())):
            return  # exact weights fit as well: nothing has to go
        if not self._has_levels:
            self.prune_to(sum(change.levels.size for change in changes.values()))
            return
        levels = self.levels_of(changes)
        if self._has_feedback:  # entries that do not become levels, too
            self._pruned = self._learned_g()
        self._levels = levels
        self._levels.show_travelling(self.weights, self.anchor)

    def file_of_all(self, coders: tuple[Coder, ...]) -> bytes:
        """Every entry of G, nearly exactly, as an .ndiff file."""
        deltas = {
            name: (weight - self.anchor[name]).detach().cpu().numpy()
            for name, weight in self.weights.items()
        }
        start = self.base or ParameterSet.zeros(self.layout)
        changes = fine_levels(start, deltas)
        diff = Diff.of(self.layout, base_digest(self.base), changes)
        return encode(diff, self.base, coders)

    def _diff(self, trimmed: float) -> Diff:
        """The levels that travel, without a share of the least."""
        changes = {} if self._levels is None else self._levels.changes(trimmed)
        return Diff.of(self.layout, base_digest(self.base), changes)

    def _fit(self, budget_bytes: int, coders: tuple[Coder, ...]) -> bytes:
        """The file of least error; by Fisher information where that is what ranks entries."""
        new, sensitivities = self.parameters(), None
        if self._pruning.score is by_fisher and self.steps_done:
            sensitivities = {name: self.cost(name).cpu().numpy() for name in self.weights}
        return fit_sparse(self.base, new, budget_bytes, sensitivities=sensitivities, coders=coders)

    def _sensitivity(self, name: str) -> Tensor:
        """What a squared error counts, as entries are ranked."""
        if self._pruning.score is by_fisher:
            return self.fisher(name)
        return torch.ones_like(self.weights[name])

    @torch.no_grad()
    def _start_at(self, start: ParameterSet) -> None:
        if start.layout != self.layout:
            raise TrainingRequestError(
                "expected a residual of the layout that is built upon, found another"
            )
        for name, weight in self.weights.items():
            weight.add_(torch.tensor(start.arrays[name], device=weight.device))

    def _remember(self, name: str, is_kept: Tensor) -> None:
        """Note G where it is pruned now; what was pruned before learns only with regrowth."""
        g = self.weights[name] - self.anchor[name]
        before = self._pruned.get(name, g)
        if name in self._kept and not self._pruning.is_regrowing:
            g = torch.where(self._kept[name], g, before)
        self._pruned[name] = torch.where(is_kept, 0.0, g)

    def _learned_g(self) -> dict[str, Tensor]:
        """G as it was learned: each entry's value, or what it was when it was pruned."""
        found = {}
        for name, weight in self.weights.items():
            g = weight - self.anchor[name]
            if name in self._kept:
                g = torch.where(self._kept[name], g, self._pruned[name])
            found[name] = g
        if self._levels is not None:
            found = {name: self._pruned[name].clone() for name in self.weights}
            self._levels.show_learning(found, {n: torch.zeros_like(g) for n, g in found.items()})
        return found

    def _score(self, name: str) -> Tensor:
        g = self.weights[name] - self.anchor[name]
        if self._pruning.score is by_magnitude:
            return g.abs()
        return self._pruning.score(g, self.squared_gradients(name))

    def _limits(self, count: int) -> dict[str, float]:
        """The score above which an entry stays, by tensor."""
        if self._pruning.is_global:
            limit = threshold(lambda: map(self._score, self.weights), count)
            return dict.fromkeys(self.weights, limit)
        share = count / self._size

        def scores(name: str) -> Iterator[Tensor]:
            yield self._score(name)

        return {
            name: threshold(partial(scores, name), round(share * weight.numel()))
            for name, weight in self.weights.items()
        }

    def _keep_pruned(self) -> None:
        for name, is_kept in self._kept.items():
            weight = self.weights[name]
            weight.copy_(torch.where(is_kept, weight, self.anchor[name]))

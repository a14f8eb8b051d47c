"""Low-rank factors and sparse levels together, both of few bits, learned as they travel.

First every weight is free. Then the coder chooses: for each tensor low-rank factors, sparse
levels, both one above the other, or nothing, whatever leaves the least error, weighed by squared
gradients, within the budget. From there on factors and levels learn as what travels
(straight-through: levels).

    W_{t+1} = W_t + step * (U V^T) + levels                     U, V of int8

Letters: R, C rows and columns of a tensor seen as a matrix, r its rank.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffcodec import (
    Coder,
    Diff,
    Layer,
    LosslessDiff,
    LowRankDiff,
    SparseDiff,
    decode,
    fit_auto,
)
from server.training.learned.diff import LearnedDiff, fine_levels
from server.training.learned.levels import SLACK, Levels, encode_within
from server.training.parameters import to_device


@dataclass
class Factors:
    """The low-rank part of one tensor.

    Attributes:
        rows: float32 (R, r), learns; a level is `step ** 0.5` of it, as of columns (C, r), so
            that both learn as fast as weights do.
        step: What a product of two levels stands for.
        largest: The largest level of rows, and of columns.
    """

    rows: Tensor
    columns: Tensor
    step: float
    largest: tuple[int, int]

    @classmethod
    def of(cls, change: LowRankDiff, device: torch.device) -> "Factors":
        """Begin with fitted factors."""
        levels = [np.asarray(change.rows), np.asarray(change.columns)]
        unit = change.step**0.5
        rows, columns = (
            torch.tensor(unit * f, dtype=torch.float32, device=device).requires_grad_()
            for f in levels
        )
        return cls(rows, columns, change.step, (_largest(levels[0]), _largest(levels[1])))

    def travelling(self) -> tuple[Tensor, Tensor]:
        """The levels nearest to what is learned: float32 (R, r) and (C, r), whole numbers."""
        unit = self.step**0.5
        rows, columns = (
            (learning.detach() / unit).round().clamp(-most, most)
            for learning, most in zip((self.rows, self.columns), self.largest, strict=True)
        )
        return rows, columns

    def pass_on(self, gradient: Tensor) -> None:
        """Turn the gradient of the weights, (R, C), into those of the factors."""
        rows, columns = self.travelling()
        unit = self.step**0.5
        self.rows.grad = gradient @ columns * unit
        self.columns.grad = gradient.T @ rows * unit

    def change(self) -> LowRankDiff | None:
        """As a diff states it; None where nothing is left."""
        rows, columns = (f.to(torch.int8).cpu().numpy() for f in self.travelling())
        is_used = rows.any(axis=0) & columns.any(axis=0)
        if not is_used.any():
            return None
        rows, columns = (np.ascontiguousarray(f[:, is_used]) for f in (rows, columns))
        return LowRankDiff(rows, columns, self.step)


class LowRank(LearnedDiff):
    """F_t + U V^T + S, within a budget."""

    def __init__(
        self,
        model: nn.Module,
        budget_bytes: int,
        settle_step: int,
        coders: tuple[Coder, ...] | None = None,
    ) -> None:
        """Anchor a module.

        Args:
            model: See LearnedDiff.
            budget_bytes: Size that the file may have.
            settle_step: After this step the coder chooses what travels.
            coders: What devices decode; None: all that there are here.

        Raises:
            BudgetError: not even an empty diff fits.
        """
        super().__init__(model, budget_bytes, coders=coders)
        self._settle_step = settle_step
        self._factors: dict[str, Factors] = {}
        # What levels are added to: the anchor with the factors above it.
        self._ground = dict(self.anchor)
        self._levels: Levels | None = None
        self._fit(budget_bytes, self.coders)

    def free(self) -> list[Tensor]:
        """The module's own weights; the factors join the optimiser once they are there."""
        return list(self.weights.values())

    def before_step(self) -> None:
        """Hand gradients to the factors, and show the optimiser what learns."""
        if self._levels is None:
            return
        for name, factors in self._factors.items():
            gradient = self.weights[name].grad
            if gradient is not None:
                factors.pass_on(gradient.reshape(len(factors.rows), len(factors.columns)))
        self._levels.show_learning(self.weights, self._ground)

    def after_step(self) -> None:
        """Form the weights from what travels."""
        if self._levels is not None:
            self._levels.take_learning(self.weights, self._ground)
            self._form()
        elif self.steps_done == self._settle_step:
            self._settle(self.room(self.budget_bytes) or 0)

    def file_of_weights(self, budget_bytes: int | None, coders: tuple[Coder, ...]) -> bytes:
        """The levels and factors that were learned, or the best fit to another budget."""
        room = budget_bytes or 0  # a low-rank diff always has a budget
        if self._levels is None or budget_bytes != self.room(self.budget_bytes):
            return self._fit(room, coders)
        return encode_within(self._diff, self.base, room, coders)

    def state(self) -> dict[str, Any]:
        """Factors and levels too."""
        levels = None if self._levels is None else self._levels.state()
        factors = {
            name: {**asdict(f), "rows": f.rows.detach(), "columns": f.columns.detach()}
            for name, f in self._factors.items()
        }
        return super().state() | {"levels": levels, "factors": factors}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().restore(state)
        if state["levels"] is not None:
            device = next(iter(self.weights.values())).device
            levels, factors = to_device((state["levels"], state["factors"]), device)
            self._levels = Levels.of_state(levels)
            self._join({name: Factors(**f) for name, f in factors.items()})

    @torch.no_grad()
    def _settle(self, budget_bytes: int) -> None:
        """Let the coder decide what travels."""
        fitted = decode(self._fit(int(SLACK * budget_bytes), self.coders), self.layout)
        changes = list(fitted.diff.changes())
        low = {name: change for name, change in changes if isinstance(change, LowRankDiff)}
        sparse = {name: change for name, change in changes if isinstance(change, SparseDiff)}
        exact = {name for name, change in changes if isinstance(change, LosslessDiff)}
        if not low and not sparse:
            return  # exact weights fit as well: nothing has to become levels
        self._join({n: Factors.of(change, self.weights[n].device) for n, change in low.items()})
        deltas = {name: self.weights[name] - ground for name, ground in self._ground.items()}
        # Fine levels are shorter than the exact weights of a tensor, and learn on.
        sparse |= fine_levels(
            self.require_base(), {name: deltas[name].cpu().numpy() for name in exact}
        )
        squares = {name: self.fisher(name) for name in sparse}
        self._levels = Levels.of(sparse, deltas, squares)
        self._form()

    def _join(self, factors: dict[str, Factors]) -> None:
        """Let the optimiser step factors too, each as it does the weights that they belong to."""
        self._factors = factors
        self._ground = {name: self._grounded(name) for name in self.weights}
        for group in self.optimizer.param_groups if self.optimizer is not None else ():
            members = {id(p) for p in group["params"]}
            for name, pair in factors.items():
                # Not a group of their own: schedulers know those that they began with.
                if id(self.weights[name]) in members:
                    group["params"] += [pair.rows, pair.columns]
                    if "param_names" in group:
                        group["param_names"] += [f"{name} rows", f"{name} columns"]

    def _form(self) -> None:
        """Form the weights: the anchor, the factors above it, and the levels above both."""
        for name in self._factors:
            self._ground[name] = self._grounded(name)
        if self._levels is not None:
            self._levels.show_travelling(self.weights, self._ground)

    def _grounded(self, name: str) -> Tensor:
        """What a tensor's levels are added to."""
        if name not in self._factors:
            return self.anchor[name]
        rows, columns = self._factors[name].travelling()
        product = (rows @ columns.T) * self._factors[name].step
        return self.anchor[name] + product.view_as(self.anchor[name])

    def _diff(self, trimmed: float) -> Diff:
        """What travels, without a share of the least levels."""
        found = {name: factors.change() for name, factors in self._factors.items()}
        low = {name: change for name, change in found.items() if change is not None}
        levels = {} if self._levels is None else self._levels.changes(trimmed)
        layers = tuple(Layer(part) for part in (low, levels) if part)
        return Diff(self.layout, self.require_base().digest(), layers)

    def _fit(self, budget_bytes: int, coders: tuple[Coder, ...]) -> bytes:
        """The file of least error by any methods."""
        sensitivities = None
        if self.steps_done:
            sensitivities = {name: self.fisher(name).cpu().numpy() for name in self.weights}
        return fit_auto(
            self.base, self.parameters(), budget_bytes, sensitivities=sensitivities, coders=coders
        )


def _largest(levels: NDArray[np.int8]) -> int:
    return int(np.abs(levels.astype(np.int16)).max())

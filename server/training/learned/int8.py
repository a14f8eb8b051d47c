"""An additive diff of whole levels, for a model that a device runs in int8.

The module's matrices lie on the device's grids (server.training.grid) at every step: an optimiser
steps values in between, the module runs on the nearest levels (straight-through estimator: Bengio
et al. 2013). So G is whole levels, what is learned is what the device computes with, and scales
stay as they are: nothing but entries travels. Vectors are float32, as in any sparse diff.

G is pruned by |g| sqrt(F) as it learns; what the *encoded file* can carry ends that, and entries
learn on as the few magnitudes of their tensor that travel, whole levels themselves (levels).

    device = ParameterSet.read(path, layout)        # F_t in int8
    learned = Int8Grid(model, device, schedule, budget_bytes=4_000)
    ...                                             # as any learned diff

Letters: N entries of one tensor, K magnitudes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import (
    Codebook,
    Coder,
    Diff,
    ParameterSet,
    SparseDiff,
    Uniform,
    available_coders,
    decode,
    encode,
    fit_sparse,
    lossless_diff,
)
from diffcodec.changes import MAX_INT8_STEP
from server.training.errors import TrainingRequestError
from server.training.grid import LARGEST_LEVEL, dequantise, on_grid, scales_of
from server.training.learned.diff import LearnedDiff, base_digest
from server.training.learned.levels import Entries, Levels, encode_within, magnitudes_of
from server.training.learned.scores import by_fisher, threshold
from server.training.learned.sparse import Pruning
from server.training.parameters import load_parameters, to_parameters
from server.training.schedule import CubicSchedule

FILLED = 0.995
"""Share of the budget that is filled where levels begin to learn: whole levels that follow their
means meet, so that files rather become shorter."""


@dataclass
class GridEntries(Entries):
    """The entries of a tensor on a grid.

    Attributes:
        scale: What a level is worth.
        start: float32 (N,), whole: the levels of F_t.
    """

    scale: float
    start: Tensor

    def table(self) -> Tensor:
        """The magnitudes, whole levels each: float32 (K,)."""
        return self._whole() * self.scale

    def nearest(self) -> Tensor:
        """Index of the nearest magnitude that stays on the grid; the least where none does."""
        whole = self._whole()
        wanted = torch.bucketize(self.values.abs() / self.scale, (whole[1:] + whole[:-1]) / 2)
        # Between whole numbers no comparison is close.
        fitting = torch.bucketize(self._room() + 0.5, whole) - 1
        return torch.minimum(wanted, fitting).clamp_min(0)

    def travelling(self) -> Tensor:
        """What each entry's weight changes by on the device: float32 (N,)."""
        return self._levels() * self.scale

    def change(self, limit: float) -> SparseDiff | None:
        """As a diff states it, with the entries that rank above a limit; None without any."""
        levels = self._levels()
        is_kept = (self.values.abs() * self.ranks > limit) & (levels != 0)
        if not is_kept.any():
            return None
        positions = self.positions[is_kept].cpu().numpy()
        whole = levels[is_kept].cpu().numpy().astype(np.int64)
        if self.is_uniform:
            step = int(self._whole()[0])
            return SparseDiff(positions, (whole // step).astype(np.int8), Uniform(float(step)))
        used, index = np.unique(np.abs(whole), return_inverse=True)
        signed = np.sign(whole) * (index + 1)
        return SparseDiff(positions, signed.astype(np.int8), Codebook(tuple(map(float, used))))

    def _whole(self) -> Tensor:
        """The magnitudes in levels: float32 (K,), whole, never decreasing."""
        count = len(self.magnitudes)
        if self.is_uniform:
            # Multiples of the step must be steps of int8, too.
            step = (self.magnitudes[:1] / self.scale).round().clamp(1, MAX_INT8_STEP // count)
            return step * torch.arange(1, count + 1, device=step.device)
        return (self.magnitudes / self.scale).round().clamp(1, MAX_INT8_STEP)

    def _room(self) -> Tensor:
        """How many levels each may move, the way it wants to: float32 (N,)."""
        return torch.where(self.values < 0, LARGEST_LEVEL + self.start, LARGEST_LEVEL - self.start)

    def _levels(self) -> Tensor:
        """Whole levels that each moves by: float32 (N,); 0 where no magnitude fits."""
        sizes = self._whole()[self.nearest()]
        signed = torch.where(self.values < 0, -sizes, sizes)
        return torch.where(sizes <= self._room(), signed, 0.0)


@dataclass(frozen=True)
class Snapshot:
    """A generation that stands alone, for which nothing was learned.

    Attributes:
        weights: As devices store them.
    """

    weights: ParameterSet

    def encode(self) -> bytes:
        """All of it, exactly, as an .ndiff file."""
        return encode(lossless_diff(None, self.weights), None, tuple(available_coders()))

    def free_values(self, diff: Diff) -> int:
        """Every weight."""
        return diff.layout.parameter_count


class Int8Grid(LearnedDiff):
    """F_t + G on the grids of F_t, G sparse."""

    def __init__(
        self,
        model: nn.Module,
        base: ParameterSet,
        schedule: CubicSchedule,
        budget_bytes: int | None = None,
        *,
        coders: tuple[Coder, ...] | None = None,
    ) -> None:
        """Anchor a module at F_t.

        Args:
            model: Of the tensors of F_t, in float32; it takes on the weights of F_t.
            base: F_t in int8 (server.training.grid): what devices have.
            schedule: The sparsity by step, down to where the coder goes on.
            budget_bytes: What the encoded file may take; None: all that was learned travels.
            coders: What devices decode; None: all that there are here.

        Raises:
            TrainingRequestError: F_t is of another model, or not on a grid.
            BudgetError: not even an empty diff fits.
        """
        floats = dequantise(base)
        if not scales_of(base) or on_grid(floats.layout) != base.layout:
            raise TrainingRequestError(
                "expected F_t with matrices in int8 and their scales (server.training.grid), "
                "found other tensors"
            )
        load_parameters(model, floats)
        super().__init__(model, budget_bytes, coders=coders)
        self._device: ParameterSet = base
        self.base, self.layout = base, base.layout
        self._scales = {n: float(s) for n, s in scales_of(base).items() if n in self.weights}
        self._pruning = Pruning(schedule, by_fisher)
        self._size = sum(w.numel() for w in self.weights.values())
        self._kept: dict[str, Tensor] = {}
        # What learns where the module runs on the nearest levels.
        self._between: dict[str, Tensor] = {}
        self._levels: Levels | None = None
        if budget_bytes is not None:
            fit_sparse(base, base, budget_bytes, coders=self.coders)

    def free(self) -> list[Tensor]:
        """The module's own weights: their gradients are those of G."""
        return list(self.weights.values())

    def before_step(self) -> None:
        """Give the optimiser the values that learn."""
        if self._levels is not None:
            self._levels.show_learning(self.weights, self.anchor)
        for name, values in self._between.items():
            self.weights[name].copy_(values)

    def after_step(self) -> None:
        """Prune where it is due, and let the module run on the grid."""
        if self._levels is None:
            self._prune()
            if self.steps_done == self._pruning.schedule.last_step:
                room = self.room(self.budget_bytes)
                if room is not None:
                    self._settle(room)
        else:
            self._levels.take_learning(self.weights, self.anchor)
        if self._levels is None:
            self._between = {name: self.weights[name].detach().clone() for name in self._scales}
        else:
            self._between = {}
            self._levels.show_travelling(self.weights, self.anchor)
        self._round()

    def file_of_weights(self, budget_bytes: int | None, coders: tuple[Coder, ...]) -> bytes:
        """Without any budget the very weights travel."""
        if budget_bytes is None:
            return encode(lossless_diff(self._device, self.parameters()), self._device, coders)
        if self._levels is not None and budget_bytes == self.room(self.budget_bytes):
            return encode_within(self._diff, self._device, budget_bytes, coders)
        return self._fit(budget_bytes, coders)

    def parameters(self) -> ParameterSet:
        """The nearest weights as a device stores them; scales and statistics as they were."""
        arrays, now = dict(self._device.arrays), to_parameters(self.model).arrays
        for name in self.weights:
            array = now[name]
            if name in self._scales:
                levels = np.rint(array / np.float32(self._scales[name]))
                array = levels.clip(-LARGEST_LEVEL, LARGEST_LEVEL).astype(np.int8)
            arrays[name] = array
        return ParameterSet.from_arrays(arrays)

    def state(self) -> dict[str, Any]:
        """Masks, values and levels too."""
        levels = None if self._levels is None else self._levels.state()
        return super().state() | {"kept": self._kept, "between": self._between, "levels": levels}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().restore(state)
        self._kept = self._beside_weights(state["kept"])
        self._between = self._beside_weights(state["between"])
        if state["levels"] is not None:
            self._levels = Levels(
                {name: self._entries_of(name, fields) for name, fields in state["levels"].items()}
            )

    def _prune(self) -> None:
        """Keep the entries that rank highest; the others stay at F_t."""
        if self._pruning.is_due(self.steps_done):
            count = round((1.0 - self._pruning.schedule.sparsity(self.steps_done)) * self._size)
            limit = threshold(self._scores, count)
            # NaN is kept, so that a training that broke is seen to have.
            self._kept = {name: ~(self._score(name) <= limit) for name in self.weights}
        for name, is_kept in self._kept.items():
            weight = self.weights[name]
            weight.copy_(torch.where(is_kept, weight, self.anchor[name]))

    def _settle(self, budget_bytes: int) -> None:
        """Let the coder decide which entries travel, and as which levels."""
        data = self._fit(int(FILLED * budget_bytes), self.coders)
        fitted = list(decode(data, self.layout).diff.changes())
        changes = {name: c for name, c in fitted if isinstance(c, SparseDiff)}
        if len(changes) == len(fitted):  # else exact weights fit as well: nothing has to go
            self._levels = Levels({n: self._entries(n, c) for n, c in changes.items()})

    def _entries(self, name: str, change: SparseDiff) -> Entries:
        """Begin with the entries and magnitudes of a fitted diff."""
        delta = (self.weights[name] - self.anchor[name]).flatten()
        positions = torch.tensor(np.asarray(change.positions), device=delta.device)
        ranks = self.fisher(name).flatten()[positions].sqrt()
        magnitudes = torch.tensor(magnitudes_of(change), device=delta.device)
        fields: dict[str, Any] = {
            "positions": positions,
            "values": delta[positions].clone(),
            "magnitudes": magnitudes,
            "is_uniform": isinstance(change.scale, Uniform),
            "ranks": ranks,
        }
        if name in self._scales:
            levels = self._device.arrays[name].reshape(-1)[change.positions].astype(np.float32)
            fields |= {
                "magnitudes": magnitudes * self._scales[name],
                "scale": self._scales[name],
                "start": torch.tensor(levels, device=delta.device),
            }
        return self._entries_of(name, fields)

    def _entries_of(self, name: str, fields: Mapping[str, Any]) -> Entries:
        kind = GridEntries if name in self._scales else Entries
        return kind(**_moved(fields, self.weights[name].device))

    def _beside_weights(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: t.to(self.weights[name].device) for name, t in tensors.items()}

    def _round(self) -> None:
        """Let every matrix be what the device will compute with."""
        for name, scale in self._scales.items():
            weight = self.weights[name]
            levels = (weight / scale).round().clamp(-LARGEST_LEVEL, LARGEST_LEVEL)
            weight.copy_(levels * scale)

    def _diff(self, trimmed: float) -> Diff:
        """The levels that travel, without a share of the least."""
        changes = {} if self._levels is None else self._levels.changes(trimmed)
        return Diff.of(self.layout, base_digest(self.base), changes)

    def _fit(self, budget_bytes: int, coders: tuple[Coder, ...]) -> bytes:
        """The file of least error by Fisher information, which is that of a level on a grid."""
        costs = {
            name: (self.fisher(name) * self._scales.get(name, 1.0) ** 2).cpu().numpy()
            for name in self.weights
        }
        return fit_sparse(
            self._device, self.parameters(), budget_bytes, sensitivities=costs, coders=coders
        )

    def _scores(self) -> Iterator[Tensor]:
        return map(self._score, self.weights)

    def _score(self, name: str) -> Tensor:
        return by_fisher(self.weights[name] - self.anchor[name], self.squared_gradients(name))


def _moved(fields: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Tensors on a device, other values as they are."""
    return {
        name: field.to(device) if isinstance(field, Tensor) else field
        for name, field in fields.items()
    }

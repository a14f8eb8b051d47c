"""An additive diff of whole levels, for a model that a device runs in int8.

The module's matrices lie on the device's grids (server.training.grid) at every step: an optimiser
steps values in between, the module runs on the nearest levels (straight-through estimator: Bengio
et al. 2013). So G is whole levels, what is learned is what the device computes with, and scales
stay as they are: nothing but entries travels. Vectors are float32, as in any sparse diff.

It is pruned and ends as any sparse diff of ours (sparse), but the few magnitudes of a matrix that
travel are whole levels themselves.

    device = ParameterSet.read(path, layout)        # F_t in int8
    learned = Int8Grid(model, device, schedule, budget_bytes=4_000)
    ...                                             # as any learned diff

Letters: N entries of one tensor, K magnitudes.
"""

from collections.abc import Mapping
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
    encode,
    lossless_diff,
)
from diffcodec.changes import MAX_INT8_STEP
from server.training.errors import TrainingRequestError
from server.training.grid import LARGEST_LEVEL, dequantise, on_grid, scales_of
from server.training.learned.levels import Entries, Levels
from server.training.learned.scores import by_fisher
from server.training.learned.sparse import Pruning, Sparse
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


class Int8Grid(Sparse):
    """F_t + G on the grids of F_t, G sparse."""

    filled = FILLED

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
        pruning = Pruning(schedule, by_fisher)
        super().__init__(model, pruning, budget_bytes, has_levels=True, coders=coders, stored=base)
        self._device = base
        self._scales = {n: float(s) for n, s in scales_of(base).items() if n in self.weights}

    def after_step(self) -> None:
        """Prune where it is due, and let the module run on the grid."""
        super().after_step()
        if self._levels is None:
            self._unseen = {name: self.weights[name].detach().clone() for name in self._scales}
        self._round()

    def file_of_all(self, coders: tuple[Coder, ...]) -> bytes:
        """The very weights, as an .ndiff file."""
        return encode(lossless_diff(self._device, self.parameters()), self._device, coders)

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

    def levels_of(self, changes: Mapping[str, SparseDiff]) -> Levels:
        """Those of matrices on their grids; a fitted diff states whole levels of them."""
        begun = super().levels_of(changes).entries
        return Levels({name: self._on_grid(name, entries) for name, entries in begun.items()})

    def levels_of_state(self, state: Mapping[str, Any]) -> Levels:
        """Those of matrices on their grids."""
        return Levels(
            {
                name: GridEntries(**fields) if name in self._scales else Entries(**fields)
                for name, fields in state.items()
            }
        )

    def cost(self, name: str) -> Tensor:
        """A matrix is stored in levels: what a level off counts."""
        return super().cost(name) * self._scales.get(name, 1.0) ** 2

    def _on_grid(self, name: str, entries: Entries) -> Entries:
        if name not in self._scales:
            return entries
        levels = self._device.arrays[name].reshape(-1)[entries.positions.cpu().numpy()]
        of_grid = {
            "magnitudes": entries.magnitudes * self._scales[name],
            "scale": self._scales[name],
            "start": torch.tensor(levels.astype(np.float32), device=entries.values.device),
        }
        return GridEntries(**(vars(entries) | of_grid))

    def _round(self) -> None:
        """Let every matrix be what the device will compute with."""
        for name, scale in self._scales.items():
            weight = self.weights[name]
            levels = (weight / scale).round().clamp(-LARGEST_LEVEL, LARGEST_LEVEL)
            weight.copy_(levels * scale)

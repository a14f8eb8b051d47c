"""Entries of a diff that learn on as the levels that travel: the quantiser in the loop.

Once it is decided which entries travel, each learns a value of its own, while the model runs on
the nearest of its tensor's few magnitudes (straight-through estimator: Bengio et al. 2013; Yin et
al. 2019), and the magnitudes follow the means of their values (Lloyd's step). So quantising costs
nothing at the end: what was trained is what travels.

Letters: N entries of one tensor, K magnitudes.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffcodec import (
    Codebook,
    Coder,
    Diff,
    ParameterSet,
    SparseDiff,
    Uniform,
    encode,
)

FOLLOW = 0.1
"""How far magnitudes move to the means of their values with each step."""
MANTISSA_BITS = 6
"""Of a magnitude: it takes two bytes in a file, and is exact to 0.8 %."""
SLACK = 0.98
"""Share of the budget that is filled where levels begin to learn: their lengths move a little."""
SMALLEST = 1e-30
"""Magnitudes are positive."""
TRIMMED = 0.005
"""Share of the entries that goes at a time where a file came out too long."""


@dataclass
class Entries:
    """The entries of one tensor.

    Attributes:
        positions: int64 (N,), increasing, in the flattened tensor.
        values: float32 (N,), what each learns to change its weight by.
        magnitudes: float32 (K,), increasing; equal steps: the first alone counts.
        is_uniform: Magnitude k is k times the first.
        ranks: float32 (N,), the square root of what a squared error costs (scores).
    """

    positions: Tensor
    values: Tensor
    magnitudes: Tensor
    is_uniform: bool
    ranks: Tensor

    def table(self) -> Tensor:
        """The magnitudes as a file states them: float32 (K,)."""
        if self.is_uniform:
            levels = torch.arange(1, len(self.magnitudes) + 1, device=self.magnitudes.device)
            return levels * short(self.magnitudes[:1])
        return short(self.magnitudes)

    def nearest(self) -> Tensor:
        """Index of the magnitude of each entry: int64 (N,), 0..K-1."""
        table = self.table()
        return torch.bucketize(self.values.abs(), (table[1:] + table[:-1]) / 2)

    def travelling(self) -> Tensor:
        """What each entry's weight changes by on the device: float32 (N,)."""
        return torch.where(self.values < 0, -1.0, 1.0) * self.table()[self.nearest()]

    def follow(self) -> None:
        """Move the magnitudes towards the means of their values (one step of Lloyd's)."""
        sizes, nearest = self.values.abs(), self.nearest()
        counts = torch.bincount(nearest, minlength=len(self.magnitudes))
        sums = torch.zeros_like(self.magnitudes).index_add_(0, nearest, sizes)
        if self.is_uniform:
            levels = torch.arange(1, len(counts) + 1, device=counts.device)
            means = (sums * levels).sum() / (counts * levels**2).sum() * levels
        else:
            means = torch.where(counts > 0, sums / counts.clamp_min(1), self.magnitudes)
        self.magnitudes = torch.lerp(self.magnitudes, means, FOLLOW).sort().values

    def change(self, limit: float) -> SparseDiff | None:
        """As a diff states it, with the entries that rank above a limit; None without any."""
        is_kept = self.values.abs() * self.ranks > limit
        if not is_kept.any():
            return None
        levels = (self.nearest()[is_kept] + 1).cpu().numpy()
        signs = np.where(self.values[is_kept].cpu().numpy() < 0, -1, 1)
        positions, table = self.positions[is_kept].cpu().numpy(), self.table().cpu().numpy()
        if self.is_uniform:
            return SparseDiff(positions, (signs * levels).astype(np.int8), Uniform(table[0]))
        used, levels = np.unique(levels, return_inverse=True)
        levels_from_1 = signs * (levels + 1)
        return SparseDiff(positions, levels_from_1.astype(np.int8), Codebook(table[used - 1]))


class Levels:
    """The entries of all tensors that travel, in a module's training."""

    def __init__(self, entries: Mapping[str, Entries]) -> None:
        self.entries = entries

    @classmethod
    def of(
        cls,
        changes: Mapping[str, SparseDiff],
        deltas: Mapping[str, Tensor],
        squares: Mapping[str, Tensor],
    ) -> "Levels":
        """Begin with the entries and magnitudes of a fitted diff.

        Args:
            changes: By tensor.
            deltas: What was fitted, of the tensors' shapes.
            squares: What a squared error costs, of the tensors' shapes.
        """
        entries = {}
        for name, change in changes.items():
            delta = deltas[name].flatten()
            positions = torch.tensor(np.asarray(change.positions), device=delta.device)
            entries[name] = Entries(
                positions,
                delta[positions].clone(),
                torch.tensor(magnitudes_of(change), device=delta.device),
                isinstance(change.scale, Uniform),
                squares[name].flatten()[positions].sqrt(),
            )
        return cls(entries)

    def show_learning(self, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> None:
        """Let the weights of entries be what they learn: an optimiser steps those."""
        for name, entries in self.entries.items():
            # `put_` and `take` count elements by shape, however a tensor lies in memory.
            start = anchor[name].take(entries.positions)
            weights[name].put_(entries.positions, start + entries.values)

    def take_learning(self, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> None:
        """Take over what an optimiser made of the weights."""
        for name, entries in self.entries.items():
            now, start = (w[name].take(entries.positions) for w in (weights, anchor))
            entries.values = now - start
            entries.follow()

    def show_travelling(self, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> None:
        """Let all weights be what the device will have."""
        for name, weight in weights.items():
            weight.copy_(anchor[name])
            if name in self.entries:
                entries = self.entries[name]
                weight.put_(entries.positions, entries.travelling(), accumulate=True)

    def changes(self, trimmed: float = 0.0) -> dict[str, SparseDiff]:
        """What travels, by tensor, without a share of the entries that rank least."""
        limit = self._limit(trimmed) if trimmed else 0.0
        found = {name: entries.change(limit) for name, entries in self.entries.items()}
        return {name: change for name, change in found.items() if change is not None}

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {name: asdict(entries) for name, entries in self.entries.items()}

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "Levels":
        """From a checkpoint."""
        return cls({name: Entries(**entries) for name, entries in state.items()})

    def _limit(self, share: float) -> float:
        """The rank that a share of all entries does not exceed."""
        if not self.entries:
            return 0.0
        ranks = torch.cat([e.values.abs() * e.ranks for e in self.entries.values()])
        least = ranks.sort().values
        return float(least[min(len(least) - 1, int(share * len(least)))])


def encode_within(
    diff_without: Callable[[float], Diff],
    base: ParameterSet | None,
    budget_bytes: int,
    coders: tuple[Coder, ...],
) -> bytes:
    """Encode what was learned; where levels that moved made it too long, the least entries go.

    Args:
        diff_without: The diff without a share of its entries.
        base: What it is for.
        budget_bytes: Size that the file may have.
        coders: What devices decode.
    """
    trimmed = 0.0
    data = encode(diff_without(trimmed), base, coders)
    while len(data) > budget_bytes and trimmed < 1.0:
        trimmed += TRIMMED
        data = encode(diff_without(trimmed), base, coders)
    return data


def magnitudes_of(change: SparseDiff) -> NDArray[np.float32]:
    """What the levels 1..K of a change stand for: float32 (K,)."""
    if isinstance(change.scale, Codebook):
        return np.asarray(change.scale.magnitudes, np.float32)
    largest = int(np.abs(change.levels).max())
    return np.arange(1, largest + 1, dtype=np.float32) * np.float32(change.scale.step)


def short(magnitudes: Tensor) -> Tensor:
    """Round positive float32s to the nearest of few mantissa bits."""
    dropped = 23 - MANTISSA_BITS
    bits = magnitudes.clamp_min(SMALLEST).view(torch.int32)
    return ((bits + (1 << (dropped - 1))) >> dropped << dropped).view(torch.float32)

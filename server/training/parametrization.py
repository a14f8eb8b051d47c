"""Ways to express the weights of generation t+1 by what is free to learn.

F_{t+1} = F_t (+) G: the anchor F_t is fixed, G is learned, and the forward pass runs on the
sum (neural diff paper, section 3). A recipe hands the weights to
`torch.func.functional_call` and steps the optimiser on G; the model itself knows nothing of it.

    Dense    weights are free                               no anchor
    Sparse   F_t + G, G pruned on the cubic schedule        3.1
    Hashed   W + |W| * (A[h0] + A[h1] + A[h2]), A learned   3.2
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from diffcodec import position_buckets
from server.training.parameters import Weights


class Parametrization(Protocol):
    """What a training loop needs to know of the weights."""

    def free(self) -> list[Tensor]:
        """The tensors that the optimiser steps."""

    def weights(self) -> Weights:
        """The model's weights, as a function of the free tensors."""

    def after_step(self, step: int) -> None:
        """Called after optimiser step number `step`, counted from 1."""


class Dense:
    """Every weight is free."""

    def __init__(self, start: Weights) -> None:
        self._weights = {name: w.clone().requires_grad_() for name, w in start.items()}

    def free(self) -> list[Tensor]:
        """The weights themselves."""
        return list(self._weights.values())

    def weights(self) -> Weights:
        """The weights themselves."""
        return self._weights

    def after_step(self, step: int) -> None:
        """Nothing to keep."""


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
        progress = (step - self.first_step) / (self.last_step - self.first_step)
        remaining = 1.0 - min(1.0, max(0.0, progress))
        return self.final_sparsity * (1.0 - remaining**3)


class Sparse:
    """An additive mask G on an anchor; its smallest entries are pruned as training goes on.

    Where G is pruned the model keeps the anchor's weight, so the result stays dense. A zero
    anchor with a random G is a pruned model: the compressed baseline (BLC).
    """

    def __init__(self, anchor: Weights, start: Weights, schedule: CubicSchedule) -> None:
        self._anchor = anchor
        self._diff = {name: g.clone().requires_grad_() for name, g in start.items()}
        self._mask = {name: torch.ones_like(g) for name, g in start.items()}
        self._schedule = schedule
        self.size = sum(g.numel() for g in start.values())

    def free(self) -> list[Tensor]:
        """The tensors of G."""
        return list(self._diff.values())

    def weights(self) -> Weights:
        """F_t + G."""
        return {name: w + self._diff[name] for name, w in self._anchor.items()}

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Move the pruning on (until r_f) and keep pruned entries at zero."""
        schedule = self._schedule
        if schedule.first_step <= step < schedule.last_step and step % PRUNING_INTERVAL == 0:
            self.prune_to(round((1.0 - schedule.sparsity(step)) * self.size))
        for name, g in self._diff.items():
            g.mul_(self._mask[name])

    @torch.no_grad()
    def prune_to(self, count: int) -> None:
        """Keep the `count` entries of G of largest magnitude, over all tensors together."""
        magnitudes = torch.cat([g.abs().flatten() for g in self._diff.values()])
        if count >= self.size:
            return
        threshold = torch.kthvalue(magnitudes, self.size - count).values
        for name, g in self._diff.items():
            self._mask[name] = (g.abs() > threshold).to(g.dtype)
            g.mul_(self._mask[name])


PRUNING_INTERVAL = 10
"""Steps between two prunings; between them pruned entries stay at zero."""


class Hashed:
    """A multiplicative mask whose entries share few learned values by hashing positions."""

    def __init__(
        self, anchor: Weights, lengths: Mapping[str, int], hashes: int, hash_seed: int
    ) -> None:
        self._anchor = anchor
        self._scale = {name: w.abs() for name, w in anchor.items()}
        self._values = {name: torch.zeros(n, requires_grad=True) for name, n in lengths.items()}
        self._buckets = {
            name: [
                torch.from_numpy(
                    position_buckets(name, hash_seed, k, w.numel(), lengths[name]).astype("int64")
                )
                for k in range(hashes)
            ]
            for name, w in anchor.items()
        }

    def free(self) -> list[Tensor]:
        """The arrays A."""
        return list(self._values.values())

    def weights(self) -> Weights:
        """W + |W| * (A[h0] + A[h1] + ...)."""
        return {
            name: w + self._scale[name] * self._sum(name).reshape(w.shape)
            for name, w in self._anchor.items()
        }

    def values(self) -> dict[str, Tensor]:
        """A copy of the arrays A, by tensor name."""
        return {name: a.detach().clone() for name, a in self._values.items()}

    def after_step(self, step: int) -> None:
        """Nothing to keep."""

    def _sum(self, name: str) -> Tensor:
        """A[h_0] + A[h_1] + ... for every position, flat."""
        picked = [self._values[name][buckets] for buckets in self._buckets[name]]
        return torch.stack(picked).sum(dim=0)

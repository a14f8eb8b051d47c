"""A multiplicative diff of few values that positions share by hashing (neural diff paper 3.2).

    W_{t+1} = W_t + |W_t| * (A[h_0] + A[h_1] + A[h_2])

A is learned, zero at first. Its gradient follows from the weights' as soon as autograd has one, so
gradients accumulate, are clipped and are averaged as those of any tensor.

A snapshot is the hashing trick itself (Chen et al. 2015), the compressed baseline (BLC): W_t is
one constant c for each tensor, taken off again in the end. As a file: c everywhere, the hash
diff, and -c everywhere, in three layers.

Letters: P elements of a tensor, m length of its array A, K hash functions.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import (
    Coder,
    Diff,
    Layer,
    Layout,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorDiff,
    Uniform,
    decode,
    encode,
    fit_hash_arrays,
    position_buckets,
    quantise_arrays,
)
from server.training.learned.diff import LearnedDiff, require_own_averaging
from server.training.learned.levels import short

FINE = 2.0**-5
"""Step over the root mean square of A where entries are counted and not bytes."""
FRAME_BYTES = 64
"""What the layers of a snapshot's constants take, a tensor."""


class Hashed(LearnedDiff):
    """W + |W| * (A[h_0] + A[h_1] + ...)."""

    def __init__(
        self,
        model: nn.Module,
        lengths: Mapping[str, int],
        hash_seed: int,
        hashes: int = 3,
        budget_bytes: int | None = None,
        *,
        is_snapshot: bool = False,
        coders: tuple[Coder, ...] | None = None,
    ) -> None:
        """Anchor a module.

        Args:
            model: See LearnedDiff. From now on its gradients go to A and are not kept.
            lengths: m by tensor.
            hash_seed: Of the generation: other positions collide in the next one (3.2).
            hashes: K; the paper's number is 3 (4.1).
            budget_bytes: Size that the file may have; None: any.
            is_snapshot: A stands for whole weights, which begin as random as the module's.
            coders: What devices decode; None: all that there are here.

        Raises:
            BudgetError: not even the coarsest arrays fit.
            TrainingRequestError: DistributedDataParallel would average gradients of weights.
        """
        require_own_averaging(model)
        super().__init__(model, budget_bytes, is_snapshot=is_snapshot, coders=coders)
        self._hashes, self._seed = hashes, hash_seed
        # Of a snapshot: what W_t is everywhere.
        self._constants: dict[str, float] = {}
        self.arrays: dict[str, Tensor] = {}
        self._buckets: dict[str, list[Tensor]] = {}
        for name, weight in self.weights.items():
            if weight.numel():
                self._begin(name, weight, lengths[name])
        if is_snapshot:
            self._form()
        elif budget_bytes is not None:
            self.encode()

    def free(self) -> list[Tensor]:
        """The arrays A."""
        return list(self.arrays.values())

    def after_step(self) -> None:
        """Form the weights from the arrays."""
        self._form()

    def file_of_weights(self, budget_bytes: int | None, coders: tuple[Coder, ...]) -> bytes:
        """Without any budget A travels in fine steps."""
        if self.base is not None:
            return self._hash_file(self.base, budget_bytes, coders)
        ones = constant_weights(self.layout, self._constants)
        room = budget_bytes and budget_bytes - FRAME_BYTES * len(self.weights)
        hashed = decode(self._hash_file(ones, room, coders), self.layout).diff
        return encode(between_constants(hashed, self._constants), None, coders)

    def state(self) -> dict[str, Any]:
        """The arrays too."""
        return super().state() | {"arrays": {n: a.detach() for n, a in self.arrays.items()}}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            for name, array in self.arrays.items():
                array.copy_(state["arrays"][name])

    def _begin(self, name: str, weight: Tensor, m: int) -> None:
        """Make a tensor's array and buckets, and let its gradients go there."""
        first = torch.zeros(m, device=weight.device)
        if self.base is None:
            spread = weight.detach().std().clamp_min(1e-3) if weight.numel() > 1 else torch.ones(1)
            self._constants[name] = float(short(spread.reshape(1).cpu()))
            # The sum of K has the spread of the random weights: 1 in units of the constant.
            drawn = torch.Generator().manual_seed(zlib.crc32(f"{name}/{self._seed}".encode()))
            first = torch.randn(m, generator=drawn).to(weight.device) * self._hashes**-0.5
        self.arrays[name] = first.requires_grad_()
        self._buckets[name] = [
            # int32 halves the memory, which is most of what a hash diff needs.
            torch.from_numpy(
                position_buckets(name, self._seed, k, weight.numel(), m).astype(np.int32)
            ).to(weight.device)
            for k in range(self._hashes)
        ]
        weight.register_post_accumulate_grad_hook(self._passing_on(name))  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _form(self) -> None:
        for name, array in self.arrays.items():
            weight = self.weights[name]
            first, *others = self._buckets[name]
            shares = array.index_select(0, first)
            for buckets in others:
                shares += array.index_select(0, buckets)
            weight.copy_(self.anchor[name] + self._scale(name) * shares.view_as(weight))

    def _scale(self, name: str) -> Tensor | float:
        """What a value of 1 in A changes each weight by: |W_t|."""
        return self._constants[name] if self.base is None else self.anchor[name].abs()

    def _hash_file(
        self, base: ParameterSet, budget_bytes: int | None, coders: tuple[Coder, ...]
    ) -> bytes:
        arrays = {name: a.detach().cpu().numpy() for name, a in self.arrays.items()}
        if budget_bytes is None:
            diff = quantise_arrays(base, arrays, self._hashes, self._seed, FINE)
            return encode(diff, base, coders)
        return fit_hash_arrays(base, arrays, budget_bytes, self._hashes, self._seed, coders=coders)

    def _passing_on(self, name: str) -> Callable[[Tensor], None]:
        """A hook that turns a weight's gradient into that of its array."""

        @torch.no_grad()
        def pass_on(weight: Tensor) -> None:
            if weight.grad is None:
                return
            array = self.arrays[name]
            # An embedding's gradient may be a sparse tensor.
            gradient = (weight.grad.to_dense() * self._scale(name)).flatten()
            if array.grad is None:
                array.grad = torch.zeros_like(array)
            for buckets in self._buckets[name]:
                array.grad.index_add_(0, buckets, gradient)
            weight.grad = None

        return pass_on


def constant_weights(layout: Layout, constants: Mapping[str, float]) -> ParameterSet:
    """Every weight of a tensor the same."""
    return ParameterSet.from_arrays(
        {
            spec.name: np.full(spec.shape, constants.get(spec.name, 0.0), np.float32)
            for spec in layout.tensors
        }
    )


def between_constants(hashed: Diff, constants: Mapping[str, float]) -> Diff:
    """A hash diff on constant weights as a snapshot: c everywhere, the diff, and -c everywhere."""
    layout = hashed.layout
    up = {name: everywhere(layout, name, 1, c) for name, c in constants.items()}
    down = {name: everywhere(layout, name, -1, c) for name, c in constants.items()}
    return Diff(layout, None, (Layer(up), *hashed.layers, Layer(down)))


def everywhere(layout: Layout, name: str, sign: int, constant: float) -> TensorDiff:
    """A change of all elements by the same: of rank one where there is a matrix."""
    spec = layout.index[name]
    rows, columns = spec.matrix
    if rows > 1 and columns > 1:
        ones = np.ones((rows, 1), np.int8), np.ones((columns, 1), np.int8)
        return LowRankDiff(sign * ones[0], ones[1], constant)
    levels = np.full(spec.size, sign, np.int8)
    return SparseDiff(np.arange(spec.size), levels, Uniform(constant))

"""What every learned diff shares: the anchor F_t, and its place in a training loop.

F_{t+1} = F_t (+) G (neural diff paper, section 3). The module's own parameters always hold the
sum, so the forward and the backward pass are those of plain fine-tuning, of any module and any
loss. What differs is done around the optimiser's step: before it gradients of weights become
gradients of what is free, after it the sum is formed anew.

    learned = Sparse(model, ...)
    optimizer = torch.optim.Adam(learned.free(), lr=2e-3)
    learned.attach(optimizer)
    for x, y in batches:  # as usual
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    file = learned.encode(budget_bytes=40_000)
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from diffcodec import (
    Coder,
    Diff,
    HashDiff,
    Layer,
    LosslessDiff,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorDiff,
    available_coders,
    decode,
    encode,
    encoded_size,
    sparse_diff,
)
from diffcodec.changes import MAX_LEVEL
from server.training.errors import TrainingRequestError
from server.training.learned.scores import FLOOR
from server.training.parameters import tensors_of, to_parameters, unwrapped


class LearnedDiff(ABC):
    """A diff G on the weights of a module, as an optimiser learns it.

    Attributes:
        speed: The learning rate that suits what is free, over that of dense training.
        steps_done: Optimiser steps so far.
        base: F_t, which the diff is for; None: zeros, the diff is a snapshot.
        layout: Of all tensors of the module.
        weights: Those that are learned, by name.
        anchor: Their values in F_t.
    """

    speed = 1.0

    def __init__(
        self,
        model: nn.Module,
        budget_bytes: int | None = None,
        *,
        is_snapshot: bool = False,
        coders: tuple[Coder, ...] | None = None,
    ) -> None:
        """Anchor the module's weights as they are now.

        Args:
            model: Its parameters that require gradients are learned, in place, and are float32.
                What torch.compile or DistributedDataParallel made of a module serves as well.
            budget_bytes: Size that the file may have; None: any.
            is_snapshot: The anchor is zero, and the module's weights are the first G.
            coders: What devices decode; None: all that there are here.

        Raises:
            TrainingRequestError: a parameter is not float32, or none is to be learned.
        """
        self.model = model = unwrapped(model)
        self.budget_bytes = budget_bytes
        self.coders = tuple(available_coders()) if coders is None else coders
        self.weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._require_weights()
        start = {name: t.detach().clone() for name, t in tensors_of(model).items()}
        frozen = ParameterSet.from_arrays({name: _frozen(t) for name, t in start.items()})
        self.layout = frozen.layout
        self.base = None if is_snapshot else frozen
        self.steps_done = 0
        self._all_weights = {name for name, _ in model.named_parameters()}
        self.anchor: Mapping[str, Tensor] = {
            name: torch.zeros_like(start[name]) if is_snapshot else start[name]
            for name in self.weights
        }
        self.optimizer: Optimizer | None = None

    def attach(self, optimizer: Optimizer) -> None:
        """Let every step of an optimiser on `free()` keep the module's weights at F_t (+) G.

        Raises:
            TrainingRequestError: the optimiser does not step what is free, or there is one already.
        """
        if self.optimizer is not None:
            raise TrainingRequestError("expected one optimiser to attach to, found a second one")
        stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
        missing = sum(id(tensor) not in stepped for tensor in self.free())
        if missing:
            raise TrainingRequestError(
                f"expected an optimiser of all {len(self.free())} tensors of free(), "
                f"found one that lacks {missing}"
            )
        self.optimizer = optimizer
        optimizer.register_step_pre_hook(self._before_step)
        optimizer.register_step_post_hook(lambda *_: self._after_step())

    @abstractmethod
    def free(self) -> list[Tensor]:
        """The tensors that the optimiser steps."""

    def before_step(self) -> None:  # noqa: B027 - most diffs have nothing to do here
        """Gradients are there, the optimiser steps next."""

    @abstractmethod
    def after_step(self) -> None:
        """The optimiser has stepped (`steps_done` counts it): form the weights anew."""

    def squared_gradients(self, name: str) -> Tensor:
        """Running mean of a tensor's squared gradients: Adam keeps it, so it costs no memory.

        Zeros where the tensor never had a gradient.

        Raises:
            TrainingRequestError: the optimiser keeps none.
        """
        weight, states = self.weights[name], self.optimizer.state if self.optimizer else {}
        squares: Tensor | None = states.get(weight, {}).get("exp_avg_sq")
        if squares is not None:
            return squares
        if not any("exp_avg_sq" in state for state in states.values()):
            raise TrainingRequestError(
                "scores by squared gradients: expected an attached optimiser of the Adam family, "
                "found one that does not keep them"
            )
        return torch.zeros_like(weight)

    def fisher(self, name: str) -> Tensor:
        """What a squared error in each weight costs, its Fisher information: above 0, of W's shape.

        Raises:
            TrainingRequestError: the optimiser keeps no squared gradients.
        """
        return self.squared_gradients(name) + FLOOR

    @abstractmethod
    def file_of_weights(self, budget_bytes: int | None, coders: tuple[Coder, ...]) -> bytes:
        """The diff of the weights alone as an .ndiff file; see `encode`."""

    def encode(
        self, budget_bytes: int | None = None, coders: tuple[Coder, ...] | None = None
    ) -> bytes:
        """The diff as an .ndiff file; a device that applies it has F_{t+1}.

        Statistics that the module gathered, such as those of batch norms, travel too.

        Args:
            budget_bytes: Size that the file may have; None: what the diff was made for.
            coders: What devices decode; None: what the diff was made for.

        Raises:
            BudgetError: not even the smallest diff fits; the message names its size.
        """
        budget_bytes, coders = budget_bytes or self.budget_bytes, coders or self.coders
        data = self.file_of_weights(self.room(budget_bytes), coders)
        statistics = self._statistics()
        if not statistics:
            return data
        diff = decode(data, self.layout).diff
        *below, last = diff.layers or (Layer({}),)
        together = replace(last, tensors={**last.tensors, **statistics})
        return encode(replace(diff, layers=(*below, together)), self.base, coders)

    def room(self, budget_bytes: int | None) -> int | None:
        """What a budget leaves for the weights beside statistics."""
        statistics = self._statistics()
        if budget_bytes is None or not statistics:
            return budget_bytes
        with_them, without = (
            encoded_size(Diff.of(self.layout, base_digest(self.base), part), self.coders)
            for part in (statistics, {})
        )
        return budget_bytes - (with_them - without)

    def parameters(self) -> ParameterSet:
        """The weights as they are now; statistics as they were."""
        now = to_parameters(self.model)
        before = self.base or ParameterSet.zeros(self.layout)
        buffers = {n: a for n, a in before.arrays.items() if n not in self._all_weights}
        return ParameterSet.from_arrays({**now.arrays, **buffers})

    def require_base(self) -> ParameterSet:
        """F_t.

        Raises:
            TrainingRequestError: the diff is a snapshot.
        """
        if self.base is None:
            raise TrainingRequestError("expected a generation to build upon, found none")
        return self.base

    def free_values(self, diff: Diff) -> int:
        """How many values a file that `encode` made leaves free.

        Args:
            diff: The decoded file.
        """
        return count_free(diff)

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold beside module, optimiser and F_t."""
        return {"steps_done": self.steps_done}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        The diff was made anew on F_t and attached; the state of the module may be loaded before
        or after, that of the optimiser after.
        """
        self.steps_done = state["steps_done"]

    def _require_weights(self) -> None:
        if not self.weights:
            raise TrainingRequestError("expected parameters that require gradients, found none")
        for name, weight in self.weights.items():
            if weight.dtype is not torch.float32:
                raise TrainingRequestError(
                    f"parameter {name}: expected float32 (mixed precision keeps weights in it), "
                    f"found {weight.dtype}"
                )

    def _statistics(self) -> dict[str, SparseDiff]:
        """Changes of statistics, nearly exact."""
        now = {n: t for n, t in tensors_of(self.model).items() if n not in self._all_weights}
        if not now:
            return {}
        before = self.base or ParameterSet.zeros(self.layout)
        return fine_levels(
            before, {name: t.float().cpu().numpy() - before.arrays[name] for name, t in now.items()}
        )

    @torch.no_grad()
    def _before_step(
        self, _: Optimizer, arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> None:
        closure = named.get("closure", arguments[1] if len(arguments) > 1 else None)
        if closure is not None:
            raise TrainingRequestError(
                "expected optimizer.step() after backward(), found a closure: it would see "
                "other weights than the device has"
            )
        self.before_step()

    @torch.no_grad()
    def _after_step(self) -> None:
        self.steps_done += 1
        self.after_step()


def require_own_averaging(model: nn.Module) -> None:
    """Refuse a module whose gradients are averaged where nobody keeps them.

    Raises:
        TrainingRequestError: it is DistributedDataParallel's.
    """
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise TrainingRequestError(
            "expected a plain module, whose gradients of free() are averaged by "
            "server.training.parallel.average_gradients, found DistributedDataParallel"
        )


def fine_levels(
    base: ParameterSet, deltas: Mapping[str, NDArray[np.float32]]
) -> dict[str, SparseDiff]:
    """Every entry of some tensors in the finest levels that there are: nearly exactly.

    Args:
        base: What they are added to.
        deltas: By tensor, of the tensors' shapes.
    """
    # Without any the base need not be hashed.
    changes = sparse_diff(base, deltas, MAX_LEVEL).changes() if deltas else ()
    return {name: change for name, change in changes if isinstance(change, SparseDiff)}


def base_digest(base: ParameterSet | None) -> bytes | None:
    """What a diff names its base by; None: it is a snapshot."""
    return None if base is None else base.digest()


def count_free(diff: Diff) -> int:
    """Values that a diff is free to choose; a lossless change chooses every weight.

    Where weights are hashed, what frames them (learned.hashed) is no choice.
    """
    changes = [change for _, change in diff.changes()]
    hashed = [change for change in changes if isinstance(change, HashDiff)]
    return sum(map(_free, hashed or changes))


def _free(change: TensorDiff) -> int:
    match change:
        case SparseDiff() | HashDiff():
            return int(change.levels.size)
        case LowRankDiff():
            return int(change.rows.size + change.columns.size)
        case LosslessDiff():
            return int(change.xor.size) // 4
    raise TypeError(f"expected a change of a tensor, found {type(change).__name__}")


def _frozen(tensor: Tensor) -> NDArray[np.float32]:
    """A tensor as an array that nobody writes to; on a CPU it is the same memory."""
    array: NDArray[np.float32] = tensor.float().cpu().numpy()
    array.flags.writeable = False
    return array

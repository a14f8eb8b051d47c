"""Low-rank adapters beside every matrix, for comparison (Hu et al. 2021, "LoRA").

    W_{t+1} = W_t + U V^T        U zero and V random at first, float16 when they travel

Our file has no factors in float16: the generation leaves as a lossless one, and its bytes are
counted as two for each value.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from diffcodec import Diff
from diffcodec.parameters import matrix_of
from server.training.errors import TrainingRequestError
from server.training.learned.dense import Exact
from server.training.learned.diff import require_own_averaging

VALUE_BYTES = 2


class Lora(Exact):
    """F_t + U V^T."""

    def __init__(self, model: nn.Module, budget_bytes: int, seed: int) -> None:
        """Anchor a module.

        Args:
            model: See LearnedDiff. Its gradients go to the factors and are not kept.
            budget_bytes: What the factors may take. Every matrix has the same rank, and those
                that save most have one more where the budget is not used up by that.
            seed: Draws V.

        Raises:
            TrainingRequestError: rank one of no matrix fits, or DistributedDataParallel would
                average gradients of weights.
        """
        require_own_averaging(model)
        super().__init__(model)
        generator = torch.Generator().manual_seed(seed)
        self.rows: dict[str, Tensor] = {}
        self.columns: dict[str, Tensor] = {}
        shapes = {name: matrix_of(tuple(w.shape)) for name, w in self.weights.items()}
        for name, rank in ranks(shapes, budget_bytes // VALUE_BYTES).items():
            device, (rows, columns) = self.weights[name].device, shapes[name]
            spread = torch.randn(columns, rank, generator=generator) * columns**-0.5
            self.rows[name] = torch.zeros(rows, rank, device=device, requires_grad=True)
            self.columns[name] = spread.to(device).requires_grad_()
            self.weights[name].register_post_accumulate_grad_hook(self._passing_on(name))  # type: ignore[no-untyped-call]
        for name in self.weights.keys() - self.rows.keys():
            self.weights[name].requires_grad_(False)

    def free(self) -> list[Tensor]:
        """The factors."""
        return [*self.rows.values(), *self.columns.values()]

    def after_step(self) -> None:
        """Form the weights from the factors, as float16 holds them."""
        for name, rows in self.rows.items():
            product = _travelling(rows) @ _travelling(self.columns[name]).T
            self.weights[name].copy_(self.anchor[name] + product.view_as(self.anchor[name]))

    def free_values(self, diff: Diff) -> int:
        """Values of all factors."""
        return sum(factor.numel() for factor in self.free())

    def state(self) -> dict[str, Any]:
        """The factors too."""
        return super().state() | {"factors": [factor.detach() for factor in self.free()]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        super().restore(state)
        with torch.no_grad():
            for factor, kept in zip(self.free(), state["factors"], strict=True):
                factor.copy_(kept)

    def _passing_on(self, name: str) -> Callable[[Tensor], None]:
        """A hook that turns a weight's gradient into those of its factors."""

        @torch.no_grad()
        def pass_on(weight: Tensor) -> None:
            rows, columns = self.rows[name], self.columns[name]
            if weight.grad is None:
                return
            gradient = weight.grad.to_dense().reshape(len(rows), len(columns))
            for factor, product in (
                (rows, gradient @ _travelling(columns)),
                (columns, gradient.T @ _travelling(rows)),
            ):
                factor.grad = product if factor.grad is None else factor.grad + product
            weight.grad = None

        return pass_on


def ranks(shapes: Mapping[str, tuple[int, int]], values: int) -> dict[str, int]:
    """The rank of each matrix; those without any are left out.

    Args:
        shapes: Rows and columns by name.
        values: How many all factors may have together.

    Raises:
        TrainingRequestError: rank one of no matrix fits.
    """
    matrices = {name: shape for name, shape in shapes.items() if min(shape) > 1}
    most_saved = sorted(matrices, key=lambda n: sum(shapes[n]) / (shapes[n][0] * shapes[n][1]))
    found = dict.fromkeys(matrices, 0)
    left, before = values, -1
    while left != before:
        before = left
        for name in most_saved:
            if sum(shapes[name]) <= left and found[name] < min(shapes[name]):
                found[name] += 1
                left -= sum(shapes[name])
    if not any(found.values()):
        raise TrainingRequestError(
            f"expected room for rank one of a matrix, found {values} values in all"
        )
    return {name: rank for name, rank in found.items() if rank}


def _travelling(factor: Tensor) -> Tensor:
    return factor.detach().to(torch.float16).to(torch.float32)

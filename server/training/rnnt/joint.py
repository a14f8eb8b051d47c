"""The joint network over a whole lattice, without its (B, T, U + 1, V) logits.

The RNN-T loss needs two of the V log-probabilities of a cell: blank's and the next piece's. Both
passes walk over the cells of all utterances, some at a time, keep those two, and compute the
logits again for the gradients. So padding costs nothing, and memory is bounded by BLOCK logits,
whatever the batch. At the paper's size (V 2,500), 16 utterances of 12 s with 60 pieces are
390,000 cells, whose logits alone would take 3.9 GB. And as an alignment passes through few cells,
hardly any cell has a gradient once a model has learned something: the others are left out.

Letters: B batch, T feature frames, U pieces of a text, E width of the projections, V pieces and
blank, C cells of a block.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

BLOCK = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Logits computed at a time: what a cache holds on a CPU, 256 MB in float32 on a GPU. Gradients
take about twice that."""
NEGLIGIBLE = 1e-6
"""Cells whose gradient is smaller than this share of the largest are left out; all of them
together are less than what float32 rounds away."""

Cells = tuple[Tensor, Tensor, Tensor]
"""Utterance, frame and place in the text, int64 (C,) each."""


def emission_log_probs(
    encoded: Tensor,
    predicted: Tensor,
    weight: Tensor,
    bias: Tensor,
    pieces: Tensor,
    frames: Tensor,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of blank and of the next piece in every cell.

    Matrix products run in autocast's type where that is on; nothing else does.

    Args:
        encoded: (T, B, E).
        predicted: (U + 1, B, E).
        weight: (V, E), of the layer after the tanh.
        bias: (V,).
        pieces: int64 (U, B), the texts; values in [0, V) in the padding, too.
        frames: int64 (B,), 0..T: frames that count.
        counts: int64 (B,), 0..U: pieces that count.

    Returns:
        (B, T, U + 1) and (B, T, U), float32 (or float64 if that is what came in); 0 where nothing
        counts. Differentiable once.
    """
    emissions = _Emissions.apply(  # type: ignore[no-untyped-call]
        encoded, predicted, weight, bias, pieces, frames, counts
    )
    blank, piece = emissions
    return blank, piece


class _Emissions(Function):
    """Inputs and outputs are those of emission_log_probs."""

    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        encoded, predicted, weight, bias, pieces, frames, counts = inputs
        kind = encoded.device.type
        product = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else bias.dtype
        joint = _Joint(encoded, predicted, weight.to(product), bias)
        t, u = (torch.arange(n, device=frames.device) for n in (len(encoded), len(predicted)))
        inside = (t < frames[:, None])[:, :, None] & (u <= counts[:, None])[:, None]
        following = torch.nn.functional.pad(pieces, (0, 0, 0, 1))
        blank, piece, log_sum = bias.new_zeros((3, *inside.shape))
        for cells in _blocks(inside, len(bias)):
            logits = joint.logits(joint.hidden(cells))
            log_sum[cells] = logits.logsumexp(dim=1)
            blank[cells] = logits[:, 0]
            piece[cells] = logits.gather(1, _next_piece(following, cells))[:, 0]
        ctx.save_for_backward(encoded, predicted, weight, bias, following, log_sum, inside)
        ctx.product = product
        has_piece = inside[:, :, 1:]
        return blank - log_sum, (piece - log_sum)[:, :, :-1].where(has_piece, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_blank: Tensor, grad_piece: Tensor) -> tuple[Tensor | None, ...]:
        encoded, predicted, weight, bias, following, log_sum, inside = ctx.saved_tensors
        joint = _Joint(encoded, predicted, weight.to(ctx.product), bias)
        grad_encoded, grad_predicted, grad_weight, grad_bias = (
            torch.zeros_like(x, dtype=bias.dtype) for x in (encoded, predicted, weight, bias)
        )
        grad_blank = grad_blank.where(inside, 0.0)
        grad_piece = torch.nn.functional.pad(grad_piece.where(inside[:, :, 1:], 0.0), (0, 1))
        size = grad_blank.abs() + grad_piece.abs()
        for cells in _blocks(size > NEGLIGIBLE * size.max(), len(bias)):
            of_blank, of_piece = grad_blank[cells][:, None], grad_piece[cells][:, None]
            hidden = joint.hidden(cells)
            # d log p(v) / d logits = onehot(v) - softmax, for the two v of every cell.
            grad = (joint.logits(hidden) - log_sum[cells][:, None]).exp_()
            grad.mul_(-(of_blank + of_piece))
            grad[:, :1] += of_blank
            grad.scatter_add_(1, _next_piece(following, cells), of_piece)
            grad_bias += grad.sum(dim=0)
            grad = grad.to(ctx.product)
            grad_weight += grad.T @ hidden.to(ctx.product)
            into_sum = (grad @ joint.weight).to(hidden.dtype) * (1.0 - hidden * hidden)
            b, t, u = cells
            grad_encoded.index_put_((t, b), into_sum, accumulate=True)
            grad_predicted.index_put_((u, b), into_sum, accumulate=True)
        grads = (grad_encoded.to(encoded.dtype), grad_predicted.to(predicted.dtype))
        return *grads, grad_weight, grad_bias, None, None, None


class _Joint:
    """tanh(encoded + predicted), and the layer after it, for some cells."""

    def __init__(self, encoded: Tensor, predicted: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.encoded, self.predicted, self.weight, self.bias = encoded, predicted, weight, bias

    def hidden(self, cells: Cells) -> Tensor:
        """(C, E), in the type of the bias."""
        b, t, u = cells
        return (self.encoded[t, b] + self.predicted[u, b]).to(self.bias.dtype).tanh_()

    def logits(self, hidden: Tensor) -> Tensor:
        """(C, E) -> (C, V), in the type of the bias."""
        return (hidden.to(self.weight.dtype) @ self.weight.T).to(self.bias.dtype).add_(self.bias)


def _blocks(chosen: Tensor, vocabulary: int) -> Iterator[Cells]:
    """The chosen cells of a lattice, bool (B, T, U + 1), as many at a time as BLOCK allows."""
    b, t, u = chosen.nonzero(as_tuple=True)
    step = max(1, BLOCK.get(chosen.device.type, BLOCK["cpu"]) // vocabulary)
    for first in range(0, len(b), step):
        some = slice(first, first + step)
        yield b[some], t[some], u[some]


def _next_piece(following: Tensor, cells: Cells) -> Tensor:
    """What comes next in each cell, int64 (C, 1); anything at the end of a text."""
    b, _, u = cells
    return following[u, b][:, None]

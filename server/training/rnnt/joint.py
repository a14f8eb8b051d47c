"""The joint network over a whole lattice, without its (B, T, U + 1, V) logits.

The RNN-T loss needs two of the V log-probabilities of a cell: blank's and the next piece's. Both
passes walk over the batch, an utterance at a time and some of its frames at a time, keep those
two, and compute the logits again for the gradients. So padding costs nothing, and memory is
bounded by BLOCK logits: at the paper's size (V 2,500), 16 utterances of 12 s with 60 pieces are
390,000 cells, 3.9 GB of logits and as much again for their gradients; here it is 2 x 64 MB.

Letters: B batch, T feature frames, U pieces of a text, E width of the projections, V pieces and
blank, C cells of a block (frames x U_b + 1).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

BLOCK = 1 << 24
"""Logits computed at a time, if a single frame does not need more."""


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
    sizes = list(zip(frames.tolist(), counts.tolist(), strict=True))
    blank, piece = _Emissions.apply(encoded, predicted, weight, bias, pieces, sizes)  # type: ignore[no-untyped-call]
    return blank, piece


class _Emissions(Function):
    """Both passes. Matrix products run in autocast's type where that is on, the rest does not."""

    @staticmethod
    def forward(
        ctx: Any,
        encoded: Tensor,
        predicted: Tensor,
        weight: Tensor,
        bias: Tensor,
        pieces: Tensor,
        sizes: list[tuple[int, int]],
    ) -> tuple[Tensor, Tensor]:
        kind = encoded.device.type
        product = (
            torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
        )
        joint = _Joint(encoded, predicted, weight.to(product), bias)
        (t, b), u = encoded.shape[:2], pieces.shape[0]
        exact = torch.promote_types(encoded.dtype, torch.float32)
        blank, normalizer = encoded.new_zeros((2, b, t, u + 1), dtype=exact)
        piece = encoded.new_zeros((b, t, u), dtype=exact)
        for k, first, last, count in _blocks(sizes, weight.shape[0]):
            logits = joint.logits(joint.hidden(k, first, last, count))
            log_sum = logits.logsumexp(dim=-1)
            blank[k, first:last, : count + 1] = logits[..., 0] - log_sum
            normalizer[k, first:last, : count + 1] = log_sum
            chosen = logits[:, :count].gather(2, _next_pieces(pieces, k, last - first, count))
            piece[k, first:last, :count] = chosen[..., 0] - log_sum[:, :count]
        ctx.save_for_backward(encoded, predicted, weight, bias, pieces, normalizer)
        ctx.sizes, ctx.product = sizes, product
        return blank, piece

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_blank: Tensor, grad_piece: Tensor) -> tuple[Tensor | None, ...]:
        encoded, predicted, weight, bias, pieces, normalizer = ctx.saved_tensors
        joint = _Joint(encoded, predicted, weight.to(ctx.product), bias)
        exact = normalizer.dtype
        grad_encoded = torch.zeros_like(encoded, dtype=exact)
        grad_predicted = torch.zeros_like(predicted, dtype=exact)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        for k, first, last, count in _blocks(ctx.sizes, weight.shape[0]):
            hidden = joint.hidden(k, first, last, count)
            of_blank = grad_blank[k, first:last, : count + 1]
            of_piece = grad_piece[k, first:last, :count]
            # d log p(v) / d logits = onehot(v) - softmax, for the two v of every cell.
            total = of_blank.clone()
            total[:, :count] += of_piece
            logits = joint.logits(hidden) - normalizer[k, first:last, : count + 1, None]
            grad = logits.exp_().mul_(-total[..., None])
            grad[..., 0] += of_blank
            chosen = _next_pieces(pieces, k, last - first, count)
            grad[:, :count].scatter_add_(2, chosen, of_piece[..., None])
            grad = grad.flatten(0, 1)
            grad_bias += grad.sum(dim=0)
            grad = grad.to(ctx.product)
            grad_weight += grad.T @ hidden.flatten(0, 1).to(ctx.product)
            into_sum = (grad @ joint.weight).view_as(hidden) * (1.0 - hidden * hidden)
            grad_encoded[first:last, k] += into_sum.sum(dim=1)
            grad_predicted[: count + 1, k] += into_sum.sum(dim=0)
        return (
            grad_encoded.to(encoded.dtype),
            grad_predicted.to(predicted.dtype),
            grad_weight,
            grad_bias,
            None,
            None,
        )


class _Joint:
    """tanh(encoded + predicted), and the layer after it, for blocks of cells."""

    def __init__(self, encoded: Tensor, predicted: Tensor, weight: Tensor, bias: Tensor) -> None:
        self.encoded, self.predicted, self.weight, self.bias = encoded, predicted, weight, bias

    def hidden(self, k: int, first: int, last: int, count: int) -> Tensor:
        """Frames first..last of utterance k against its pieces: (frames, count + 1, E)."""
        return torch.tanh(self.encoded[first:last, k, None] + self.predicted[: count + 1, k])

    def logits(self, hidden: Tensor) -> Tensor:
        """(frames, count + 1, E) -> (frames, count + 1, V), in the type of the bias."""
        product = hidden.to(self.weight.dtype) @ self.weight.T
        return product.to(self.bias.dtype).add_(self.bias)


def _blocks(sizes: list[tuple[int, int]], vocabulary: int) -> Iterator[tuple[int, int, int, int]]:
    """(utterance, first frame, after the last frame, its pieces) of every block of cells."""
    for k, (frames, count) in enumerate(sizes):
        step = max(1, BLOCK // ((count + 1) * vocabulary))
        for first in range(0, frames, step):
            yield k, first, min(first + step, frames), count


def _next_pieces(pieces: Tensor, k: int, frames: int, count: int) -> Tensor:
    """Indices of the next piece in every cell: (frames, count, 1)."""
    return pieces[:count, k].expand(frames, count)[..., None]

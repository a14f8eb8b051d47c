"""The RNN-T loss (Graves 2012): minus the log-probability of a text, summed over alignments.

An alignment is a path through a lattice of T frames and U pieces: in cell (t, u) the model says
blank and goes to (t + 1, u), or it says piece u and goes to (t, u + 1). A path ends by blank in
the last cell. Forward and backward variables go by anti-diagonals t + u = d, all cells of one and
all utterances at once, so that Python loops T + U times and not T x U.

Letters: B batch, T feature frames, U pieces of a text, D = T + U diagonals.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

NEVER = float("-inf")
"""The log-probability of what cannot be."""


def transducer_loss(blank: Tensor, piece: Tensor, frames: Tensor, counts: Tensor) -> Tensor:
    """The loss of each utterance.

    Args:
        blank: (B, T, U + 1), log-probability of blank in each cell.
        piece: (B, T, U), log-probability of the text's next piece in each cell.
        frames: int64 (B,), 0..T: frames that count.
        counts: int64 (B,), 0..U: pieces that count.

    Returns:
        (B,), each >= 0 up to rounding; infinite, with gradients of zero, where no path has a
        probability (no frames, or emissions of -inf). Differentiable once.
    """
    loss: Tensor = _TransducerLoss.apply(blank, piece, frames, counts)  # type: ignore[no-untyped-call]
    return loss


class _TransducerLoss(Function):
    """Gradients are posteriors of the steps, known as soon as the loss is (Graves 2012, eq. 20)."""

    @staticmethod
    def forward(ctx: Any, blank: Tensor, piece: Tensor, frames: Tensor, counts: Tensor) -> Tensor:
        lattice = _Lattice(blank, piece, frames, counts)
        betas = lattice.backward_variables()
        log_likelihood = betas[0, :, 0]
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(*lattice.posteriors(betas))
        return -log_likelihood

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_blank, of_piece = ctx.saved_tensors
        scale = -grad[:, None, None]
        return of_blank * scale, of_piece * scale, None, None


class _Lattice:
    """Steps by the diagonal from which they go: (D, B, U + 1), NEVER outside of an utterance."""

    def __init__(self, blank: Tensor, piece: Tensor, frames: Tensor, counts: Tensor) -> None:
        _, t, places = blank.shape
        u = torch.arange(places, device=blank.device)
        d = torch.arange(t + places - 1, device=blank.device)[:, None]
        # Where the step from place u of diagonal d is, and back.
        self._frame, self._diagonal = (d - u).clamp(0, t - 1), torch.arange(t, device=u.device)
        self._diagonal = self._diagonal[:, None] + u
        is_inside = (d >= u)[:, None] & ((d - u)[:, None] < frames[:, None])
        left = counts[:, None] - u
        self.blank = self._skewed(blank).masked_fill(~(is_inside & (left >= 0)), NEVER)
        piece = nn.functional.pad(piece, (0, 1))
        self.piece = self._skewed(piece).masked_fill(~(is_inside & (left > 0)), NEVER)
        # The cell after the last blank, where a path has said everything: (D + 1, B, U + 1).
        ends = torch.arange(len(d) + 1, device=u.device)[:, None] == frames + counts
        self._ends = blank.new_full((), NEVER).where(~(ends[..., None] & (left == 0)), 0.0)

    def backward_variables(self) -> Tensor:
        """Log-probability of what is left of the text, from each cell on: (D + 1, B, U + 1)."""
        betas = self._ends.clone()
        for d in range(len(self.blank) - 1, -1, -1):
            rest = betas[d + 1] + self.blank[d]
            go = betas[d + 1, :, 1:] + self.piece[d, :, :-1]
            rest[:, :-1] = torch.logaddexp(rest[:, :-1], go)
            torch.maximum(rest, self._ends[d], out=betas[d])
        return betas

    def forward_variables(self) -> Tensor:
        """Log-probability of getting to each cell, (D, B, U + 1)."""
        alphas = torch.full_like(self.blank, NEVER)
        alphas[0, :, 0] = 0.0
        for d in range(1, len(alphas)):
            torch.add(alphas[d - 1], self.blank[d - 1], out=alphas[d])
            go = alphas[d - 1, :, :-1] + self.piece[d - 1, :, :-1]
            alphas[d, :, 1:] = torch.logaddexp(alphas[d, :, 1:], go)
        return alphas

    def posteriors(self, betas: Tensor) -> tuple[Tensor, Tensor]:
        """How probable each step is, given the text: blanks (B, T, U + 1), pieces (B, T, U)."""
        log_likelihood = betas[0, :, :1]
        # Of an impossible text nothing is probable: 0, not NaN.
        alphas = self.forward_variables() - log_likelihood.where(~log_likelihood.isneginf(), 0.0)
        of_blank = (alphas + self.blank + betas[1:]).exp_()
        of_piece = (alphas + self.piece)[..., :-1].add_(betas[1:, :, 1:]).exp_()
        return self._straight(of_blank), self._straight(of_piece)

    def _skewed(self, steps: Tensor) -> Tensor:
        """(B, T, U + 1) -> (D, B, U + 1)."""
        index = self._frame[:, None].expand(-1, steps.shape[0], -1)
        return steps.transpose(0, 1).gather(0, index)

    def _straight(self, steps: Tensor) -> Tensor:
        """(D, B, U + 1) -> (B, T, U + 1); fewer places are kept as they are."""
        index = self._diagonal[:, None, : steps.shape[2]].expand(-1, steps.shape[1], -1)
        return steps.gather(0, index).transpose(0, 1)

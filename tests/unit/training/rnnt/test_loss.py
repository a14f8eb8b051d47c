"""The loss is the sum over all alignments, and its gradients are theirs."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from server.training.rnnt.loss import transducer_loss


def random_emissions(batch: int, frames: int, pieces: int, vocabulary: int = 5):
    torch.manual_seed(frames * 10 + pieces)
    logits = torch.randn(batch, frames, pieces + 1, vocabulary, dtype=torch.float64)
    log_probs = logits.log_softmax(dim=-1)
    return log_probs[..., 0].contiguous(), log_probs[:, :, :pieces, 1].contiguous()


def enumerated_loss(blank: Tensor, piece: Tensor) -> float:
    """Minus the log of the summed probability of every alignment, one after the other."""
    frames, pieces = blank.shape[0], piece.shape[1]
    total = 0.0
    # Every order of the pieces and of all blanks but the last, which ends the path.
    for places in itertools.combinations(range(frames - 1 + pieces), pieces):
        t, u, log_probability = 0, 0, 0.0
        for step in range(frames - 1 + pieces):
            if step in places:
                log_probability += float(piece[t, u])
                u += 1
            else:
                log_probability += float(blank[t, u])
                t += 1
        total += math.exp(log_probability + float(blank[t, u]))
    return -math.log(total)


@pytest.mark.parametrize("frames", [1, 2, 5])
@pytest.mark.parametrize("pieces", [0, 1, 4])
def test_loss_is_the_sum_over_all_alignments(frames: int, pieces: int) -> None:
    blank, piece = random_emissions(3, frames, pieces)
    counts = torch.full((3,), pieces)
    loss = transducer_loss(blank, piece, torch.full((3,), frames), counts)
    expected = [enumerated_loss(blank[b], piece[b]) for b in range(3)]
    assert loss.tolist() == pytest.approx(expected, rel=1e-12)


def test_padding_changes_neither_losses_nor_gradients() -> None:
    blank, piece = (x.requires_grad_() for x in random_emissions(4, 6, 5))
    sizes = [(6, 5), (3, 5), (6, 0), (1, 2)]
    frames, counts = torch.tensor(sizes).T
    loss = transducer_loss(blank, piece, frames, counts)
    loss.sum().backward()
    for b, (t, u) in enumerate(sizes):
        alone = [x.detach()[b : b + 1].clone() for x in (blank, piece)]
        cut = [alone[0][:, :t, : u + 1].requires_grad_(), alone[1][:, :t, :u].requires_grad_()]
        of_one = transducer_loss(*cut, torch.tensor([t]), torch.tensor([u]))
        of_one.sum().backward()
        assert loss[b].item() == pytest.approx(of_one.item(), rel=1e-12)
        for whole, part in zip((blank, piece), cut, strict=True):
            assert whole.grad is not None and part.grad is not None
            padded = torch.zeros_like(whole.grad[b])
            padded[: part.shape[1], : part.shape[2]] = part.grad[0]
            torch.testing.assert_close(whole.grad[b], padded)


def test_gradients_agree_with_differences() -> None:
    blank, piece = (x.requires_grad_() for x in random_emissions(3, 4, 3))
    frames, counts = torch.tensor([4, 2, 3]), torch.tensor([3, 3, 1])
    assert torch.autograd.gradcheck(
        lambda b, p: transducer_loss(b, p, frames, counts), (blank, piece)
    )


def test_an_impossible_text_has_infinite_loss_and_gradients_of_zero() -> None:
    blank, piece = random_emissions(3, 4, 3)
    piece[1, :, 1] = -math.inf
    blank.requires_grad_(), piece.requires_grad_()
    frames, counts = torch.tensor([4, 4, 0]), torch.tensor([3, 3, 0])
    frames[2] = 0
    counts[2] = 2
    loss = transducer_loss(blank, piece, frames, counts)
    assert loss[0].isfinite() and loss[1:].tolist() == [math.inf, math.inf]
    loss[0].backward()
    assert blank.grad is not None and piece.grad is not None
    assert blank.grad.isfinite().all() and blank.grad[0].any()
    assert not blank.grad[1:].any() and not piece.grad[1:].any()


def test_nan_is_not_hidden() -> None:
    blank, piece = random_emissions(1, 4, 3)
    blank[0, 2, 1] = math.nan
    assert transducer_loss(blank, piece, torch.tensor([4]), torch.tensor([3])).isnan().all()


def test_long_lattices_stay_exact_in_float32() -> None:
    blank, piece = random_emissions(2, 300, 60)
    sizes = torch.tensor([300, 300]), torch.tensor([60, 60])
    exact = transducer_loss(blank, piece, *sizes)
    rounded = transducer_loss(blank.float(), piece.float(), *sizes)
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-5, atol=0.0)

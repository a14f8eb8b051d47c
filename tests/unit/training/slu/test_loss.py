"""The triplet loss."""

import pytest
import torch

from server.training.slu.loss import triplet_loss


def test_triplet_loss_counts_only_phrases_within_the_margin() -> None:
    text = torch.eye(3)
    right = text[[0, 1]]
    assert triplet_loss(right, text, torch.tensor([0, 1])) == pytest.approx(0.0, abs=1e-4)
    # An utterance exactly at the wrong phrase: its own is sqrt(2) away, a third one as well.
    wrong = triplet_loss(text[[1]], text, torch.tensor([0]), margin=0.3)
    assert wrong.item() == pytest.approx((2**0.5 + 0.3) + 0.3, abs=1e-3)


def test_triplet_loss_has_finite_gradients_at_distance_zero() -> None:
    speech = torch.eye(3).requires_grad_()
    triplet_loss(speech, torch.eye(3), torch.tensor([0, 1, 2]), margin=2.0).backward()
    assert torch.isfinite(speech.grad).all()

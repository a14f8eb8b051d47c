"""What is free to learn, and the weights that follow from it."""

import numpy as np
import pytest
import torch

from diffcodec import Diff, HashDiff, ParameterSet, apply
from server.training.parametrization import CubicSchedule, Dense, Hashed, Sparse
from server.training.slu.loss import triplet_loss


def test_cubic_schedule_follows_the_paper() -> None:
    schedule = CubicSchedule(final_sparsity=0.9, first_step=100, last_step=300)
    assert schedule.sparsity(50) == 0.0
    assert schedule.sparsity(100) == 0.0
    assert schedule.sparsity(200) == pytest.approx(0.9 * (1 - 0.5**3))
    assert schedule.sparsity(300) == pytest.approx(0.9)
    assert schedule.sparsity(1000) == pytest.approx(0.9)


def anchor() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(10, 10, generator=generator),
        "b": torch.randn(50, generator=generator),
    }


def step_all(sparse: Sparse, size: float) -> None:
    with torch.no_grad():
        for k, g in enumerate(sparse.free()):
            g += size * torch.randn(g.shape, generator=torch.Generator().manual_seed(k))


def test_sparse_starts_at_the_anchor_and_stays_there_where_pruned() -> None:
    weights = anchor()
    zeros = {name: torch.zeros_like(w) for name, w in weights.items()}
    sparse = Sparse(weights, zeros, CubicSchedule(0.8, 0, 100))
    for name, w in sparse.weights().items():
        assert torch.equal(w, weights[name])
    step_all(sparse, 0.1)
    sparse.prune_to(30)
    step_all(sparse, 0.1)
    sparse.after_step(200)
    kept = {name: g != 0 for name, g in zip(weights, sparse.free(), strict=True)}
    assert sum(int(k.sum()) for k in kept.values()) == 30
    for name, w in sparse.weights().items():
        assert torch.equal(w[~kept[name]], weights[name][~kept[name]])
        assert not torch.equal(w[kept[name]], weights[name][kept[name]])


def test_pruning_keeps_the_largest_over_all_tensors() -> None:
    weights = anchor()
    sparse = Sparse(weights, weights, CubicSchedule(0.5, 0, 10))
    sparse.prune_to(40)
    every = torch.cat([w.abs().flatten() for w in weights.values()]).sort(descending=True).values
    kept = torch.cat([g.detach().abs().flatten() for g in sparse.free()])
    assert torch.equal(kept[kept > 0].sort(descending=True).values, every[:40])


def test_gradients_reach_only_the_diff() -> None:
    weights = anchor()
    sparse = Sparse(
        weights, {n: torch.zeros_like(w) for n, w in weights.items()}, CubicSchedule(0.5, 0, 10)
    )
    sum(w.square().sum() for w in sparse.weights().values()).backward()
    assert all(g.grad is not None for g in sparse.free())
    assert all(w.grad is None for w in weights.values())


def test_hashed_weights_are_those_that_the_codec_rebuilds() -> None:
    weights = anchor()
    hashed = Hashed(weights, {"a": 12, "b": 5}, hashes=3, hash_seed=7)
    levels = {"a": np.arange(-6, 6, dtype=np.int8), "b": np.arange(5, dtype=np.int8)}
    step = 0.125
    with torch.no_grad():
        for n, a in zip(levels.values(), hashed.free(), strict=True):
            a.copy_(torch.from_numpy(n * np.float32(step)))
    base = ParameterSet.from_arrays({name: w.numpy() for name, w in weights.items()})
    diff = Diff.of(
        base.layout,
        base.digest(),
        {name: HashDiff(n, step, hashes=3) for name, n in levels.items()},
        hash_seed=7,
    )
    rebuilt = apply(base, diff)
    for name, w in hashed.weights().items():
        np.testing.assert_allclose(w.detach().numpy(), rebuilt.arrays[name], rtol=1e-6)


def test_dense_leaves_its_start_alone() -> None:
    weights = anchor()
    dense = Dense(weights)
    with torch.no_grad():
        for w in dense.free():
            w += 1.0
    assert torch.equal(weights["a"], anchor()["a"])
    assert torch.equal(dense.weights()["a"], anchor()["a"] + 1.0)


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

"""Every learned diff: module and file agree, budgets hold, and an ordinary loop is enough."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from diffcodec import (
    BudgetError,
    HashDiff,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    apply,
    decode,
)
from server.training.errors import TrainingRequestError
from server.training.learned import (
    Dense,
    Hashed,
    LearnedDiff,
    Lora,
    LowRank,
    Pruning,
    Sparse,
    by_fisher,
)
from server.training.parameters import tensors_of, to_parameters
from server.training.schedule import CubicSchedule
from tests.unit.training.learned.regression import STEPS, new_net, plain_loss, train

BUDGET_BYTES = 700
SCHEDULE = CubicSchedule(0.6, 5, STEPS // 2)
LENGTHS = {"hidden.weight": 60, "hidden.bias": 8, "norm.weight": 8, "norm.bias": 8}
LENGTHS |= {"out.weight": 40, "out.bias": 4}

MAKERS: dict[str, Callable[[nn.Module], LearnedDiff]] = {
    "dense": Dense,
    "sparse": lambda m: Sparse(m, Pruning(SCHEDULE)),
    "sparse within a budget": lambda m: Sparse(m, Pruning(SCHEDULE), BUDGET_BYTES),
    "sparse by fisher, with levels": lambda m: Sparse(
        m, Pruning(SCHEDULE, by_fisher), BUDGET_BYTES, has_levels=True
    ),
    "sparse by magnitude, with levels": lambda m: Sparse(
        m, Pruning(SCHEDULE), BUDGET_BYTES, has_levels=True
    ),
    "sparse with regrowth": lambda m: Sparse(
        m, Pruning(SCHEDULE, by_fisher, is_regrowing=True), BUDGET_BYTES, has_levels=True
    ),
    "sparse a tensor": lambda m: Sparse(m, Pruning(SCHEDULE, is_global=False)),
    "hashed": lambda m: Hashed(m, LENGTHS, hash_seed=3),
    "hashed within a budget": lambda m: Hashed(m, LENGTHS, hash_seed=3, budget_bytes=BUDGET_BYTES),
    "low rank": lambda m: LowRank(m, BUDGET_BYTES, STEPS // 2),
    "lora": lambda m: Lora(m, BUDGET_BYTES, seed=0),
}
EXACT = {
    "dense",
    "lora",
    "sparse by magnitude, with levels",
    "sparse by fisher, with levels",
    "sparse with regrowth",
    "low rank",
}
"""Those whose module runs on exactly what travels."""


def result(learned: LearnedDiff, data: bytes) -> ParameterSet:
    return apply(learned.base, decode(data, learned.layout))


@pytest.mark.parametrize("name", MAKERS)
def test_an_ordinary_loop_learns_and_the_file_is_what_was_learned(name: str) -> None:
    model = new_net()
    before = plain_loss(model)
    learned = MAKERS[name](model)
    train(learned)
    data = learned.encode()
    device = new_net()
    weights = result(learned, data)
    device.load_state_dict({n: torch.tensor(a) for n, a in weights.arrays.items()}, strict=False)
    assert plain_loss(device) < 0.6 * before
    if name in EXACT:
        for tensor, array in weights.arrays.items():
            found = tensors_of(model)[tensor].detach().numpy()
            # Statistics travel in steps of a 127th of the largest change.
            tolerance = 0.03 if "running" in tensor and name not in ("dense", "lora") else 0.0
            # The least levels go where a file came out a little too long.
            assert np.mean(np.abs(array - found) > tolerance) < 0.03


@pytest.mark.parametrize("name", [name for name in MAKERS if "dense" not in name])
def test_before_the_first_step_the_weights_are_those_of_the_base(name: str) -> None:
    learned = MAKERS[name](new_net())
    assert to_parameters(learned.model).digest() == to_parameters(new_net()).digest()


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in ("dense", "lora")])
def test_files_keep_to_their_budgets(name: str) -> None:
    learned = MAKERS[name](new_net())
    train(learned)
    if learned.budget_bytes is not None:
        # These arrays have no more to say than some 400 bytes.
        least = 0 if "hashed" in name else 0.85 * BUDGET_BYTES
        assert least <= len(learned.encode()) <= BUDGET_BYTES
    assert len(learned.encode(400)) <= 400


@pytest.mark.parametrize("name", ["sparse within a budget", "hashed within a budget", "low rank"])
def test_a_hopeless_budget_is_refused_before_training(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "BUDGET_BYTES", 40)
    with pytest.raises(BudgetError, match="budget"):
        MAKERS[name](new_net())


def test_a_pruned_diff_leaves_the_rest_of_the_weights_as_they_were() -> None:
    model = new_net()
    learned = Sparse(model, Pruning(SCHEDULE))
    train(learned)
    moved = sum(int((w != learned.anchor[n]).sum()) for n, w in learned.weights.items())
    size = sum(w.numel() for w in learned.weights.values())
    assert moved == round(0.4 * size)
    changes = [c for _, c in decode(learned.encode(), learned.layout).diff.changes()]
    travelled = sum(c.levels.size for c in changes if isinstance(c, SparseDiff))
    # Statistics of the norm travel beside what was learned.
    assert travelled == moved + 80


def test_what_is_not_a_number_is_not_pruned_away_unseen() -> None:
    learned = Sparse(new_net(), Pruning(SCHEDULE, interval=1))
    optimizer = torch.optim.Adam(learned.free(), lr=1e-2)
    learned.attach(optimizer)
    for step in range(20):
        optimizer.zero_grad()
        loss = learned.model(torch.randn(8, 12)).square().sum()
        loss.backward()
        if step == 10:
            learned.model.out.weight.grad[0, 0] = float("nan")
        optimizer.step()
    assert not torch.isfinite(loss)


def test_regrowth_brings_pruned_entries_back() -> None:
    kept: dict[bool, list[set[int]]] = {}
    for is_regrowing in (False, True):
        model = new_net()
        learned = Sparse(model, Pruning(CubicSchedule(0.9, 1, 100), is_regrowing=is_regrowing))
        seen: list[set[int]] = []

        def note(step: int, learned: Sparse = learned, seen: list[set[int]] = seen) -> None:
            if step % 10 == 0 and step <= 100:
                moved = [(w != learned.anchor[n]).flatten() for n, w in learned.weights.items()]
                seen.append(set(torch.cat(moved).nonzero().flatten().tolist()))

        train(learned, each=note)
        kept[is_regrowing] = seen
    came_back = {
        is_regrowing: sum(len(b - a) for a, b in pairwise(seen))
        for is_regrowing, seen in kept.items()
    }
    assert came_back[False] == 0
    assert came_back[True] > 0


def test_hashed_weights_are_those_that_the_codec_rebuilds() -> None:
    learned = Hashed(new_net(), LENGTHS, hash_seed=7)
    with torch.no_grad():
        for k, array in enumerate(learned.free()):
            levels = torch.arange(len(array)) % 11 - 5 + k % 2
            array.copy_(0.125 * levels)
    learned.after_step()
    weights = result(learned, learned.encode())
    for name, weight in learned.weights.items():
        np.testing.assert_allclose(weights.arrays[name], weight.detach().numpy(), atol=0.02)


def test_a_snapshot_by_hashing_comes_out_of_a_file_without_base() -> None:
    model = new_net()
    learned = Hashed(model, LENGTHS, hash_seed=5, is_snapshot=True)
    assert train(learned, rate=5e-2) < 0.85 * plain_loss(new_net())
    data = learned.encode()
    weights = apply(None, decode(data))
    for name, weight in learned.weights.items():
        np.testing.assert_allclose(weights.arrays[name], weight.detach().numpy(), atol=0.05)
    changes = [c for _, c in decode(data).diff.changes()]
    arrays = sum(c.levels.size for c in changes if isinstance(c, HashDiff))
    assert learned.free_values(decode(data).diff) == arrays <= sum(LENGTHS.values())


def test_a_change_of_low_rank_travels_as_one() -> None:
    torch.manual_seed(0)
    model = nn.Linear(48, 48)
    learned = LowRank(model, 300, settle_step=60)
    wanted = model.weight.detach() + torch.outer(torch.randn(48), torch.randn(48))
    optimizer = torch.optim.Adam(learned.free(), lr=5e-2)
    learned.attach(optimizer)
    losses = []
    for _ in range(150):
        x = torch.randn(64, 48)
        loss = nn.functional.mse_loss(model(x), x @ wanted.T)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    data = learned.encode()
    kinds = {type(c) for _, c in decode(data, learned.layout).diff.changes()}
    assert LowRankDiff in kinds
    assert losses[-1] < 0.1 * losses[0]
    np.testing.assert_array_equal(result(learned, data).arrays["weight"], model.weight.detach())


def test_gradients_may_be_accumulated() -> None:
    """Two halves of a batch, as large batches on small machines are made."""
    found = []
    for halves in (False, True):
        learned = Hashed(new_net().eval(), LENGTHS, hash_seed=3)
        optimizer = torch.optim.SGD(learned.free(), lr=0.1)
        learned.attach(optimizer)
        x = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
        for part in x.chunk(2) if halves else [x]:
            learned.model(part).square().sum().backward()
        optimizer.step()
        found.append([a.detach().clone() for a in learned.free()])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_statistics_of_a_norm_travel_too() -> None:
    learned = Sparse(new_net(), Pruning(SCHEDULE, by_fisher), BUDGET_BYTES, has_levels=True)
    train(learned)
    weights = result(learned, learned.encode())
    gathered = learned.model.norm.running_mean.numpy()
    np.testing.assert_allclose(weights.arrays["norm.running_mean"], gathered, atol=0.03)


def test_what_requires_no_gradient_stays() -> None:
    model = new_net()
    model.hidden.requires_grad_(False)
    learned = Sparse(model, Pruning(SCHEDULE), BUDGET_BYTES)
    train(learned)
    weights = result(learned, learned.encode())
    np.testing.assert_array_equal(
        weights.arrays["hidden.weight"], new_net().hidden.weight.detach().numpy()
    )


def test_scores_by_fisher_need_an_optimiser_that_keeps_squares() -> None:
    learned = Sparse(new_net(), Pruning(CubicSchedule(0.5, 0, 1), by_fisher))
    optimizer = torch.optim.SGD(learned.free(), lr=0.1)
    learned.attach(optimizer)
    learned.model(torch.randn(4, 12)).sum().backward()
    with pytest.raises(TrainingRequestError, match="Adam"):
        optimizer.step()


def test_weights_of_another_precision_and_modules_without_any_are_refused() -> None:
    with pytest.raises(TrainingRequestError, match="float32"):
        Dense(new_net().to(torch.bfloat16))
    with pytest.raises(TrainingRequestError, match="none"):
        Dense(nn.ReLU())

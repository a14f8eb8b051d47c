"""What a diff could not carry is kept, and is where the next generation's G starts."""

import numpy as np
import pytest
import torch

from diffcodec import ParameterSet, apply, decode
from server.training.errors import TrainingRequestError
from server.training.learned import Pruning, Sparse, by_fisher
from server.training.parameters import load_parameters, to_parameters
from server.training.schedule import CubicSchedule
from tests.unit.training.learned.regression import STEPS, new_net, plain_loss, train

BUDGET_BYTES = 400
SCHEDULE = CubicSchedule(0.7, 5, STEPS // 2)


def with_feedback(
    budget_bytes: int | None = BUDGET_BYTES,
    start: ParameterSet | None = None,
    is_regrowing: bool = False,
) -> Sparse:
    pruning = Pruning(SCHEDULE, by_fisher, is_regrowing=is_regrowing)
    return Sparse(new_net(), pruning, budget_bytes, has_levels=True, has_feedback=True, start=start)


def residual_of(learned: Sparse) -> ParameterSet:
    residual = learned.residual(decode(learned.encode(), learned.layout).diff)
    assert residual is not None
    return residual


def test_without_the_option_nothing_is_kept() -> None:
    learned = Sparse(new_net(), Pruning(SCHEDULE), BUDGET_BYTES)
    train(learned)
    assert learned.residual(decode(learned.encode(), learned.layout).diff) is None


@pytest.mark.parametrize("is_regrowing", [False, True])
@pytest.mark.parametrize("budget_bytes", [BUDGET_BYTES, None])
def test_what_was_pruned_is_what_it_was_when_it_was_pruned(
    budget_bytes: int | None, is_regrowing: bool
) -> None:
    learned = with_feedback(budget_bytes, is_regrowing=is_regrowing)
    train(learned)
    residual = residual_of(learned)
    pruned = np.concatenate(
        [
            residual.arrays[name][weight.detach().numpy() == learned.anchor[name].numpy()]
            for name, weight in learned.weights.items()
        ]
    )
    assert np.mean(pruned != 0) > 0.95
    assert 1e-3 < np.abs(pruned).mean() < 0.3
    # Statistics travel; there is nothing of them to start from.
    assert not residual.arrays["norm.running_mean"].any()


def test_of_what_travelled_the_rounding_is_left() -> None:
    learned = with_feedback()
    train(learned)
    residual = residual_of(learned)
    travelled = apply(learned.base, decode(learned.encode(), learned.layout).diff)
    for name, entries in learned.state()["levels"].items():
        positions = entries["positions"]
        wanted = learned.anchor[name].take(positions) + entries["values"]
        rounding = wanted.numpy() - travelled.arrays[name].reshape(-1)[positions]
        np.testing.assert_array_equal(residual.arrays[name].reshape(-1)[positions], rounding)
        assert rounding.any()


def test_the_next_generation_starts_there_and_its_file_is_for_what_devices_have() -> None:
    first = with_feedback()
    train(first)
    file = first.encode()
    residual, now = residual_of(first), apply(first.base, decode(file, first.layout))
    model = new_net()
    load_parameters(model, now)
    second = Sparse(
        model, Pruning(SCHEDULE), BUDGET_BYTES, has_levels=False, has_feedback=True, start=residual
    )
    started = to_parameters(model)
    for name in second.weights:
        np.testing.assert_array_equal(
            started.arrays[name], now.arrays[name] + residual.arrays[name]
        )
    assert second.base == now
    before = plain_loss(first.model)
    train(second)
    device = new_net()
    load_parameters(device, apply(now, decode(second.encode(), second.layout)))
    assert plain_loss(device) < before


def test_a_residual_of_another_layout_is_refused() -> None:
    other = to_parameters(torch.nn.Linear(3, 3))
    with pytest.raises(TrainingRequestError, match="layout"):
        with_feedback(start=other)

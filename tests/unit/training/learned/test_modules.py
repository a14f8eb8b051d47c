"""Modules, optimisers and loops as other people write them."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from diffcodec import LayoutError, ParameterSet, apply, decode
from server.training.errors import TrainingRequestError
from server.training.learned import LearnedDiff, LowRank, Pruning, Sparse, by_fisher, wrap
from server.training.parameters import load_parameters, to_parameters
from server.training.schedule import CubicSchedule
from tests.unit.training.learned.regression import data, new_net

STEPS, BUDGET_BYTES = 60, 800
METHODS = ["sparse", "hash", "lowrank"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 16)
        self.out = nn.Linear(16, 20, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.embedding(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, batch_first=True, bidirectional=True)
        self.out = nn.Linear(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


class Convolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(4, 16, 3)
        self.norm = nn.BatchNorm1d(16)  # counts batches in an int64 buffer
        self.second = nn.Conv1d(16, 8, 3, groups=2)
        self.out = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.second(torch.relu(self.norm(self.first(x)))).mean(-1))


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(50, 16)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.embedding(x)))


class Parametrised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.utils.parametrizations.weight_norm(nn.Linear(12, 30))
        self.out = nn.utils.parametrizations.spectral_norm(nn.Linear(30, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.hidden(x)))


class Odd(nn.Module):
    """What never has a gradient, is a scalar, is empty, lies transposed, or is no float32."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(12, 12, dtype=torch.bfloat16).requires_grad_(False)
        self.hidden = nn.Linear(12, 30)
        self.hidden.weight = nn.Parameter(0.2 * torch.randn(12, 30).T)
        self.never = nn.Linear(30, 30)
        self.scale = nn.Parameter(torch.ones(()))
        self.empty = nn.Parameter(torch.zeros(0))
        self.out = nn.Linear(30, 6)
        self.register_buffer("calls", torch.zeros(3, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(12, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.mean.lerp_(x.double().mean(0), 0.1)
        seen = x + self.frozen(x.bfloat16()).float() - self.mean.float()
        return self.out(torch.relu(self.hidden(seen)) * self.scale)


def random_batch(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(64, *shape), torch.randint(6, (64,))


def tokens(vocabulary: int, *shape: int) -> tuple[Tensor, Tensor]:
    return torch.randint(vocabulary, (64, *shape)), torch.randint(6, (64,))


MODULES: dict[str, tuple[Callable[[], nn.Module], Callable[[], tuple[Tensor, Tensor]]]] = {
    "tied weights": (Tied, lambda: tokens(20)),
    "lstm": (Recurrent, lambda: random_batch(5, 6)),
    "convolutions and a batch norm": (Convolutions, lambda: random_batch(4, 20)),
    "an embedding and a layer norm": (Bag, lambda: tokens(50, 5)),
    "parametrised weights": (Parametrised, lambda: random_batch(12)),
    "odd tensors": (Odd, lambda: random_batch(12)),
    "compiled": (
        lambda: torch.compile(Parametrised(), backend="eager"),
        lambda: random_batch(12),
    ),
}


def fit(
    learned: LearnedDiff, model: nn.Module, x: Tensor, y: Tensor, steps: int = STEPS
) -> list[float]:
    """An ordinary loop; the losses."""
    optimizer = torch.optim.Adam(learned.free(), lr=2e-3 * learned.speed)
    learned.attach(optimizer)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    return losses


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, method) for name in MODULES for method in ("sparse", "hash")),
        ("odd tensors", "lowrank"),
    ],
)
def test_a_device_answers_as_the_trained_module_does(name: str, method: str) -> None:
    make, draw = MODULES[name]
    torch.manual_seed(0)
    model, (x, y) = make(), draw()
    base = to_parameters(model)
    learned = wrap(model, BUDGET_BYTES, STEPS, method)
    losses = fit(learned, model, x, y)
    assert losses[-1] < 0.93 * losses[0]
    file = learned.encode()
    assert len(file) <= BUDGET_BYTES
    device = make()
    load_parameters(device, apply(base, decode(file, base.layout)))
    found, expected = (nn.functional.cross_entropy(m.eval()(x), y) for m in (device, model))
    assert abs(found.item() - expected.item()) < 0.1 * losses[0]


def test_a_compiled_module_has_the_names_of_the_plain_one() -> None:
    plain = new_net()
    compiled = torch.compile(plain, backend="eager")
    assert to_parameters(compiled).layout == to_parameters(plain).layout
    assert wrap(compiled, 700, STEPS, "sparse").layout == to_parameters(plain).layout


def test_what_never_has_a_gradient_stays_as_it_was() -> None:
    torch.manual_seed(0)
    model = Odd()
    learned = wrap(model, BUDGET_BYTES, STEPS, "sparse")
    before = model.never.weight.detach().clone()
    fit(learned, model, *random_batch(12))
    weights = apply(learned.base, decode(learned.encode(), learned.layout))
    np.testing.assert_array_equal(weights.arrays["never.weight"], before)
    assert not learned.squared_gradients("never.weight").any()


def test_names_that_a_file_cannot_state_are_refused() -> None:
    model = nn.ParameterDict({"a\tb": nn.Parameter(torch.zeros(3))})
    with pytest.raises(LayoutError, match=r"a\\tb"):
        wrap(model, BUDGET_BYTES, STEPS, "sparse")


def test_parameters_of_another_module_are_not_loaded() -> None:
    arrays = dict(to_parameters(new_net()).arrays)
    del arrays["norm.bias"]
    with pytest.raises(
        TrainingRequestError, match=r"norm.bias: expected shape \(40,\), found none"
    ):
        load_parameters(new_net(), ParameterSet.from_arrays(arrays))


def test_an_optimiser_of_other_tensors_is_refused() -> None:
    model = new_net()
    learned = wrap(model, 700, STEPS, "hash")
    with pytest.raises(TrainingRequestError, match=r"all 6 tensors of free\(\), .* lacks 6"):
        learned.attach(torch.optim.Adam(model.parameters()))
    learned.attach(torch.optim.Adam(learned.free()))
    with pytest.raises(TrainingRequestError, match="a second one"):
        learned.attach(torch.optim.Adam(learned.free()))


def test_a_closure_is_refused() -> None:
    learned = wrap(new_net(), 700, STEPS, "sparse")
    optimizer = torch.optim.Adam(learned.free())
    learned.attach(optimizer)
    with pytest.raises(TrainingRequestError, match="closure"):
        optimizer.step(lambda: torch.zeros(()))


def test_weight_decay_moves_no_pruned_entry() -> None:
    model = new_net()
    schedule = CubicSchedule(0.6, 2, STEPS // 2)
    learned = Sparse(model, Pruning(schedule, by_fisher), 500, has_levels=True)
    matrices = [p for p in learned.free() if p.ndim > 1]
    vectors = [p for p in learned.free() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.5}, {"params": vectors, "weight_decay": 0.0}], 1e-2
    )
    learned.attach(optimizer)
    x, y = data()
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    moved = sum(int((w != learned.anchor[n]).sum()) for n, w in learned.weights.items())
    changes = [c for _, c in decode(learned.encode(), learned.layout).diff.changes()]
    travelled = sum(c.levels.size for c in changes) - 80  # statistics of the norm
    assert 0 < travelled <= moved < 1.1 * travelled


def test_a_scheduler_reaches_factors_that_join_later() -> None:
    torch.manual_seed(0)
    model = nn.Linear(48, 48)
    learned = LowRank(model, 300, settle_step=10)
    groups = [{"params": [model.weight], "lr": 1e-2}, {"params": [model.bias], "lr": 1e-3}]
    optimizer = torch.optim.AdamW(groups)
    learned.attach(optimizer)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    wanted = model.weight.detach() + torch.outer(torch.randn(48), torch.randn(48))
    for _ in range(20):
        x = torch.randn(64, 48)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), x @ wanted.T).backward()
        optimizer.step()
        schedule.step()
    matrix, bias = optimizer.param_groups
    assert [tuple(p.shape) for p in matrix["params"]] == [(48, 48), (48, 1), (48, 1)]
    assert len(bias["params"]) == 1
    assert matrix["lr"] == pytest.approx(1e-2 * 0.9**20)


@pytest.mark.parametrize("method", METHODS)
def test_scaled_losses_learn_and_steps_that_overflow_do_not_count(method: str) -> None:
    torch.manual_seed(0)
    model = new_net()
    learned = wrap(model, 900, STEPS, method)
    optimizer = torch.optim.Adam(learned.free(), lr=5e-3 * learned.speed)
    learned.attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    x, y = data()
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.mse_loss(model(x).float(), y)
        losses.append(loss.item())
        scaler.scale(loss * (float("inf") if step == 5 else 1.0)).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(learned.free(), 5.0)
        scaler.step(optimizer)
        scaler.update()
    assert learned.steps_done == STEPS - 1
    assert losses[-1] < 0.9 * losses[0]


def checkpointed(
    method: str, stop_at: int | None, is_model_first: bool = True
) -> tuple[bytes, dict[str, Tensor]]:
    """Train with a checkpoint of one's own after a step, and go on in new objects from it."""

    def begin() -> tuple[nn.Module, LearnedDiff, torch.optim.Optimizer]:
        model = new_net()  # holds F_t
        learned = wrap(model, 700, STEPS, method)
        optimizer = torch.optim.Adam(learned.free(), lr=5e-3 * learned.speed)
        learned.attach(optimizer)
        return model, learned, optimizer

    model, learned, optimizer = begin()
    x, y = data()
    for step in range(STEPS):
        if step == stop_at:
            file = io.BytesIO()
            parts = (model.state_dict(), learned.state(), optimizer.state_dict())
            torch.save(parts, file)
            model, learned, optimizer = begin()
            state, of_diff, of_optimizer = torch.load(io.BytesIO(file.getvalue()))
            if is_model_first:
                model.load_state_dict(state)
            learned.restore(of_diff)
            optimizer.load_state_dict(of_optimizer)
            if not is_model_first:
                model.load_state_dict(state)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return learned.encode(), model.state_dict()


@pytest.mark.parametrize(
    ("method", "stop_at", "is_model_first"),
    [("sparse", 15, True), ("sparse", 50, False), ("hash", 50, True), ("lowrank", 50, False)],
)
def test_a_checkpoint_of_ones_own_goes_on_with_the_same_result(
    method: str, stop_at: int, is_model_first: bool
) -> None:
    whole, weights = checkpointed(method, None)
    resumed, weights_again = checkpointed(method, stop_at, is_model_first)
    assert resumed == whole
    for name, tensor in weights.items():
        assert torch.equal(tensor, weights_again[name]), name


@pytest.fixture
def _a_world_of_one(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'world'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("_a_world_of_one")
def test_distributed_data_parallel_serves_diffs_on_gradients_of_weights() -> None:
    model = nn.parallel.DistributedDataParallel(new_net())
    learned = wrap(model, 700, STEPS, "sparse")
    assert learned.layout == to_parameters(new_net()).layout
    x, y = data()
    optimizer = torch.optim.Adam(learned.free(), lr=2e-2)
    learned.attach(optimizer)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.6 * losses[0]
    with pytest.raises(TrainingRequestError, match="average_gradients"):
        wrap(nn.parallel.DistributedDataParallel(new_net()), 700, STEPS, "hash")

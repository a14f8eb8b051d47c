"""Diffs of whole levels: module and file are the same weights, within budget and range."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from diffcodec import (
    BudgetError,
    Codebook,
    Dtype,
    InputError,
    ParameterSet,
    SparseDiff,
    Uniform,
    apply,
    available_coders,
    decode,
    encode,
)
from diffcodec.diff import Diff
from server.training.errors import TrainingRequestError
from server.training.grid import dequantise, is_on_grid, on_grid, quantise, scales_of
from server.training.learned import Int8Grid, wrap_int8
from server.training.learned.int8 import GridEntries, Snapshot
from server.training.parameters import to_parameters
from server.training.schedule import CubicSchedule
from tests.unit.training.learned.regression import STEPS, data, new_net, plain_loss, train

SCHEDULE = CubicSchedule(0.6, 5, STEPS // 2)
BUDGET_BYTES = 600
ALL_FITS = 3_000
STATISTICS = ("norm.running_mean", "norm.running_var")


def device_weights() -> ParameterSet:
    """What a device has: a network that was never trained, in int8."""
    return quantise(to_parameters(new_net()))


def new_diff(budget_bytes: int | None = BUDGET_BYTES, model: nn.Module | None = None) -> Int8Grid:
    return Int8Grid(model or new_net(), device_weights(), SCHEDULE, budget_bytes)


def weights_alone(weights: ParameterSet) -> dict[str, np.ndarray]:
    floats = dequantise(weights).arrays
    return {name: array for name, array in floats.items() if name not in STATISTICS}


class TestGrid:
    def test_matrices_lie_in_int8_with_a_scale_and_vectors_stay(self) -> None:
        layout = device_weights().layout
        assert layout == on_grid(to_parameters(new_net()).layout)
        assert is_on_grid(layout)
        in_int8 = {spec.name for spec in layout.tensors if spec.dtype is Dtype.INT8}
        assert in_int8 == {"hidden.weight", "out.weight"} == set(scales_of(device_weights()))

    def test_quantising_is_off_by_half_a_level_at_most(self) -> None:
        weights = to_parameters(new_net())
        quantised = quantise(weights)
        near = dequantise(quantised)
        assert near.layout == weights.layout
        for name, array in weights.arrays.items():
            half = scales_of(quantised).get(name, 0.0) / 2
            assert np.abs(near.arrays[name] - array).max() <= 1.001 * half

    def test_what_lies_on_a_grid_stays_there_exactly(self) -> None:
        near = dequantise(device_weights())
        again = device_weights()
        levels = {n: near.arrays[n] / s for n, s in scales_of(again).items()}
        for name, found in levels.items():
            np.testing.assert_array_equal(np.rint(found), again.arrays[name])

    def test_a_matrix_of_zeros_has_a_grid(self) -> None:
        nothing = ParameterSet.from_arrays({"w": np.zeros((3, 4), np.float32)})
        assert dequantise(quantise(nothing)) == nothing

    def test_a_snapshot_holds_the_very_weights(self) -> None:
        weights = device_weights()
        snapshot = Snapshot(weights)
        decoded = decode(snapshot.encode())
        assert apply(None, decoded) == weights
        assert snapshot.free_values(decoded.diff) == weights.layout.parameter_count


class TestLearning:
    @pytest.mark.parametrize("budget_bytes", [None, ALL_FITS, 600, 450])
    def test_the_module_runs_on_exactly_what_the_device_will_have(
        self, budget_bytes: int | None
    ) -> None:
        learned = new_diff(budget_bytes)
        before = plain_loss(learned.model)
        train(learned)
        file = learned.encode()
        result = apply(learned.base, decode(file, learned.layout))
        if budget_bytes is not None:
            least = 0.85 * budget_bytes if budget_bytes != ALL_FITS else 0
            assert least <= len(file) <= budget_bytes
        found, expected = weights_alone(result), weights_alone(learned.parameters())
        module = to_parameters(learned.model).arrays
        wrong = [float(np.mean(found[name] != module[name])) for name in found]
        # The least entries go where levels that moved made the file too long.
        assert max(wrong) <= (0.03 if budget_bytes in (600, 450) else 0)
        for name, array in expected.items():
            np.testing.assert_array_equal(array, module[name])
        device = new_net()
        device.load_state_dict(
            {n: torch.tensor(a) for n, a in dequantise(result).arrays.items()}, strict=False
        )
        assert plain_loss(device) < 0.75 * before

    def test_at_every_step_matrices_are_whole_levels_and_in_range(self) -> None:
        learned = new_diff()
        scales = scales_of(device_weights())

        def on_the_grid(_step: int) -> None:
            for name, scale in scales.items():
                levels = learned.weights[name].detach().numpy() / scale
                np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)
                assert np.abs(levels).max() < 127.001

        train(learned, each=on_the_grid)

    def test_nothing_but_entries_travels(self) -> None:
        learned = new_diff()
        train(learned)
        result = apply(learned.base, decode(learned.encode(), learned.layout))
        assert scales_of(result) == scales_of(device_weights())
        decoded = decode(learned.encode(), learned.layout).diff
        assert all(isinstance(change, SparseDiff) for _, change in decoded.changes())
        moved = np.count_nonzero(
            result.arrays["hidden.weight"] != learned.base.arrays["hidden.weight"]
        )
        assert 0 < moved < result.arrays["hidden.weight"].size

    def test_weights_that_want_to_leave_the_range_stay_within_it(self) -> None:
        """The target is many times as large as the grid reaches."""
        torch.manual_seed(0)
        model = nn.Linear(30, 20, bias=False)
        device = quantise(to_parameters(model))
        learned = Int8Grid(model, device, CubicSchedule(0.5, 2, 30), 500)
        optimizer = torch.optim.Adam(learned.free(), lr=0.5)
        learned.attach(optimizer)
        wanted = 50 * torch.randn(20, 30)
        for _ in range(60):
            x = torch.randn(64, 30)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), x @ wanted.T).backward()
            optimizer.step()
        file = learned.encode()
        result = apply(device, decode(file, device.layout))
        levels = result.arrays["weight"].astype(int)
        assert np.abs(levels).max() <= 127
        assert np.abs(levels).max() > 100
        assert len(file) <= 500

    def test_a_generation_builds_on_the_one_before(self) -> None:
        first = new_diff()
        train(first)
        device = apply(first.base, decode(first.encode(), first.layout))
        second = Int8Grid(new_net(5), device, SCHEDULE, BUDGET_BYTES)
        before = plain_loss(second.model)
        train(second)
        result = apply(device, decode(second.encode(), device.layout))
        assert result.layout == device.layout
        assert plain_loss(second.model) < before

    @pytest.mark.parametrize("killed_at", [3, 20, STEPS // 2, STEPS // 2 + 15])
    def test_from_a_checkpoint_the_file_is_the_same_to_the_byte(
        self, killed_at: int, tmp_path: Path
    ) -> None:
        expected = trained_file(STEPS, None, tmp_path)
        trained_file(killed_at, None, tmp_path)
        assert trained_file(STEPS, tmp_path / f"{killed_at}.pt", tmp_path) == expected

    def test_wrapping_takes_a_budget_in_words_and_the_weights_of_the_base(self) -> None:
        learned = wrap_int8(new_net(7), device_weights(), "600B", STEPS)
        assert learned.parameters() == device_weights()
        train(learned)
        assert len(learned.encode()) <= 600

    def test_a_hopeless_budget_is_refused_before_training(self) -> None:
        with pytest.raises(BudgetError, match="budget"):
            new_diff(40)

    def test_weights_that_lie_on_no_grid_or_of_another_model_are_refused(self) -> None:
        floats = to_parameters(new_net())
        with pytest.raises(TrainingRequestError, match="matrices in int8"):
            Int8Grid(new_net(), floats, SCHEDULE)
        with pytest.raises(TrainingRequestError, match=r"tensor bias: expected shape"):
            Int8Grid(nn.Linear(3, 4), device_weights(), SCHEDULE)


class TestEntries:
    """Three entries at levels 120, -126 and 0 of a grid of 0.5."""

    def entries(self, values: list[float], magnitudes: list[float], is_uniform: bool = False):
        return GridEntries(
            positions=torch.tensor([2, 5, 9]),
            values=torch.tensor(values),
            magnitudes=torch.tensor(magnitudes),
            is_uniform=is_uniform,
            ranks=torch.ones(3),
            scale=0.5,
            start=torch.tensor([120.0, -126.0, 0.0]),
        )

    def test_magnitudes_are_whole_levels(self) -> None:
        change = self.entries([0.9, 2.1, -2.0], [0.6, 2.2]).change(0.0)
        assert change == SparseDiff(
            np.array([2, 5, 9]), np.array([1, 2, -2], np.int8), Codebook((1.0, 4.0))
        )

    def test_one_that_would_leave_the_range_takes_a_smaller_step_or_none(self) -> None:
        entries = self.entries([9.0, -9.0, -9.0], [2.0, 10.0])
        assert entries.travelling().tolist() == [2.0, 0.0, -10.0]
        change = entries.change(0.0)
        assert change is not None
        assert change.positions.tolist() == [2, 9]

    def test_equal_steps_stay_what_a_file_can_state(self) -> None:
        entries = self.entries([3.0, 1.0, -90.0], [100.0, 200.0, 300.0], is_uniform=True)
        change = entries.change(0.0)
        assert change is not None
        assert change.scale == Uniform(85.0)  # 255 // 3
        assert (change.positions.tolist(), change.levels.tolist()) == ([5, 9], [1, -1])

    def test_magnitudes_that_meet_become_one(self) -> None:
        change = self.entries([0.5, 0.6, 0.5], [0.5, 0.6]).change(0.0)
        assert change is not None
        assert change.scale == Codebook((1.0,))


class TestCodec:
    """What the file can say of int8 tensors."""

    def test_results_beyond_the_range_are_refused(self) -> None:
        base = ParameterSet.from_arrays({"w": np.array([[100, -100]], np.int8)})
        up = SparseDiff(np.array([0]), np.array([1], np.int8), Uniform(28.0))
        with pytest.raises(InputError, match="from -128 to 127"):
            encode(Diff.of(base.layout, base.digest(), {"w": up}), base, tuple(available_coders()))

    def test_the_last_level_can_be_reached(self) -> None:
        base = ParameterSet.from_arrays({"w": np.array([[100, -100]], np.int8)})
        both = SparseDiff(np.array([0, 1]), np.array([1, -1], np.int8), Uniform(27.0))
        file = encode(Diff.of(base.layout, base.digest(), {"w": both}), base)
        assert apply(base, decode(file, base.layout)).arrays["w"].tolist() == [[127, -127]]


def trained_file(steps: int, resumed: Path | None, folder: Path) -> bytes:
    """Train up to a step, from the beginning or from where another one stopped."""
    learned = new_diff()
    optimizer = torch.optim.Adam(learned.free(), lr=2e-2)
    learned.attach(optimizer)
    if resumed is not None:
        state = torch.load(resumed, weights_only=True)
        learned.model.load_state_dict(state["model"])
        learned.restore(state["learned"])
        optimizer.load_state_dict(state["optimizer"])
    x, y = data()
    for _ in range(learned.steps_done, steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(learned.model(x), y).backward()
        optimizer.step()
    state = {
        "model": learned.model.state_dict(),
        "learned": learned.state(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, folder / f"{steps}.pt")
    return learned.encode()

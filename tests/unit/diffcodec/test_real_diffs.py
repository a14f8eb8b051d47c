"""Diffs of a real model: 1,056,256 parameters, fine-tuned under gradual pruning."""

import numpy as np
import pytest

from diffcodec import (
    Diff,
    ParameterSet,
    SparseDiff,
    Uniform,
    apply,
    decode,
    encode,
    fit_hash,
    fit_sparse,
    lossless_diff,
    sparse_diff,
)
from diffcodec.weights import read_weights
from tests.shared_data import shared_data


@pytest.fixture(scope="module")
def base() -> ParameterSet:
    return read_weights(shared_data("diffs") / "base.safetensors")


def deltas(density: str) -> dict[str, np.ndarray]:
    with np.load(shared_data("diffs") / f"delta_{density}.npz") as stored:
        return {name: stored[name] for name in stored.files}


def plus(base: ParameterSet, change: dict[str, np.ndarray]) -> ParameterSet:
    return ParameterSet.from_arrays({n: base.arrays[n] + d for n, d in change.items()})


@pytest.mark.parametrize(
    ("density", "at_most"), [("d10", 106_500), ("d5", 58_500), ("d2.5", 32_000), ("d1", 14_400)]
)
def test_five_bit_levels_cost_what_gap_coding_promises(base, density: str, at_most: int):
    data = encode(sparse_diff(base, deltas(density), 15), base)
    assert len(data) <= at_most
    assert (
        apply(base, decode(data, base.layout)).digest() == decode(data, base.layout).target_digest
    )


@pytest.mark.parametrize(
    ("density", "at_most"), [("d10", 106_500), ("d5", 58_500), ("d2.5", 32_000), ("d1", 14_400)]
)
def test_unclipped_five_bit_levels_too(base, density: str, at_most: int):
    """step = max / 15, as the peers were measured."""
    changes = {}
    for name, delta in deltas(density).items():
        flat = delta.reshape(-1)
        positions = np.flatnonzero(flat)
        if positions.size:
            step = np.float32(np.abs(flat).max() / 15)
            magnitudes = np.clip(np.rint(np.abs(flat[positions]) / step), 1, 15)
            levels = np.copysign(magnitudes, flat[positions]).astype(np.int8)
            changes[name] = SparseDiff(positions, levels, Uniform(float(step)))
    assert len(encode(Diff.of(base.layout, base.digest(), changes), base)) <= at_most


@pytest.mark.parametrize("budget", [5_000, 40_000, 70_000])
def test_files_fill_their_budget(base, budget: int):
    new = plus(base, deltas("d5"))
    for fit in (fit_sparse, fit_hash):
        assert 0.95 * budget <= len(fit(base, new, budget)) <= budget


def test_five_percent_of_the_weights_at_two_levels_are_near_a_hundredth_of_the_model(base):
    change = deltas("d5")
    data = encode(sparse_diff(base, change, 2), base)
    assert base.layout.parameter_count * 4 / len(data) > 90


def test_any_checkpoint_is_reproduced_bit_for_bit(base):
    new = plus(base, deltas("d10"))
    data = encode(lossless_diff(base, new), base)
    assert apply(base, decode(data, base.layout)) == new
    snapshot = encode(lossless_diff(None, new), None)
    assert apply(None, decode(snapshot)) == new
    # The whole model is 3,903,301 bytes by zstd -19.
    assert len(data) < 720_000
    assert len(snapshot) < 3_650_000

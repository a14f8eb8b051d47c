"""Facts about fits of any method: bounds, what they reach, and what steers them."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffcodec import (
    BudgetError,
    Codebook,
    Dtype,
    InputError,
    Layout,
    LayoutError,
    LosslessDiff,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
    apply,
    decode,
    fit_sparse,
    sparse_diff,
)
from diffcodec.arithmetic import widen
from diffcodec.fitting.budget import fit_auto, fit_lowrank
from diffcodec.fitting.magnitudes import centroids, shortened, written_bits
from diffcodec.fitting.selection import differences
from diffcodec.header import Coder
from tests.unit.diffcodec.strategies import layouts, weights_of

Fit = Callable[..., bytes]
FITS = [fit_sparse, fit_lowrank, fit_auto]


def tuned(seed: int = 0, rank: int = 0) -> tuple[ParameterSet, ParameterSet]:
    """A base of three tensors, and weights after a fine-tune that moved all of them."""
    rng = np.random.default_rng(seed)
    base, new = {}, {}
    for name, shape in (("a", (64, 48)), ("b", (96, 40)), ("c", (30,))):
        base[name] = rng.normal(0, 0.1, shape).astype(np.float32)
        rows = rng.lognormal(0, 1, (shape[0], *[1] * (len(shape) - 1)))
        delta = rng.laplace(0, 0.01, shape) * rows
        if rank and len(shape) == 2:
            delta *= 0.1
            delta += rng.normal(0, 0.1, (shape[0], rank)) @ rng.normal(0, 0.2, (rank, shape[1]))
        new[name] = base[name] + delta.astype(np.float32)
    return ParameterSet.from_arrays(base), ParameterSet.from_arrays(new)


def result_of(base: ParameterSet | None, data: bytes) -> ParameterSet:
    return apply(base, decode(data, base.layout if base else None))


def error(
    base: ParameterSet | None,
    new: ParameterSet,
    data: bytes,
    weights: dict[str, NDArray[np.float64]] | None = None,
) -> float:
    """Weighted squared error of the result, from its weights as float64."""
    result = result_of(base, data)
    total = 0.0
    for spec in new.layout.tensors:
        got, wanted = (
            widen(p.arrays[spec.name], spec.dtype).astype(np.float64) for p in (result, new)
        )
        weight = 1.0 if weights is None else weights[spec.name]
        total += float((weight * np.square(got - wanted)).sum())
    return total


@settings(max_examples=15)
@given(layouts(), layouts(), st.integers(0, 99), st.integers(300, 4000), st.sampled_from(FITS))
def test_no_file_is_over_budget_whatever_the_layouts(
    before: Layout, after: Layout, seed: int, budget: int, fit: Fit
):
    kept = [t for t in after.tensors if t.name not in before.index]
    layout = Layout.of([*kept, *before.tensors[: 1 + seed % 3]])
    base, new = weights_of(before, seed), weights_of(layout, seed + 1)
    try:
        data = fit(base, new, budget)
    except BudgetError as refused:
        assert int(str(refused).split("at least ")[1].split()[0]) > budget
        return
    assert len(data) <= budget
    assert result_of(base, data).layout == layout


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("coder", list(Coder))
def test_more_bytes_are_never_further_away(fit: Fit, coder: Coder):
    base, new = tuned()
    budgets = (400, 1200, 4000, 9000, 40_000)
    errors = [error(base, new, fit(base, new, budget, coders=(coder,))) for budget in budgets]
    for less, more in pairwise(errors):
        assert more <= 1.01 * less
    assert fit is fit_lowrank or errors[-1] == 0.0


@settings(max_examples=12)
@given(st.integers(500, 9000), st.integers(0, 9))
def test_sparse_files_are_full_while_there_is_more_to_say(budget: int, seed: int):
    base, new = tuned(seed)
    assert 0.97 * budget <= len(fit_sparse(base, new, budget)) <= budget


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("budget", [600, 3500])
def test_mixed_methods_are_never_further_away_than_sparse_levels(rank: int, budget: int):
    base, new = tuned(3, rank)
    mixed, sparse = (error(base, new, fit(base, new, budget)) for fit in (fit_auto, fit_sparse))
    assert mixed <= sparse
    assert rank == 0 or budget < 1000 or mixed < 0.6 * sparse


def test_low_rank_deltas_are_found_and_sparse_levels_stand_above():
    base, new = tuned(5, rank=2)
    changes = [c for _, c in decode(fit_auto(base, new, 2500), base.layout).diff.changes()]
    assert any(isinstance(change, LowRankDiff) for change in changes)
    data = fit_lowrank(base, new, 2500)
    moved = dict(decode(data, base.layout).diff.changes())
    assert moved.keys() <= {"a", "b"}
    assert len(data) > 0.9 * 2500


@pytest.mark.parametrize("fit", [fit_sparse, fit_auto])
def test_sensitive_weights_come_nearer(fit: Fit):
    base, new = tuned()
    rng = np.random.default_rng(1)
    weights = {n: rng.choice([0.01, 1.0], a.shape) for n, a in new.arrays.items()}
    steered = fit(base, new, 3000, sensitivities=weights)
    blind = fit(base, new, 3000)
    assert error(base, new, steered, weights) < 0.8 * error(base, new, blind, weights)


def test_weights_without_sensitivity_stay():
    base, new = tuned()
    weights = {n: np.zeros(a.shape) for n, a in new.arrays.items()}
    weights["b"][5] = 1.0
    diff = decode(fit_sparse(base, new, 3000, sensitivities=weights), base.layout).diff
    (name, change), *finer = diff.changes()
    assert name == "b"
    assert isinstance(change, SparseDiff)
    assert set(change.positions // 40) == {5}
    assert all(other == "b" for other, _ in finer)


def test_unsound_sensitivities_are_refused_with_the_tensor_named():
    base, new = tuned()
    good = {n: np.ones(a.shape) for n, a in new.arrays.items()}
    with pytest.raises(InputError, match="tensor b: expected sensitivities for every"):
        fit_sparse(base, new, 3000, sensitivities={n: w for n, w in good.items() if n != "b"})
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="tensor c: expected finite sensitivities"):
            fit_sparse(base, new, 3000, sensitivities=good | {"c": np.full(30, bad)})
    with pytest.raises(LayoutError, match=r"tensor c: expected sensitivities of shape \[30\]"):
        fit_auto(base, new, 3000, sensitivities=good | {"c": np.ones(3)})
    with pytest.raises(InputError, match="scores or sensitivities, found both"):
        fit_sparse(base, new, 3000, scores=good, sensitivities=good)


def test_the_exact_diff_is_the_answer_where_it_fits():
    base, new = tuned()
    data = fit_sparse(base, new, 40_000)
    assert result_of(base, data) == new
    assert all(isinstance(c, LosslessDiff) for _, c in decode(data, base.layout).diff.changes())


def test_finer_layers_fill_what_127_levels_leave():
    base, new = tuned(2)
    coarse, fine = (fit_sparse(base, new, budget) for budget in (9000, 14_000))
    assert len(decode(fine, base.layout).diff.layers) > 1
    assert error(base, new, fine) < 0.01 * error(base, new, coarse)


@pytest.mark.parametrize("dtype", list(Dtype))
def test_every_dtype_comes_near_and_becomes_exact(dtype: Dtype):
    layout = Layout.of([TensorSpec("w", dtype, (60, 50)), TensorSpec("v", dtype, (40,))])
    base, new = weights_of(layout, 1), weights_of(layout, 2)
    errors = [error(base, new, fit_sparse(base, new, b)) for b in (300, 1000, 2000, 13_000)]
    assert errors[0] > errors[1] > errors[2] > errors[3] == 0.0


def test_int8_is_exact_by_levels_where_those_fit():
    layout = Layout.of([TensorSpec("w", Dtype.INT8, (60, 50))])
    base = weights_of(layout, 1)
    moved = np.random.default_rng(0).integers(-3, 4, (60, 50)).astype(np.int8)
    new = ParameterSet(layout, {"w": base.arrays["w"] + moved})
    diff = sparse_diff(base, differences(base, new), 3)
    assert apply(base, diff) == new
    assert result_of(base, fit_sparse(base, new, 2000, levels=15)) == new


@given(st.integers(0, 99), st.integers(1, 20), st.integers(250, 2500))
@settings(max_examples=20)
def test_int8_never_leaves_its_range(seed: int, levels: int, budget: int):
    rng = np.random.default_rng(seed)
    layout = Layout.of([TensorSpec("w", Dtype.INT8, (40, 20))])
    base, new = (
        ParameterSet(layout, {"w": rng.choice([-128, -126, 0, 125, 127], (40, 20)).astype(np.int8)})
        for _ in range(2)
    )
    result_of(base, fit_sparse(base, new, budget, levels=levels))
    apply(base, sparse_diff(base, differences(base, new), levels))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("dtype", [Dtype.FLOAT16, Dtype.BFLOAT16, Dtype.FLOAT32])
def test_results_at_the_edge_of_a_dtype_stay_finite(fit: Fit, dtype: Dtype):
    largest = {"float16": 0x7BFF, "bfloat16": 0x7F7F, "float32": 0x7F7F_FFFF}[dtype]
    bits = np.full((30, 30), largest, f"<u{dtype.itemsize}")
    rng = np.random.default_rng(0)
    shrunk = bits - rng.integers(0, 2 ** (4 * dtype.itemsize - 2), bits.shape).astype(bits.dtype)
    layout = Layout.of([TensorSpec("w", dtype, (30, 30))])
    base, new = (ParameterSet(layout, {"w": b.view(dtype.storage)}) for b in (shrunk, bits))
    for budget in (300, 700):
        result_of(base, fit(base, new, budget))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("value", [1e-45, 1e-38, 1.0, 3e38])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (7, 5)])
def test_extreme_deltas_are_fitted(fit: Fit, value: float, shape: tuple[int, ...]):
    base = ParameterSet.from_arrays({"w": np.zeros(shape, np.float32)})
    new = ParameterSet.from_arrays({"w": np.full(shape, value, np.float32)})
    data = fit(base, new, 400)
    assert len(data) <= 400
    assert fit is fit_lowrank or result_of(base, data) == new


@pytest.mark.parametrize("fit", FITS)
def test_what_is_not_finite_is_refused_in_one_line(fit: Fit):
    base, new = tuned()
    for value in (np.nan, np.inf):
        broken = ParameterSet.from_arrays(dict(new.arrays) | {"c": np.full(30, value, np.float32)})
        with pytest.raises(InputError, match=r"^tensor c: expected finite deltas[^\n]*$"):
            fit(base, broken, 3000)


@pytest.mark.parametrize("fit", FITS)
def test_tensors_may_be_added_removed_and_grown(fit: Fit):
    base, new = tuned()
    rng = np.random.default_rng(0)
    grown = np.zeros((70, 48), np.float32)
    grown[:64] = new.arrays["a"]
    after = ParameterSet.from_arrays(
        {"a": grown, "c": new.arrays["c"], "d": rng.normal(0, 0.1, (20, 20)).astype(np.float32)}
    )
    errors = [error(base, after, fit(base, after, budget)) for budget in (800, 2500, 20_000)]
    assert errors[0] > errors[1] >= errors[2]
    assert fit is fit_lowrank or errors[2] == 0.0
    with pytest.raises(LayoutError, match="tensor a: expected at least"):
        fit(after, base, 3000)


def test_codebooks_come_nearer_than_equal_steps_and_cost_two_bytes_a_magnitude():
    values = np.random.default_rng(0).laplace(0, 1, (100, 50)).astype(np.float32)
    base = ParameterSet.from_arrays({"w": np.zeros((100, 50), np.float32)})
    errors = []
    for codebook in (True, False):
        diff = sparse_diff(base, {"w": values}, 2, codebook=codebook)
        errors.append(np.square(apply(base, diff).arrays["w"] - values).sum())
    assert errors[0] < errors[1]
    ((_, change),) = sparse_diff(base, {"w": values}, 2).changes()
    assert isinstance(change.scale, Codebook)
    assert written_bits(np.array(change.scale.magnitudes)) == 8 * 2 * 2


def test_magnitudes_that_occur_are_stated_exactly():
    base = ParameterSet.from_arrays({"w": np.zeros(90, np.float32)})
    values = np.repeat(np.array([0.1, -0.3, 0.7], np.float32), 30)
    assert np.array_equal(apply(base, sparse_diff(base, {"w": values}, 3)).arrays["w"], values)


def test_few_entries_get_few_magnitudes():
    base = ParameterSet.from_arrays({"w": np.zeros(20, np.float32)})
    values = np.random.default_rng(0).normal(0, 1, 20).astype(np.float32)
    ((_, change),) = sparse_diff(base, {"w": values}, 8).changes()
    assert change.largest == 2


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 200))
def test_centroids_are_means_of_what_is_nearest_to_them(seed: int, count: int, size: int):
    values = np.abs(np.random.default_rng(seed).standard_cauchy(size)) + 1e-6
    found = centroids(values, None, count)
    assert 1 <= found.size <= count
    assert (np.diff(found) > 0).all()
    assert values.min() <= found[0] * (1 + 1e-9)
    assert found[-1] <= values.max() * (1 + 1e-9)
    nearest = np.abs(values[:, None] - found).argmin(axis=1)
    best = [values[nearest == k].mean() for k in np.unique(nearest)]
    assert (
        np.square(values - found[nearest]).sum()
        <= 1.05
        * sum(
            np.square(values[nearest == k] - m).sum()
            for k, m in zip(np.unique(nearest), best, strict=True)
        )
        + 1e-9
    )


@given(st.integers(1, 0x7F7F_FFFF))
def test_shortened_magnitudes_are_near_and_sound(bits: int):
    value = float(np.array(bits, np.uint32).view(np.float32))
    exact = np.array([value])
    free, dear = (float(shortened(exact, np.ones(1), price)[0]) for price in (0.0, 1e300))
    assert free == value
    assert 0 < dear <= float(np.finfo(np.float32).max)
    assert value < 1e-37 or value > 3.3e38 or abs(dear / value - 1) <= 2.0**-7
    assert float(np.float32(dear)) == dear

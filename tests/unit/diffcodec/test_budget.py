"""Facts about quantisers, selection and fitting a budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcodec import (
    BudgetError,
    InputError,
    LayoutError,
    ParameterSet,
    apply,
    decode,
    encoded_size,
    fit_arrays,
    fit_hash,
    fit_hash_arrays,
    fit_sparse,
    hash_array_lengths,
    parse_size,
    position_buckets,
    quantise_arrays,
    sparse_diff,
)
from diffcodec.fitting.hash_fit import array_lengths
from diffcodec.fitting.quantise import quantise, quantise_freely
from diffcodec.fitting.selection import Candidates, differences


def pair(
    density: float = 1.0, size: int = 40_000, seed: int = 0
) -> tuple[ParameterSet, ParameterSet]:
    """A base, and weights that differ from it in a share of the entries."""
    rng = np.random.default_rng(seed)
    shapes = {"big": (size // 100, 100), "small": (50,), "same": (10, 10)}
    base = {n: rng.standard_normal(s, np.float32) for n, s in shapes.items()}
    new = dict(base)
    for name in ("big", "small"):
        is_changed = rng.random(shapes[name]) < density
        delta = rng.laplace(0, 0.01, shapes[name]) * is_changed
        new[name] = base[name] + delta.astype(np.float32)
    return ParameterSet.from_arrays(base), ParameterSet.from_arrays(new)


def error(new: ParameterSet, base: ParameterSet, data: bytes) -> float:
    """|| result - new || / || new - base ||."""
    result = apply(base, decode(data, base.layout))
    missed = sum(float(np.square(result.arrays[n] - new.arrays[n]).sum()) for n in new.arrays)
    whole = sum(float(np.square(base.arrays[n] - new.arrays[n]).sum()) for n in new.arrays)
    return (missed / whole) ** 0.5


@given(st.integers(1, 127), st.integers(0, 2**32))
def test_kept_entries_never_become_zero_and_keep_their_signs(levels: int, seed: int):
    rng = np.random.default_rng(seed)
    values = (rng.standard_cauchy(200) * 1e-3).astype(np.float32)
    for coded, scale in (quantise(values, levels), quantise_freely(values, levels)):
        assert np.array_equal(np.sign(coded), np.sign(values))
        assert scale.largest(coded) <= levels


@pytest.mark.parametrize("levels", [1, 2, 4, 15, 127])
def test_no_other_step_is_much_better_for_the_chosen_levels(levels: int):
    values = np.random.default_rng(3).normal(0, 1, 5000)
    coded, scale = quantise(values, levels)
    best = float((values * coded).sum() / np.square(coded.astype(float)).sum())
    assert scale.step == pytest.approx(best, rel=0.01)


def test_more_levels_come_nearer():
    values = np.random.default_rng(3).normal(0, 1, 5000)
    errors = []
    for levels in (1, 2, 4, 8, 15, 31, 127):
        coded, scale = quantise(values, levels)
        errors.append(float(np.square(values - scale.amounts(coded)).sum()))
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("magnitude", [1e-45, 1e-38, 1.0, 3.4e38])
def test_extreme_magnitudes_are_quantised(magnitude: float):
    values = np.array([magnitude, -magnitude / 2], np.float32)
    values = values[values != 0]
    for coded, scale in (quantise(values, 15), quantise_freely(values, 2)):
        assert np.isfinite(scale.amounts(coded)).all()
        assert np.array_equal(np.sign(coded), np.sign(values))


def test_a_sparse_diff_keeps_what_it_is_told_to():
    base, new = pair(0.2)
    deltas = differences(base, new)
    keep = {"big": np.arange(40_000).reshape(400, 100) % 2 == 0}
    diff = sparse_diff(base, deltas, 3, keep)
    expected = np.flatnonzero((deltas["big"] != 0) & keep["big"])
    assert np.array_equal(dict(diff.changes())["big"].positions, expected)
    assert dict(diff.changes())["small"].positions.size == np.count_nonzero(deltas["small"])
    assert "same" not in dict(diff.changes())


@pytest.mark.parametrize("levels", [0, -1, 128])
def test_levels_out_of_range_are_refused(levels: int):
    base, new = pair(0.1)
    with pytest.raises(InputError, match=f"expected 1 to 127 levels, found {levels}"):
        sparse_diff(base, differences(base, new), levels)
    with pytest.raises(InputError, match="expected 1 to 127"):
        fit_sparse(base, new, 5000, levels=levels)


def test_deltas_that_are_not_finite_are_refused():
    base, _ = pair()
    broken = dict(base.arrays) | {"small": np.full(50, np.nan, np.float32)}
    with pytest.raises(InputError, match="tensor small: expected finite deltas"):
        fit_sparse(base, ParameterSet.from_arrays(broken), 5000)


def test_hash_fits_refuse_int8_and_other_layouts():
    base, _ = pair()
    whole = ParameterSet.from_arrays({"h": np.zeros(5, np.int8)})
    with pytest.raises(InputError, match=r"tensor h: expected floats .* found int8"):
        fit_hash(whole, ParameterSet.from_arrays({"h": np.ones(5, np.int8)}), 5000)
    other = ParameterSet.from_arrays(dict(base.arrays) | {"small": np.zeros(51, np.float32)})
    with pytest.raises(LayoutError, match=r"small: expected float32 50 .* found float32 51"):
        fit_hash(base, other, 5000)


def test_candidates_are_the_largest_over_all_tensors():
    base, new = pair(0.3)
    deltas = differences(base, new)
    chosen = Candidates.of(deltas).positions_of_best(5000)
    kept = {n: np.isin(np.arange(d.size), chosen[n]) for n, d in deltas.items()}
    smallest_kept = min(np.abs(d.reshape(-1)[kept[n]]).min() for n, d in deltas.items())
    largest_left = max(np.abs(d.reshape(-1)[~kept[n]]).max() for n, d in deltas.items())
    assert sum(positions.size for positions in chosen.values()) == 5000
    assert smallest_kept >= largest_left


def test_leaving_out_hopeless_candidates_does_not_change_the_best():
    deltas = differences(*pair(0.3))
    every, few = Candidates.of(deltas), Candidates.of(deltas, at_most=900)
    assert few.count < 1000 < every.count
    assert every.is_all
    assert not few.is_all
    best, alike = (c.positions_of_best(800) for c in (every, few))
    assert best.keys() == alike.keys()
    assert all(np.array_equal(best[name], alike[name]) for name in best)


def test_scores_decide_over_magnitude():
    base, new = pair(0.3)
    deltas = differences(base, new)
    scores = {name: -np.abs(delta) for name, delta in deltas.items()}
    data = fit_sparse(base, new, 3000, scores=scores)
    diff = decode(data, base.layout).diff
    taken = np.abs(deltas["big"].reshape(-1)[dict(diff.changes())["big"].positions])
    assert taken.max() < np.median(np.abs(deltas["big"][deltas["big"] != 0]))


def test_scores_must_cover_every_change():
    base, new = pair(0.3)
    with pytest.raises(InputError, match="tensor big: expected scores"):
        fit_sparse(base, new, 3000, scores={})
    with pytest.raises(LayoutError, match=r"tensor big: expected scores of shape \[400, 100\]"):
        fit_sparse(base, new, 3000, scores={"big": np.ones(3), "small": np.ones(50)})


@settings(max_examples=10)
@given(st.integers(300, 60_000), st.sampled_from([0.01, 0.2, 1.0]), st.integers(0, 5))
def test_a_sparse_file_is_never_over_budget_and_nearly_fills_it(budget, density, seed):
    base, new = pair(density, seed=seed)
    data = fit_sparse(base, new, budget)
    assert len(data) <= budget
    everything = encoded_size(sparse_diff(base, differences(base, new), 127))
    assert len(data) >= 0.95 * min(budget, everything)
    assert apply(base, decode(data, base.layout)).layout == base.layout


@settings(max_examples=8)
@given(st.integers(350, 30_000), st.integers(1, 4))
def test_a_hash_file_is_never_over_budget_and_nearly_fills_it(budget, hashes):
    base, new = pair(1.0)
    data = fit_hash(base, new, budget, hashes, seed=budget)
    assert 0.95 * budget <= len(data) <= budget
    assert decode(data, base.layout).diff.layers[0].hash_seed == budget


def test_more_bytes_come_nearer():
    base, new = pair(0.2)
    budgets = (500, 2000, 5000, 8000, 10_000, 12_000)
    errors = [error(new, base, fit_sparse(base, new, b)) for b in budgets]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05
    errors = [error(new, base, fit_hash(base, new, b)) for b in (500, 5000, 20_000)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9


def test_given_levels_are_kept_even_where_bytes_are_left():
    base, new = pair(0.05)
    data = fit_sparse(base, new, 30_000, levels=2)
    diff = decode(data, base.layout).diff
    assert 5000 > len(data) > len(fit_sparse(base, new, 30_000, levels=1))
    assert max(np.abs(change.levels).max() for _, change in diff.changes()) <= 2


def test_a_budget_too_small_for_a_header_names_the_smallest_possible():
    base, new = pair(0.1)
    for fit in (fit_sparse, fit_hash):
        with pytest.raises(BudgetError, match=r"at least \d+ bytes .* found 50") as caught:
            fit(base, new, 50)
        smallest = int(str(caught.value).split("at least ")[1].split()[0])
        assert len(fit(base, new, smallest)) <= smallest
        with pytest.raises(BudgetError):
            fit(base, new, smallest - 1)


def test_weights_that_are_equal_give_an_empty_diff():
    base, _ = pair()
    for fit in (fit_sparse, fit_hash):
        decoded = decode(fit(base, base, 1000), base.layout)
        assert decoded.diff.layers == ()
        assert decoded.target_digest == base.digest()


def test_regular_deltas_that_cost_next_to_nothing_are_all_sent():
    base = ParameterSet.from_arrays({"w": np.zeros(60_000, np.float32)})
    new = ParameterSet.from_arrays({"w": np.ones(60_000, np.float32)})
    diff = decode(fit_sparse(base, new, 1000), base.layout).diff
    assert diff.nonzeros == 60_000


def test_least_squares_finds_the_arrays_that_made_a_delta():
    base, _ = pair()
    lengths = hash_array_lengths(base.layout, 2000)
    rng = np.random.default_rng(1)
    made = {n: rng.standard_normal(m).astype(np.float32) * 0.01 for n, m in lengths.items()}
    arrays = dict(base.arrays)
    for name, a in made.items():
        w = base.arrays[name].reshape(-1)
        shares = sum(a[position_buckets(name, 5, k, w.size, a.size)] for k in range(2))
        arrays[name] = (w + np.abs(w) * shares).reshape(base.arrays[name].shape)
    found = fit_arrays(base, ParameterSet.from_arrays(arrays), lengths, 2, 5)
    missed = np.linalg.norm(found["big"] - made["big"]) / np.linalg.norm(made["big"])
    assert missed < 0.03


def test_trained_arrays_fill_the_budget_they_were_sized_for():
    base, _ = pair()
    budget = parse_size("5KB")
    rng = np.random.default_rng(2)
    lengths = hash_array_lengths(base.layout, budget)
    arrays = {n: rng.standard_normal(m).astype(np.float32) for n, m in lengths.items()}
    data = fit_hash_arrays(base, arrays, budget, hashes=3, seed=9)
    assert 0.95 * budget <= len(data) <= budget
    for name, change in decode(data, base.layout).diff.changes():
        decoded = change.levels * change.step
        assert np.corrcoef(decoded, arrays[name])[0, 1] > 0.8


def test_arrays_that_cannot_fit_name_the_smallest_possible():
    base, _ = pair()
    arrays = {"big": np.random.default_rng(0).standard_normal(40_000).astype(np.float32)}
    with pytest.raises(BudgetError, match=r"at least \d+ bytes"):
        fit_hash_arrays(base, arrays, 300, 3, 0)


def test_arrays_that_are_not_finite_are_refused():
    base, _ = pair()
    with pytest.raises(InputError, match="big: expected a finite array"):
        quantise_arrays(base, {"big": np.array([np.inf], np.float32)}, 1, 0, 1.0)


@pytest.mark.parametrize("ratio", [0.0, -1.0, 1.5])
def test_array_ratios_out_of_range_are_refused(ratio: float):
    with pytest.raises(InputError, match="ratio"):
        array_lengths(pair()[0].layout, ratio)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("40KB", 40_000),
        ("40 kb", 40_000),
        ("40KiB", 40_960),
        ("1.5MB", 1_500_000),
        ("2MiB", 2_097_152),
        ("0.5KiB", 512),
        ("3GB", 3_000_000_000),
        ("7B", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "KB", "-1", "0", "0.2", "1e3", "4 apples", "1,000", "٣KB"])
def test_other_texts_are_no_sizes(text: str):
    with pytest.raises(InputError, match="expected a size such as"):
        parse_size(text)


def test_a_sparse_snapshot_within_a_budget_stands_alone():
    _, new = pair()
    data = fit_sparse(None, new, 10_000)
    decoded = decode(data)
    assert 9500 <= len(data) <= 10_000
    assert decoded.diff.base_digest is None
    assert apply(None, decoded).layout == new.layout

"""The laws of diffs and files, for any diff."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcodec import (
    Diff,
    DigestError,
    Dtype,
    HashDiff,
    InputError,
    Layer,
    Layout,
    LayoutError,
    LosslessDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
    Uniform,
    WrongBaseError,
    apply,
    apply_file,
    decode,
    encode,
    encoded_size,
    lossless_diff,
    position_buckets,
    read_header,
)
from diffcodec.coders.layers import available_coders
from tests.unit.diffcodec.strategies import SEEDS, bases_and_diffs, example, layouts, weights_of

CODERS = st.sets(st.sampled_from(sorted(available_coders())), min_size=1)


@given(bases_and_diffs(), CODERS)
def test_decoding_gives_the_diff_that_was_encoded(pair, coders):
    base, diff = pair
    decoded = decode(encode(diff, base, coders), diff.starts_from)
    assert decoded.diff == diff
    assert decoded.target_digest == apply(base, diff).digest()


@given(bases_and_diffs(), CODERS)
def test_encoding_a_decoded_file_gives_the_same_bytes(pair, coders):
    base, diff = pair
    data = encode(diff, base, coders)
    assert encode(decode(data, diff.starts_from).diff, base, coders) == data
    assert encoded_size(diff, coders) == len(data)


@given(bases_and_diffs())
def test_more_coders_never_make_a_file_larger(pair):
    _, diff = pair
    sizes = {coder: encoded_size(diff, {coder}) for coder in available_coders()}
    assert encoded_size(diff, available_coders()) <= min(sizes.values()) + 4 * len(diff.layers)


@settings(max_examples=50)
@given(bases_and_diffs(), CODERS)
def test_applying_a_file_on_disk_is_applying_in_memory(tmp_path_factory, pair, coders):
    base, diff = pair
    folder = tmp_path_factory.mktemp("apply")
    (folder / "d.ndiff").write_bytes(encode(diff, base, coders))
    if base:
        base.write(folder / "base.bin")
    applied = apply_file(
        folder / "base.bin" if base else None,
        base.layout if base else None,
        folder / "d.ndiff",
        folder / "new.bin",
    )
    expected = apply(base, diff)
    assert applied.target_digest == expected.digest()
    assert applied.layout == diff.layout
    assert ParameterSet.read(folder / "new.bin", diff.layout) == expected


@given(layouts(), SEEDS, SEEDS)
def test_a_lossless_diff_reproduces_any_bits_of_any_dtype(layout: Layout, one: int, two: int):
    base = weights_of(layout, one, any_bits=True)
    new = weights_of(layout, two, any_bits=True)
    for start in (base, None):
        data = encode(lossless_diff(start, new), start)
        assert apply(start, decode(data, layout)) == new


@given(layouts(), SEEDS)
def test_equal_weights_give_a_diff_without_changes(layout: Layout, seed: int):
    base = weights_of(layout, seed)
    assert lossless_diff(base, weights_of(layout, seed)).layers == ()


def test_sparse_is_base_plus_level_times_step_in_float32():
    base, diff = example()
    change = dict(diff.changes())["embedding"]
    expected = base.arrays["embedding"].reshape(-1).copy()
    for position, level in zip(change.positions, change.levels, strict=True):
        expected[position] += np.float32(level) * np.float32(change.scale.step)
    assert np.array_equal(apply(base, diff).arrays["embedding"].reshape(-1), expected)


def test_hash_is_the_equation_of_the_paper_in_a_fixed_order():
    base, diff = example()
    change = dict(diff.changes())["weight"]
    a = change.levels.astype(np.float32) * np.float32(change.step)
    w = base.arrays["weight"].reshape(-1)
    h = [position_buckets("weight", 99, k, w.size, a.size) for k in range(3)]
    expected = w + np.abs(w) * ((a[h[0]] + a[h[1]]) + a[h[2]])
    assert np.array_equal(apply(base, diff).arrays["weight"].reshape(-1), expected)


def test_tensors_that_a_diff_does_not_name_stay_as_they_are():
    base, diff = example()
    new = apply(base, diff)
    for name in ("bias", "quantised", "short"):
        assert np.array_equal(new.arrays[name], base.arrays[name])


def test_applying_leaves_the_base_as_it_is():
    base, diff = example()
    before = {name: array.copy() for name, array in base.arrays.items()}
    apply(base, diff)
    assert all(np.array_equal(base.arrays[name], before[name]) for name in before)


def test_a_base_with_other_values_is_refused():
    base, diff = example()
    other = weights_of(base.layout, 2)
    with pytest.raises(WrongBaseError, match=other.digest().hex()):
        apply(other, diff)
    with pytest.raises(WrongBaseError, match="found none"):
        apply(None, diff)


def test_a_base_with_another_layout_is_refused_with_the_tensor_named():
    _, diff = example()
    other = ParameterSet.from_arrays({"bias": np.zeros(8, np.float32)})
    with pytest.raises(LayoutError, match=r"bias: expected float32 7 .* found float32 8"):
        apply(other, diff)


def test_a_diff_for_another_layout_is_not_decoded():
    base, diff = example()
    other = Layout.of([TensorSpec("w", Dtype.FLOAT32, (3,))])
    with pytest.raises(LayoutError, match=base.layout.fingerprint[:8].hex()):
        decode(encode(diff, base), other)
    with pytest.raises(LayoutError, match="found none"):
        decode(encode(diff, base))


@pytest.mark.parametrize("weight", [np.inf, np.nan, 3.4e38])
def test_results_that_are_not_finite_are_refused_when_encoding(weight: float):
    base = ParameterSet.from_arrays({"w": np.array([weight, 1], np.float32)})
    step = float(np.float32(1e38))
    changes = [
        SparseDiff(np.array([0]), np.array([3], np.int8), Uniform(step)),
        HashDiff(np.array([127], np.int8), step, 1),
    ]
    for change in changes:
        with pytest.raises(InputError, match="tensor w: expected results that are finite"):
            encode(Diff.of(base.layout, base.digest(), {"w": change}), base)


def test_denormal_weights_are_kept():
    tiny = np.array([1e-45, -1e-40, 0.0, -0.0], np.float32)
    base = ParameterSet.from_arrays({"w": tiny})
    change = SparseDiff(np.array([1]), np.array([1], np.int8), Uniform(float(np.float32(1e-45))))
    diff = Diff.of(base.layout, base.digest(), {"w": change})
    new = apply(base, decode(encode(diff, base), base.layout)).arrays["w"]
    assert new.tobytes() == np.array([1e-45, tiny[1] + tiny[0], 0.0, -0.0], np.float32).tobytes()


@pytest.mark.parametrize(
    ("positions", "levels", "step"),
    [
        ([], [], 1.0),
        ([1, 1], [1, 1], 1.0),
        ([2, 1], [1, 1], 1.0),
        ([-1], [1], 1.0),
        ([1], [0], 1.0),
        ([1], [-128], 1.0),
        ([1], [1, 1], 1.0),
        ([1], [1], 0.0),
        ([1], [1], -1.0),
        ([1], [1], float("nan")),
        ([1], [1], float("inf")),
        ([1], [1], 1e300),
        ([1], [1], 0.1),  # no float32
    ],
)
def test_sparse_values_that_no_file_can_say_are_refused(positions, levels, step):
    with pytest.raises(InputError):
        SparseDiff(np.array(positions, np.int64), np.array(levels, np.int8), Uniform(step))


@pytest.mark.parametrize(
    ("levels", "step", "hashes"), [([], 1.0, 1), ([-128], 1.0, 1), ([1], 0.0, 1), ([1], 1.0, 5)]
)
def test_hash_values_that_no_file_can_say_are_refused(levels, step, hashes):
    with pytest.raises(InputError):
        HashDiff(np.array(levels, np.int8), step, hashes)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("nosuch", LosslessDiff(np.ones(4, np.uint8)), "not in the layout"),
        (
            "quantised",
            SparseDiff(np.array([0]), np.array([1], np.int8), Uniform(0.5)),
            "expected whole numbers up to 255 to change int8, found 0.5",
        ),
        ("quantised", HashDiff(np.ones(2, np.int8), 1.0, 1), "expected floats"),
        (
            "bias",
            SparseDiff(np.array([7]), np.array([1], np.int8), Uniform(1.0)),
            "positions below 7",
        ),
        ("bias", HashDiff(np.ones(8, np.int8), 1.0, 1), "at most 7 levels"),
        ("bias", LosslessDiff(np.ones(4, np.uint8)), "expected 28 bytes"),
    ],
)
def test_changes_that_do_not_fit_their_tensor_are_refused(name, change, message):
    base, _ = example()
    with pytest.raises(InputError, match=message):
        Diff.of(base.layout, base.digest(), {name: change})


def test_a_result_with_another_digest_than_promised_is_refused():
    base, diff = example()
    decoded = decode(encode(diff, base), base.layout)
    changed = type(decoded)(decoded.diff, bytes(32))
    with pytest.raises(DigestError, match="00000000"):
        apply(base, changed)


def test_header_tells_what_the_file_holds():
    base, diff = example()
    header = read_header(encode(diff, base))
    assert header.base_digest == base.digest()
    assert header.layout_check == base.layout.fingerprint[:8]
    assert header.nonzeros == 5
    assert dict(header.methods) == {"sparse": 1, "hash": 1, "lossless": 1}
    assert not header.is_snapshot


def test_arrays_of_all_layers_together_are_bounded():
    layout = Layout.of([TensorSpec("w", Dtype.FLOAT32, (2**22,))])
    layer = Layer({"w": HashDiff(np.ones(2**22, np.int8), 1.0, 1)})
    Diff(layout, None, (layer,) * 4)
    with pytest.raises(InputError, match="at most 16777216 entries over all layers"):
        Diff(layout, None, (layer,) * 5)

"""Facts about rolling a chain of diffs up into one file."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diffcodec import (
    Codebook,
    CodecError,
    Diff,
    Dtype,
    FormatError,
    HashDiff,
    InputError,
    Layer,
    Layout,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
    Uniform,
    apply,
    apply_file,
    decode,
    encode,
    lossless_diff,
    read_header,
    roll_up,
)
from tests.unit.diffcodec.strategies import SEEDS, bases_and_diffs, diffs_from, weights_of


def entries(size: int, count: int, seed: int) -> SparseDiff:
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(size, count, replace=False)).astype(np.int64)
    levels = rng.choice(np.array([-2, -1, 1, 2], np.int8), count)
    return SparseDiff(positions, levels, Codebook((0.25, 0.75)))


def chain_of(base: ParameterSet, layers: list[dict]) -> tuple[list[bytes], ParameterSet]:
    """Files that apply one after the other, and where they lead."""
    files = []
    for seed, tensors in enumerate(layers):
        diff = Diff.of(base.layout, base.digest(), tensors, seed)
        files.append(encode(diff, base))
        base = apply(base, diff)
    return files, base


@settings(max_examples=60)
@given(st.data())
def test_a_roll_up_reaches_the_digest_of_its_chain_and_is_smaller(data: st.DataObject):
    base, diff = data.draw(bases_and_diffs())
    files, reached = [], base
    for _ in range(data.draw(st.integers(1, 4))):
        try:
            files.append(encode(diff, reached))
        except InputError:
            assume(files)  # the sum of layers left what a dtype holds
            break
        reached = apply(reached, decode(files[-1], reached.layout if reached else None))
        diff = data.draw(diffs_from(reached))
    rolled = roll_up(base, files)
    if rolled is not None:
        assert len(rolled) < sum(map(len, files))
        start = None if read_header(rolled).is_snapshot else base
        assert apply(start, decode(rolled, base.layout if base else None)) == reached


def test_a_chain_of_sparse_diffs_becomes_layers_of_one_file(tmp_path):
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (60, 50))]), 1)
    files, end = chain_of(base, [{"w": entries(3000, 200, n)} for n in range(5)])
    rolled = roll_up(base, files)
    assert rolled is not None
    assert len(read_header(rolled).layers) == 5
    assert len(rolled) < sum(map(len, files)) - 4 * 100  # four headers less
    base.write(tmp_path / "base")
    (tmp_path / "d").write_bytes(rolled)
    applied = apply_file(tmp_path / "base", base.layout, tmp_path / "d", tmp_path / "new")
    assert applied.target_digest == end.digest()


def test_changes_of_different_tensors_share_a_layer():
    specs = [TensorSpec(name, Dtype.FLOAT32, (30, 30)) for name in "abc"]
    base = weights_of(Layout.of(specs), 1)
    files, end = chain_of(base, [{name: entries(900, 40, 1)} for name in "abc"])
    rolled = roll_up(base, files)
    assert rolled is not None
    assert len(read_header(rolled).layers) == 1
    assert apply(base, decode(rolled, base.layout)) == end


def test_hashes_keep_the_seed_of_their_generation():
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (600,))]), 1)
    hashed = HashDiff(np.array([1, -2, 3, 0, 5], np.int8), 0.125, 3)
    files, end = chain_of(base, [{"w": hashed}, {"w": hashed}])
    rolled = roll_up(base, files)
    assert rolled is not None
    assert [layer.hash_seed for layer in read_header(rolled).layers] == [0, 1]
    assert apply(base, decode(rolled, base.layout)) == end


def test_tensors_that_grow_on_the_way_are_rolled_up():
    small = Layout.of([TensorSpec("w", Dtype.FLOAT32, (20, 10))])
    large = Layout.of([TensorSpec("w", Dtype.FLOAT32, (22, 12))])
    base = weights_of(small, 1)
    low_rank = LowRankDiff(np.ones((20, 1), np.int8), np.ones((10, 1), np.int8), 0.5)
    first = Diff.of(small, base.digest(), {"w": entries(200, 50, 1)})
    second = Diff.of(small, apply(base, first).digest(), {"w": low_rank})
    middle = apply(apply(base, first), second)
    growth = Diff(large, middle.digest(), (Layer({"w": entries(264, 50, 2)}),), base_layout=small)
    files = [encode(first, base), encode(second, apply(base, first)), encode(growth, middle)]
    rolled = roll_up(base, files)
    assert rolled is not None
    assert len(read_header(rolled).layers) == 3
    assert apply(base, decode(rolled, small)) == apply(middle, growth)


def test_a_snapshot_in_the_chain_makes_the_roll_up_a_snapshot():
    layout = Layout.of([TensorSpec("w", Dtype.FLOAT32, (50, 50))])
    base, fresh = weights_of(layout, 1), weights_of(layout, 2)
    files, _ = chain_of(base, [{"w": entries(2500, 100, 3)}])
    later, end = chain_of(fresh, [{"w": entries(2500, 100, 4)}])
    rolled = roll_up(base, [*files, encode(lossless_diff(None, fresh), None), *later])
    assert rolled is not None
    assert read_header(rolled).is_snapshot
    assert apply(None, decode(rolled)) == end


def test_the_last_graph_of_the_chain_is_kept():
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (9,))]), 1)
    files = [encode(Diff(base.layout, base.digest(), graph=g), base) for g in (b"one", b"two")]
    rolled = roll_up(base, [*files, encode(Diff(base.layout, base.digest()), base)])
    assert rolled is not None
    assert decode(rolled, base.layout).diff.graph == b"two"


def test_the_file_of_a_chain_that_is_damaged_is_named():
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (400,))]), 0)
    files, _ = chain_of(base, [{"w": entries(400, 20, seed)} for seed in range(3)])
    with pytest.raises(FormatError, match="diff 2 of the chain: expected"):
        roll_up(base, [files[0], files[1][:-1], files[2]])


def test_a_single_diff_is_no_chain_to_make_smaller():
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (60, 50))]), 1)
    files, _ = chain_of(base, [{"w": entries(3000, 100, 1)}])
    assert roll_up(base, files) is None


def test_files_that_do_not_follow_each_other_are_refused():
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (60, 50))]), 1)
    files, _ = chain_of(base, [{"w": entries(3000, 9, n)} for n in range(3)])
    with pytest.raises(InputError, match="expected diff 2 of the chain to start from"):
        roll_up(base, [files[0], files[2]])
    with pytest.raises(CodecError, match="expected a base"):
        roll_up(base, files[1:])
    with pytest.raises(InputError, match="at least one diff"):
        roll_up(base, [])


@given(SEEDS)
def test_many_overlapping_diffs_become_a_lossless_one_where_that_is_smaller(seed: int):
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT16, (300,))]), seed % 99)
    files, end = chain_of(base, [{"w": entries(300, 250, seed % 97 + n)} for n in range(20)])
    rolled = roll_up(base, files)
    assert rolled is not None
    assert read_header(rolled).methods.keys() == {"lossless"}
    assert apply(base, decode(rolled, base.layout)) == end


def leading(*weights: ParameterSet) -> list[bytes]:
    """Exact files from each set of weights to the next."""
    pairs = pairwise(weights)
    return [encode(lossless_diff(before, after), before) for before, after in pairs]


def test_a_tensor_that_comes_back_smaller_cannot_be_rolled_up():
    rest = {"rest": np.ones(9, np.float32)}
    large = ParameterSet.from_arrays({**rest, "w": np.ones(10, np.float32)})
    small = ParameterSet.from_arrays({**rest, "w": np.ones(5, np.float32)})
    assert roll_up(large, leading(large, ParameterSet.from_arrays(rest), small)) is None


def test_a_tensor_that_comes_back_starts_afresh():
    rest = ParameterSet.from_arrays({"rest": np.ones(9, np.float32)})
    base = ParameterSet.from_arrays({**rest.arrays, "w": np.full(9, 100, np.int8)})
    fifty = SparseDiff(np.arange(9), np.ones(9, np.int8), Uniform(50.0))
    back = Diff(base.layout, rest.digest(), (Layer({"w": fifty}),), rest.layout)
    end = apply(rest, back)
    data = roll_up(base, [*leading(base, rest), encode(back, rest)])
    assert data is not None
    assert apply(base, decode(data, base.layout)) == end


def test_factors_do_not_follow_a_tensor_whose_matrix_turns_as_it_grows():
    base = weights_of(Layout.of([TensorSpec("w", Dtype.FLOAT32, (3, 4, 5))]), 0)
    factors = LowRankDiff(np.ones((12, 1), np.int8), np.ones((5, 1), np.int8), 0.5)
    first = Diff.of(base.layout, base.digest(), {"w": factors})
    after = apply(base, first)
    grown = Diff(
        Layout.of([TensorSpec("w", Dtype.FLOAT32, (10, 4, 5))]), after.digest(), (), base.layout
    )
    files = [encode(first, base), encode(grown, after)]
    data = roll_up(base, files)
    if data is not None:
        assert apply(base, decode(data, base.layout)) == apply(after, grown)


def test_a_chain_of_more_records_than_a_file_holds_is_rolled_up_exactly(monkeypatch):
    monkeypatch.setattr("diffcodec.file.MAX_RECORDS", 12)
    base = ParameterSet.from_arrays({f"t{n}": np.zeros(1, np.int8) for n in range(3)})
    one = SparseDiff(np.zeros(1, np.int64), np.ones(1, np.int8), Uniform(1.0))
    files, end = chain_of(base, [dict.fromkeys(base.arrays, one)] * 5)
    data = roll_up(base, files)
    assert data is not None
    assert apply(base, decode(data, base.layout)) == end

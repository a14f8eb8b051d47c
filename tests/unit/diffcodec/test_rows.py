"""Row-class coding: what goes in comes out, in bounded runs, and no bytes do harm."""

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffcodec.coders.rows import Decoder, encode, tables
from diffcodec.coders.rows.grid import STRIP_ENTRIES, chain_signs, have_left_neighbours
from diffcodec.coders.streams import EntriesPart
from diffcodec.errors import FormatError
from tests.unit.diffcodec.test_rans import reading

Entries = tuple[NDArray[np.int64], NDArray[np.int8]]


def decode(data: bytes, tensors: Sequence[EntriesPart]) -> list[Entries]:
    """All tensors' entries; checks what holds of every run."""
    decoder = Decoder(reading(data), len(data))
    found = []
    for tensor in tensors:
        decoder.begin(tensor.shape, tensor.positions.size, tensor.largest)
        runs = list(decoder.runs())
        for positions, levels in runs:
            assert 1 <= positions.size == levels.size <= STRIP_ENTRIES
        positions = np.concatenate([run[0] for run in runs])
        levels = np.concatenate([run[1] for run in runs])
        assert positions.size == tensor.positions.size
        assert positions[0] >= 0
        assert positions[-1] < np.prod(tensor.shape, dtype=object)
        assert (np.diff(positions) > 0).all()
        assert levels.all()
        assert (np.abs(levels) <= tensor.largest).all()
        found.append((positions, levels))
    decoder.finish()
    return found


def assert_comes_back(tensors: Sequence[EntriesPart]) -> bytes:
    data = encode(tensors)
    for tensor, (positions, levels) in zip(tensors, decode(data, tensors), strict=True):
        np.testing.assert_array_equal(positions, tensor.positions)
        np.testing.assert_array_equal(levels, tensor.levels)
    return data


def tensor_of(
    shape: tuple[int, ...], mask: NDArray[np.bool_], largest: int, seed: int
) -> EntriesPart:
    """Random levels at the places of a mask that broadcasts to the shape."""
    positions = np.flatnonzero(np.broadcast_to(mask, shape))
    random = np.random.default_rng(seed)
    magnitudes = np.minimum(random.geometric(0.3, positions.size), largest)
    levels = (magnitudes * random.choice([-1, 1], positions.size)).astype(np.int8)
    return EntriesPart(shape, positions, levels, largest)


def clustered(rows: int, columns: int, density: float, largest: int, seed: int) -> EntriesPart:
    """Rows and columns of log-normal density."""
    random = np.random.default_rng(seed)
    by_row = np.exp(random.normal(0, 1.2, (rows, 1)))
    by_column = np.exp(random.normal(0, 0.6, (1, columns)))
    mask = random.random((rows, columns)) < density * by_row * by_column
    mask[0, 0] = True
    return tensor_of((rows, columns), mask, largest, seed)


SHAPES = st.one_of(
    st.just(()),
    st.tuples(st.integers(1, 2_000)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(1, 40)),
    st.tuples(st.integers(1, 20), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
)


@st.composite
def row_tensors(draw: st.DrawFn) -> EntriesPart:
    shape = draw(SHAPES)
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = random.random(shape) < draw(st.sampled_from([0.0, 0.001, 0.05, 0.5, 1.0]))
    mask = np.array(mask).reshape(-1)
    mask[random.integers(mask.size)] = True
    if draw(st.booleans()):
        mask = np.repeat(mask[::4], 4)[: mask.size]
    if not mask.any():
        mask[-1] = True
    largest = draw(st.sampled_from([1, 2, 4, 15, 127]))
    return tensor_of(shape, mask.reshape(shape), largest, draw(st.integers(0, 99)))


@settings(deadline=None, max_examples=50)
@given(st.lists(row_tensors(), max_size=6))
def test_any_tensors_come_back(tensors: list[EntriesPart]) -> None:
    assert_comes_back(tensors)


def test_a_tensor_of_several_strips_comes_back() -> None:
    dense = tensor_of((600, 500), np.ones((600, 500), dtype=bool), 15, 0)
    assert_comes_back([dense, clustered(3_000, 500, 0.1, 15, 1)])


def test_a_few_entries_in_the_largest_tensor_come_back() -> None:
    size = 2**32 - 1
    positions = np.array([0, 1, 70_000, 2**31, size - 1])
    levels = np.array([1, -1, 127, -127, 3], dtype=np.int8)
    assert_comes_back([EntriesPart((size,), positions, levels, 127)])


def test_two_far_entries_of_a_wide_matrix_come_back() -> None:
    positions = np.array([0, 60_000 * 16_384 - 1])
    levels = np.array([1, 1], dtype=np.int8)
    assert_comes_back([EntriesPart((60_000, 16_384), positions, levels, 1)])


def test_clustered_rows_cost_less_than_the_entropy_of_the_density() -> None:
    tensor = clustered(1_024, 256, 0.03, 1, 3)
    count, size = tensor.positions.size, 1_024 * 256
    share = count / size
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * size
    assert 8 * len(encode([tensor])) < 0.9 * entropy + count


def test_uniform_entries_cost_little_more_than_the_entropy_of_the_density() -> None:
    mask = np.random.default_rng(4).random((1_024, 256)) < 0.05
    tensor = tensor_of((1_024, 256), mask, 1, 4)
    count, size = tensor.positions.size, mask.size
    share = count / size
    entropy = -(share * np.log2(share) + (1 - share) * np.log2(1 - share)) * size
    assert 8 * len(encode([tensor])) < 1.02 * (entropy + count)


def test_signs_that_follow_their_column_cost_less_than_a_bit() -> None:
    tensor = clustered(512, 128, 0.1, 1, 5)
    by_column = np.random.default_rng(5).choice([-1, 1], 128).astype(np.int8)
    aligned = by_column[tensor.positions % 128]
    following = EntriesPart(tensor.shape, tensor.positions, aligned, 1)
    data = assert_comes_back([following])
    assert len(data) < len(encode([tensor])) - 0.08 * tensor.positions.size


def test_signs_that_follow_their_neighbour_cost_less_than_a_bit() -> None:
    mask = np.repeat(np.random.default_rng(6).random((512, 32)) < 0.05, 4, axis=1)
    tensor = tensor_of((512, 128), mask, 1, 6)
    runs = (np.cumsum(np.diff(tensor.positions, prepend=-2) > 1) * 2_654_435_761 >> 7) % 2
    alike = EntriesPart(tensor.shape, tensor.positions, (2 * runs - 1).astype(np.int8), 1)
    data = assert_comes_back([alike])
    assert len(data) < len(encode([tensor])) - 0.06 * tensor.positions.size


def test_chained_signs_are_undone() -> None:
    is_negative = np.array([1, 1, 0, 0, 1, 0, 0, 1], dtype=bool)
    positions = np.array([0, 1, 2, 7, 8, 12, 13, 20])
    is_chained = have_left_neighbours(positions, positions % 8)
    assert is_chained.tolist() == [False, True, True, False, False, False, True, False]
    symbols = np.where(is_chained, np.diff(is_negative, prepend=False), is_negative)
    np.testing.assert_array_equal(chain_signs(symbols.astype(np.uint8), is_chained), is_negative)


@pytest.mark.parametrize(
    ("shape", "view"),
    [
        ((), (1, 1)),
        ((100,), (1, 100)),
        ((1_000,), (4, 256)),
        ((512, 128), (512, 128)),
        ((64, 32, 3, 3), (64, 288)),
        ((1, 480, 120), (480, 120)),
        ((2, 480, 120), (960, 120)),
        ((512, 1, 3), (6, 256)),
        ((2, 100_000), (782, 256)),
    ],
)
def test_matrix_views(shape: tuple[int, ...], view: tuple[int, int]) -> None:
    assert tables.matrix_view(shape) == view


@given(st.integers(0, 2**40))
def test_bit_lengths_are_those_of_the_integers(value: int) -> None:
    assert tables.bit_length(np.array([value]))[0] == value.bit_length()


def test_memory_for_many_entries_stays_bounded() -> None:
    tensor = clustered(2_048, 1_024, 0.2, 15, 7)
    data = encode([tensor])
    read = reading(data)
    tracemalloc.start()
    decoder = Decoder(read, len(data))
    decoder.begin(tensor.shape, tensor.positions.size, tensor.largest)
    for _ in decoder.runs():
        pass
    decoder.finish()
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 24_000_000


def sample() -> tuple[bytes, list[EntriesPart]]:
    tensors = [clustered(40, 20, 0.05, 15, 8), tensor_of((50,), np.arange(50) % 9 == 0, 2, 9)]
    return encode(tensors), tensors


def test_every_truncation_is_refused() -> None:
    data, tensors = sample()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            decode(data[:length], tensors)


def test_flipped_bits_are_refused_or_give_valid_entries() -> None:
    data, tensors = sample()
    accepted = 0
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            decode(bytes(flipped), tensors)
        except FormatError:
            continue
        accepted += 1
    assert accepted < 0.2 * 8 * len(data)


def test_bytes_after_the_end_are_refused() -> None:
    data, tensors = sample()
    with pytest.raises(FormatError):
        decode(data + b"\x00\x00", tensors)


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=300), st.lists(row_tensors(), min_size=1, max_size=3))
def test_any_bytes_give_entries_or_a_format_error(data: bytes, tensors: list[EntriesPart]) -> None:
    try:
        decode(b"\x00" + (2**16).to_bytes(4, "little") + data, tensors)
    except FormatError:
        return


@settings(deadline=None, max_examples=40)
@given(st.lists(row_tensors(), min_size=1, max_size=3), st.data())
def test_damaged_streams_give_entries_or_a_format_error(
    tensors: list[EntriesPart], data: st.DataObject
) -> None:
    damaged = bytearray(encode(tensors))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(damaged), tensors)
    except FormatError:
        return


@settings(deadline=None, max_examples=40)
@given(row_tensors(), row_tensors())
def test_a_lying_header_gives_entries_or_a_format_error(
    told: EntriesPart, true: EntriesPart
) -> None:
    count = min(told.positions.size, int(np.prod(true.shape)))
    lie = EntriesPart(true.shape, np.arange(count), np.ones(count, dtype=np.int8), told.largest)
    try:
        decode(encode([told]), [lie])
    except FormatError:
        return

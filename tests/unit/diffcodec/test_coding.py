"""Facts about the pieces of coder `fast`: position hash, gaps, levels, planes."""

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from diffcodec import FormatError, position_buckets
from diffcodec.coders.gaps import GapDecoder, encode_gaps
from diffcodec.coders.levels import (
    array_bits,
    array_levels,
    array_symbols,
    pack,
    packed_bytes,
    sparse_bits,
    sparse_levels,
    sparse_symbols,
    unpack,
)
from diffcodec.coders.planes import from_planes, to_planes

POSITIONS = st.lists(st.integers(0, 5000), min_size=1, max_size=80, unique=True).map(sorted)


def scalar_bucket(name: str, seed: int, k: int, position: int, m: int) -> int:
    """The position hash in plain integers, as docs/diff-format-v1.md writes it."""
    s = xxhash.xxh3_64_intdigest(f"{name}\0{seed}\0{k}".encode())
    a = (position * ((s >> 32) | 1) + (s & 0xFFFFFFFF)) % 2**32
    a ^= a >> 16
    a = a * 0x85EBCA6B % 2**32
    a ^= a >> 13
    a = a * 0xC2B2AE35 % 2**32
    a ^= a >> 16
    return a * m >> 32


@given(st.text(max_size=5), st.integers(0, 2**64 - 1), st.integers(0, 3), st.integers(1, 2**24))
def test_position_hash_is_the_formula_of_the_format(name: str, seed: int, k: int, m: int):
    start = 2**32 - 5
    buckets = position_buckets(name, seed, k, 5, m, start)
    assert buckets.dtype == np.uint32
    assert buckets.tolist() == [scalar_bucket(name, seed, k, start + i, m) for i in range(5)]


def test_position_hash_fills_buckets_evenly():
    m = 500
    for seed in range(5):
        counts = np.bincount(position_buckets("lstm.W", seed, 1, 200_000, m), minlength=m)
        chi2 = float(np.square(counts - 400).sum() / 400)
        assert 0.8 < chi2 / m < 1.2


def test_seed_tensor_and_function_each_change_the_hash():
    first = position_buckets("w", 1, 0, 1000, 1000)
    for other in (("v", 1, 0), ("w", 2, 0), ("w", 1, 1)):
        assert (first == position_buckets(*other, 1000, 1000)).mean() < 0.02


def decoder_of(coded: np.ndarray, cut: int = 10**6) -> GapDecoder:
    """A decoder that is given so many bytes at a time."""
    blocks = iter([coded[at : at + cut] for at in range(0, coded.size, cut)])
    return GapDecoder(lambda: next(blocks, np.empty(0, np.uint8)))


@given(st.lists(POSITIONS, min_size=1, max_size=4), st.integers(1, 7))
def test_gaps_of_several_tensors_read_back_wherever_they_are_cut(tensors, cut: int):
    coded = np.concatenate([encode_gaps(np.array(positions)) for positions in tensors])
    decoder = decoder_of(coded, cut)
    for positions in tensors:
        assert np.concatenate(list(decoder.runs(len(positions), 5001, "w"))).tolist() == positions
    assert not decoder.is_ahead


def test_gap_bytes_are_as_documented():
    assert encode_gaps(np.array([0, 1, 3, 259, 869])).tolist() == [0, 0, 1, 255, 0, 255, 255, 99]


def test_gaps_that_leave_the_tensor_are_refused():
    decoder = decoder_of(encode_gaps(np.array([5, 300])))
    with pytest.raises(FormatError, match="expected positions below 300, found gaps up to 301"):
        list(decoder.runs(2, 300, "w"))


def test_gaps_that_end_early_are_refused():
    for coded in ([4, 255], [4]):
        with pytest.raises(FormatError, match="expected 2 entries, found 1"):
            list(decoder_of(np.array(coded, np.uint8)).runs(2, 10_000, "w"))


@given(st.lists(st.integers(1, 127), min_size=1), st.integers(0, 2**32))
def test_sparse_levels_survive_packing(magnitudes: list[int], seed: int):
    signs = np.random.default_rng(seed).choice([-1, 1], len(magnitudes))
    levels = (np.array(magnitudes) * signs).astype(np.int8)
    symbols = sparse_symbols(levels)
    bits = sparse_bits(max(magnitudes))
    packed = pack(symbols, bits)
    assert packed.size == packed_bytes(levels.size, bits)
    assert np.array_equal(sparse_levels(unpack(packed, bits)[: levels.size]), levels)


@given(st.lists(st.integers(-127, 127), min_size=1))
def test_hash_levels_survive_packing(values: list[int]):
    levels = np.array(values, np.int8)
    symbols = array_symbols(levels)
    bits = array_bits(max(1, int(np.abs(values).max())))
    assert np.array_equal(array_levels(unpack(pack(symbols, bits), bits)[: levels.size]), levels)


@pytest.mark.parametrize(("largest", "bits"), [(1, 1), (2, 2), (3, 4), (8, 4), (9, 8), (127, 8)])
def test_few_levels_take_few_bits(largest: int, bits: int):
    assert sparse_bits(largest) == bits


@pytest.mark.parametrize(("largest", "bits"), [(1, 2), (2, 4), (7, 4), (8, 8), (127, 8)])
def test_few_levels_of_arrays_take_few_bits(largest: int, bits: int):
    assert array_bits(largest) == bits


def test_packing_fills_bytes_from_the_lowest_bits():
    assert pack(np.array([1, 2, 3, 0, 1], np.uint8), 2).tolist() == [0b00111001, 0b01]


@given(st.sampled_from([1, 2, 4]), st.integers(1, 50))
def test_byte_planes_read_back(itemsize: int, elements: int):
    data = np.random.default_rng(elements).integers(0, 256, elements * itemsize, dtype=np.uint8)
    assert np.array_equal(from_planes(to_planes(data, itemsize), itemsize), data)


def test_byte_planes_restart_at_every_131072_elements():
    data = np.arange(2 * 131_073, dtype=np.uint32).astype(np.uint8)
    planes = to_planes(data, 2)
    assert np.array_equal(planes[:131_072], data[: 2 * 131_072 : 2])
    assert planes[-2:].tolist() == data[-2:].tolist()

"""Streams of the coder `max` that no encoder wrote: the C extension, without sanitizers here."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcodec.coders.max import is_available
from tests.fuzz.streams import check_stream, mutated_stream, stream_seeds

pytestmark = pytest.mark.skipif(not is_available(), reason="no C extension")

KINDS = ["sparse", "gates", "wide", "symbols", "floats", "halves"]


@pytest.mark.parametrize("name", KINDS)
def test_streams_of_an_encoder_keep_the_properties(name: str):
    check_stream(stream_seeds()[name])


def test_tensors_of_several_item_sizes_share_what_they_taught():
    seed = stream_seeds()["floats"]
    shapes = b"".join(bytes([9, 0, 5, largest, 0, 0, 0, 0]) for largest in (0, 1, 2))
    check_stream(bytes([2, 2, 4, 4]) + shapes + seed[12:])


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(KINDS), st.randoms(use_true_random=False), st.integers(1, 3))
def test_mutated_streams_keep_the_properties(name: str, random: Random, times: int):
    data = stream_seeds()[name]
    for _ in range(times):
        data = mutated_stream(data, random)
    check_stream(data)

"""Inputs that a server and a device make by themselves, alike."""

import numpy as np
import pytest

from speech.golden import MOST_KEPT, MOST_VALUES, golden_sample, golden_values


def test_they_are_the_same_bits_for_ever() -> None:
    """Devices compare with what servers of another version computed."""
    assert [float(value).hex() for value in golden_values((3,), seed=3, bound=0)] == [
        "0x1.ccfd340000000p-2",
        "-0x1.491d300000000p-3",
        "0x1.e8c7c00000000p-4",
    ]
    expected = [[173, 127, 226], [117, 138, 227]]
    assert golden_values((2, 3), seed=3, bound=256).tolist() == expected


def test_they_fill_the_range_that_was_asked_for() -> None:
    floats = golden_values((4096,), seed=1, bound=0)
    assert floats.dtype == np.float32
    assert -0.5 <= floats.min() < -0.49 < 0.49 < floats.max() < 0.5
    whole = golden_values((4096,), seed=1, bound=7)
    assert whole.dtype == np.int64
    assert set(whole.tolist()) == set(range(7))


def test_what_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {MOST_VALUES} values, found {2 * MOST_VALUES}"):
        golden_values((2, MOST_VALUES), seed=0, bound=0)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 16, 17, 1000])
def test_a_sample_is_of_a_few_values_the_first_one_included(count: int) -> None:
    sample = golden_sample(np.arange(count, dtype=np.float32).reshape(1, count))
    assert sample[0] == 0
    assert min(count, MOST_KEPT) // 2 < sample.size <= MOST_KEPT

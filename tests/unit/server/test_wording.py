"""Sizes and times as people read them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.wording import about, duration, number_of, percent, printable, size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (40_300, "40.3 KB"),
        (99_960, "100 KB"),
        (999_499, "999 KB"),
        (999_500, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_sizes_have_a_unit_and_three_digits(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text", "short"),
    [
        (0, "0 s", "0 s"),
        (59.6, "1 min", "1 min"),
        (3600, "1 h", "1 h"),
        (3601, "1 h", "1 h"),
        (90_061, "1 d 1 h", "1 d"),
        (-7200, "2 h", "2 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str, short: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text
    assert about(timedelta(seconds=seconds)) == short


def test_only_nothing_is_0_percent_and_only_all_is_100() -> None:
    shares = (0, 0.001, 0.5, 0.999, 1, 1.25, float("inf"))
    assert [percent(share) for share in shares] == [
        "0 %",
        "under 1 %",
        "50 %",
        "over 99 %",
        "100 %",
        "125 %",
        "far over 100 %",
    ]


def test_counts_agree_with_their_nouns() -> None:
    assert number_of(1, "device") == "1 device"
    assert number_of(1204, "device") == "1,204 devices"
    assert number_of(2, "key wants", "keys want") == "2 keys want"


@given(st.text())
def test_what_is_printable_stays_and_what_is_not_is_one_mark_each(text: str) -> None:
    made = printable(text)
    assert made.isprintable()
    assert len(made) == len(text)
    assert all(after in (before, "�") for before, after in zip(text, made, strict=True))
    assert not text.isprintable() or made == text

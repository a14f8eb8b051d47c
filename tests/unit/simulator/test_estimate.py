import pytest

from simulator.estimate import Estimate, in_words
from simulator.jobs import Job


def a_job(name: str, cost: float) -> Job:
    return Job(name, name, lambda *_: {}, None, cost=cost)


def test_time_left_follows_from_costs_and_from_how_it_went():
    now_s = 0.0
    there, short, long = a_job("there", 50), a_job("short", 10), a_job("long", 30)
    estimate = Estimate([there, short, long], clock=lambda: now_s)
    assert estimate.seconds_left() is None
    estimate.reused(there)
    estimate.started()
    assert estimate.seconds_left() is None
    now_s = 20.0
    estimate.progressed(short, 1.0)
    assert estimate.seconds_left() == pytest.approx(60)
    estimate.progressed(long, 0.5)
    assert estimate.seconds_left() == pytest.approx(12)


@pytest.mark.parametrize(
    ("seconds", "words"), [(41.2, "41 s"), (240, "4 min"), (12_000, "3 h 20 min")]
)
def test_in_words(seconds, words):
    assert in_words(seconds) == words

"""Fair runs: every contender warms up once, then they take turns, A B C A B C.

>>> with_turns([Contender("ours", ours), Contender("theirs", theirs)], runs=5)
(Row('ours', ...), Row('theirs', ...))
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from diffcodec.bench.results import Row, Sample

T = TypeVar("T")

OnProgress = Callable[[str], None]


@dataclass(frozen=True)
class Contender:
    """A name, and one run of its work."""

    name: str
    measure: Callable[[], Sample]


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What the work returns, and its seconds by the wall clock."""
    start = time.perf_counter()
    value = work()
    return value, time.perf_counter() - start


def with_turns(
    contenders: Sequence[Contender], runs: int, on_progress: OnProgress = lambda text: None
) -> tuple[Row, ...]:
    """Measure contenders in turns.

    Args:
        contenders: Ours first.
        runs: Rounds that count, at least one; another one before them does not.
        on_progress: Told which round and contender comes next.

    Returns:
        A row for each, in their order.
    """
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(runs + 1):
        for contender in contenders:
            turn = f"run {number} of {runs}" if number else "warm-up"
            on_progress(f"{turn}, {contender.name}")
            samples[contender.name].append(contender.measure())
    return tuple(Row(name, tuple(taken[1:])) for name, taken in samples.items())

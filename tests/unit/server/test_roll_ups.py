"""Which chains are worth rolling up, as values."""

from dataclasses import replace

from diffcodec import Coder
from server.domain import Step
from server.roll_ups import Pair, wanted_roll_ups
from server.rollouts.rollout import LARGEST_POINT, Rollout
from server.rollouts.states import State
from tests.unit.server.rollouts.values import at, rollout
from tests.unit.server.values import step

CHAIN = [step(None, 0, 1000), *(step(n, n + 1, 10) for n in range(5))]


def wanted(*extra: Step, rollouts: tuple[Rollout, ...] = (), **changes: object) -> list[Pair]:
    values: dict[str, object] = {
        "devices": {None: 5, 0: 2, 3: 4, 4: 9, 5: 100, 1: 1},
        "tried": (),
        **changes,
    }
    return list(wanted_roll_ups(range(6), [*CHAIN, *extra], rollouts, **values))  # type: ignore[arg-type]


def test_long_ways_of_enough_devices_are_wanted_those_of_most_first() -> None:
    assert wanted() == [(3, 5), (0, 5)]
    assert wanted(least_devices=1) == [(3, 5), (0, 5), (1, 5)]
    assert wanted(least_devices=5) == []


def test_what_is_there_or_was_tried_is_not_wanted() -> None:
    assert wanted(step(3, 5, 15)) == [(0, 5)]
    assert wanted(tried=[(3, 5)]) == [(0, 5)]


def test_a_diff_that_not_every_device_decodes_is_not_enough() -> None:
    assert wanted(step(3, 5, 15, coders=frozenset(Coder))) == [(3, 5), (0, 5)]


def test_only_what_rollouts_offer_now_is_worth_a_diff() -> None:
    finished = rollout(target=4, base=None, state=State.FINISHED)
    given = at(finished, cutoff=LARGEST_POINT)
    assert wanted(rollouts=(given,)) == [(0, 4)]
    draft = replace(rollout(target=5), rollout_id="b", state=State.DRAFT)
    assert wanted(rollouts=(given, draft)) == [(0, 4)]
    running = replace(draft, state=State.RUNNING)
    assert wanted(rollouts=(given, running)) == [(3, 5), (0, 4), (0, 5)]

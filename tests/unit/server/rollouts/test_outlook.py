"""What a rollout waits for is what its rules then do."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from server.rollouts.evaluation import evaluate
from server.rollouts.outlook import outlook_of
from server.rollouts.rollout import Counts, OnFailure, Rollout
from server.rollouts.states import Event, State
from tests.unit.server.rollouts.values import HOUR, at, policy, rollout
from tests.unit.server.values import TIME

SHARES = st.integers(0, 100).map(lambda percent: percent / 100)
COUNTS = st.builds(Counts, *[st.integers(0, 40)] * 4)


@st.composite
def running(draw: st.DrawFn) -> Rollout:
    rules = policy(
        success_threshold=draw(SHARES),
        failure_threshold=draw(SHARES),
        minimum_sample=draw(st.integers(1, 30)),
    )
    made = rollout("10%", "100%", policy=rules)
    return at(made, devices=draw(st.integers(0, 40)), already=draw(st.integers(0, 10)))


@given(running(), COUNTS)
def test_so_many_devices_are_missing_and_not_one_less(made: Rollout, counts: Counts) -> None:
    lenient = replace(made, policy=replace(made.policy, failure_threshold=1.0))
    missing = outlook_of(lenient, counts).devices_to_go
    assert missing is not None

    def verdict_with(more: int) -> object:
        return evaluate(lenient, replace(counts, on_target=counts.on_target + more), TIME)

    assert verdict_with(missing) is not None
    assert missing == 0 or verdict_with(missing - 1) is None


@given(running(), COUNTS)
def test_so_many_failures_pause_it_and_not_one_less(made: Rollout, counts: Counts) -> None:
    more = outlook_of(made, counts).failures_to_pause

    def fails_with(number: int) -> bool:
        verdict = evaluate(made, replace(counts, failed=counts.failed + number), TIME)
        return verdict is not None and verdict.event is Event.FAIL

    if more is None:
        assert made.policy.failure_threshold == 1
    else:
        assert fails_with(more)
        assert more == 0 or not fails_with(more - 1)


def test_a_running_phase_names_what_is_missing_and_what_comes_then() -> None:
    made = rollout("10%", "100%", policy=policy(soak=6 * HOUR))
    outlook = outlook_of(made, Counts(on_target=2))
    assert outlook.text == "3 more devices on generation 5, then it soaks for 6 h"
    last = replace(at(rollout("10%", "100%"), phase=1))
    assert outlook_of(last, Counts(on_target=4)).text == (
        "1 more device on generation 5, then it is finished"
    )
    first = outlook_of(rollout("10%", "100%"), Counts(on_target=5))
    assert first.text == "a server's next look, then phase 2 (100%) begins"


def test_a_clock_says_when() -> None:
    starts_at = TIME + HOUR
    scheduled = at(rollout(state=State.SCHEDULED), starts_at=starts_at)
    assert outlook_of(scheduled, Counts()).until == starts_at
    soaking = rollout(state=State.PAUSED_SOAK, policy=policy(soak=timedelta(hours=6)))
    assert outlook_of(soaking, Counts()).until == TIME + 6 * HOUR


def test_where_only_an_operator_helps_it_says_so() -> None:
    for state, needs_operator in (
        (State.DRAFT, True),
        (State.PAUSED_MANUAL, True),
        (State.PAUSED_THRESHOLD, True),
        (State.RUNNING, False),
        (State.FINISHED, False),
    ):
        assert outlook_of(rollout(state=state), Counts()).needs_operator is needs_operator
    undone = rollout(state=State.PAUSED_THRESHOLD, policy=policy(on_failure=OnFailure.ROLLBACK))
    assert not outlook_of(undone, Counts()).needs_operator
    assert "0123 takes it back" in outlook_of(undone, Counts(), undone_by="0123").text


def test_what_has_ended_waits_for_nothing() -> None:
    for state in (State.FINISHED, State.ABORTED):
        assert outlook_of(rollout(state=state), Counts()).text == ""

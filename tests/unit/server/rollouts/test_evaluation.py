from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.rollouts.evaluation import evaluate, has_failed, has_succeeded
from server.rollouts.rollout import Counts
from server.rollouts.states import TRANSITIONS, Event, State
from tests.unit.server.rollouts.values import HOUR, SECOND, at, policy, rollout
from tests.unit.server.values import TIME

NOTHING = Counts()
SOAKING = rollout("10%", "100%", state=State.PAUSED_SOAK, policy=policy(soak=HOUR))


def event(made, counts: Counts = NOTHING, now=TIME) -> Event | None:
    verdict = evaluate(made, counts, now)
    return verdict.event if verdict else None


@pytest.mark.parametrize(
    ("failed", "succeeded", "is_failure"),
    [(0, 10, False), (3, 0, False), (1, 3, False), (2, 2, True), (2, 6, False), (3, 6, True)],
)
def test_more_failures_than_the_share_pause_it_from_the_minimum_sample_on(
    failed: int, succeeded: int, is_failure: bool
) -> None:
    assert has_failed(rollout(), Counts(succeeded, succeeded, failed)) is is_failure


def test_exactly_the_share_is_borne() -> None:
    made = rollout(policy=policy(failure_threshold=0.1))
    assert not has_failed(made, Counts(9, 9, 1))
    assert has_failed(made, Counts(8, 8, 1))


def test_a_phase_of_fewer_devices_than_the_sample_is_judged_by_all_of_them() -> None:
    small = at(rollout(), devices=2)
    assert not has_failed(small, Counts(failed=1))
    assert has_failed(small, Counts(failed=2))
    assert event(small, Counts(on_target=1, succeeded=1)) is None
    assert event(small, Counts(on_target=2, succeeded=2)) is Event.FINISH


def test_a_failure_is_looked_at_before_a_success() -> None:
    assert event(rollout(), Counts(on_target=8, succeeded=4, failed=4)) is Event.FAIL


def test_a_phase_ends_when_enough_of_its_devices_run_the_target() -> None:
    two_phases = rollout("10%", "100%")
    assert event(two_phases, Counts(on_target=4, succeeded=4)) is None
    assert event(two_phases, Counts(on_target=5, succeeded=5)) is Event.ADVANCE
    assert event(at(two_phases, phase=1), Counts(on_target=5, succeeded=5)) is Event.FINISH
    assert event(at(two_phases, already=2), Counts(on_target=3, succeeded=3)) is Event.ADVANCE


def test_a_phase_that_no_device_has_proven_does_not_end() -> None:
    nobody = at(rollout(), devices=0)
    assert event(nobody) is None
    assert event(nobody, Counts(on_target=1, succeeded=1)) is Event.FINISH
    assert event(replace(nobody, undoes="other", only_from=4)) is Event.FINISH


def test_a_soak_comes_between_success_and_the_next_phase_and_still_counts_failures() -> None:
    enough = Counts(on_target=5, succeeded=5)
    assert event(replace(SOAKING, state=State.RUNNING), enough) is Event.SOAK
    assert event(SOAKING, enough, TIME + HOUR - SECOND) is None
    assert event(SOAKING, enough, TIME + HOUR) is Event.ADVANCE
    assert event(at(SOAKING, phase=1), enough, TIME + HOUR) is Event.FINISH
    assert event(SOAKING, Counts(5, 5, 5), TIME + HOUR) is Event.FAIL


def test_a_scheduled_rollout_starts_at_its_time() -> None:
    waiting = at(rollout(state=State.SCHEDULED), starts_at=TIME + HOUR)
    assert event(waiting, now=TIME) is None
    assert event(waiting, now=TIME + HOUR) is Event.START


@pytest.mark.parametrize(
    "state", [s for s in State if s not in (State.RUNNING, State.PAUSED_SOAK, State.SCHEDULED)]
)
def test_nothing_happens_by_itself_to_what_only_an_operator_can_move(state: State) -> None:
    assert event(rollout(state=state), Counts(10, 10, 10), TIME + 9 * HOUR) is None


@settings(deadline=None)
@given(
    state=st.sampled_from(State),
    phase=st.integers(0, 1),
    counts=st.builds(Counts, *[st.integers(0, 20)] * 4),
    hours=st.integers(0, 3),
    soak=st.integers(0, 1),
)
def test_whatever_is_decided_is_in_the_table(state, phase, counts, hours, soak) -> None:
    made = at(
        rollout("10%", "100%", state=state, policy=policy(soak=soak * HOUR)),
        phase=phase,
        starts_at=TIME,
    )
    verdict = evaluate(made, counts, TIME + hours * HOUR)
    if verdict is None:
        return
    assert (state, verdict.event) in TRANSITIONS
    assert verdict.reason
    is_past_a_phase = verdict.event in (Event.ADVANCE, Event.FINISH, Event.SOAK)
    assert not (is_past_a_phase and has_failed(made, counts))
    assert state is not State.RUNNING or not is_past_a_phase or has_succeeded(made, counts)

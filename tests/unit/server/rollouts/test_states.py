from itertools import product

import pytest

from server.errors import ConflictError, RolloutError
from server.rollouts.changes import begun, moved, scheduled
from server.rollouts.notation import parse_windows
from server.rollouts.population import Reach
from server.rollouts.rollout import OnFailure, Phase
from server.rollouts.states import TRANSITIONS, Event, State, reached
from tests.unit.server.rollouts.values import HOUR, policy, rollout
from tests.unit.server.values import TIME

LATER = TIME + HOUR


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)), ids=str)
def test_an_event_happens_where_the_table_says_and_nowhere_else(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert reached(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(ConflictError, match=f"cannot {event} a rollout that is {state}"):
            reached(state, event)


def test_nothing_leads_out_of_a_final_state_and_every_other_can_be_aborted() -> None:
    for state in State:
        events = {event for found, event in TRANSITIONS if found is state}
        assert (not events) == state.is_final
        assert state.is_final or Event.ABORT in events


def test_every_state_is_reached() -> None:
    assert set(TRANSITIONS.values()) | {State.DRAFT} == set(State)


def test_only_running_and_finished_rollouts_offer_and_only_stopped_ones_withdraw() -> None:
    assert {state for state in State if state.is_offering} == {State.RUNNING, State.FINISHED}
    assert {state for state in State if state.withdraws} == {
        State.PAUSED_MANUAL,
        State.PAUSED_THRESHOLD,
        State.ABORTED,
    }


def test_a_phase_that_begins_is_judged_from_now_on() -> None:
    changed = begun(rollout("10%", "50%"), Event.ADVANCE, 1, Reach(7, 5, 1), "why", LATER)
    progress = changed.progress
    assert (changed.state, progress.phase, progress.reason) == (State.RUNNING, 1, "why")
    assert (progress.cutoff, progress.devices, progress.already) == (7, 5, 1)
    assert progress.judged_since == progress.entered_at == LATER


def test_resuming_forgets_failures_of_a_threshold_but_nothing_of_a_manual_pause() -> None:
    after_failures = moved(rollout(state=State.PAUSED_THRESHOLD), Event.RESUME, "", LATER)
    assert after_failures.progress.judged_since == LATER
    after_a_pause = moved(rollout(state=State.PAUSED_MANUAL), Event.RESUME, "", LATER)
    assert after_a_pause.progress.judged_since == TIME


def test_a_scheduled_rollout_knows_its_time() -> None:
    waiting = scheduled(rollout(state=State.DRAFT), LATER, TIME)
    assert (waiting.state, waiting.progress.starts_at) == (State.SCHEDULED, LATER)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"phases": ()}, "1 to 20 phases, found 0"),
        ({"phases": (Phase(percent=50), Phase(percent=10))}, "more than the last, found 50%, 10%"),
        ({"phases": (Phase(devices=5), Phase(devices=5))}, "more than the last, found 5, 5"),
        ({"base": 5}, "a base older than generation 5, found 5"),
        (
            {"base": None, "policy": policy(on_failure=OnFailure.ROLLBACK)},
            "an older generation than 5 to roll back to",
        ),
    ],
)
def test_a_rollout_that_contradicts_itself_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(RolloutError, match=message):
        rollout(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"success_threshold": 1.5},
        {"failure_threshold": -0.1},
        {"minimum_sample": 0},
        {"maximum_attempts": 0},
        {"maximum_in_flight": 0},
        {"soak": -HOUR},
        {"attempt_timeout": 0 * HOUR},
        {"attempt_timeout": 9000 * HOUR},
        {"maximum_attempts": 2**31},
        {"monthly_bytes": 2**63},
        {"windows": parse_windows(["01:00-02:00"]) * 25},
    ],
    ids=str,
)
def test_a_policy_that_could_never_work_is_refused(wrong: dict) -> None:
    with pytest.raises(RolloutError, match="expected"):
        policy(**wrong)


@pytest.mark.parametrize(
    "wrong", [{}, {"percent": 5, "devices": 5}, {"percent": 0}, {"devices": 0}]
)
def test_a_phase_reaches_a_share_or_a_number(wrong: dict) -> None:
    with pytest.raises(RolloutError, match="expected a phase"):
        Phase(**wrong)

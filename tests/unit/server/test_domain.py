import pytest

from server.domain import OPEN_STATES, TRANSITIONS, AttemptState, Outcome, next_state


@pytest.mark.parametrize(("state", "outcome"), TRANSITIONS)
def test_every_row_of_the_table_leads_where_it_says(state: AttemptState, outcome: Outcome) -> None:
    assert next_state(state, outcome) is TRANSITIONS[state, outcome]


@pytest.mark.parametrize("state", [s for s in AttemptState if s not in OPEN_STATES])
@pytest.mark.parametrize("outcome", Outcome)
def test_nothing_leads_out_of_a_final_state(state: AttemptState, outcome: Outcome) -> None:
    assert state.is_final
    assert next_state(state, outcome) is state


@pytest.mark.parametrize("state", OPEN_STATES)
def test_an_open_attempt_can_commit_and_fail(state: AttemptState) -> None:
    assert not state.is_final
    assert next_state(state, Outcome.COMMITTED) is AttemptState.COMMITTED
    assert next_state(state, Outcome.FAILED) is AttemptState.FAILED


def test_a_second_start_changes_nothing() -> None:
    assert next_state(AttemptState.STARTED, Outcome.STARTED) is AttemptState.STARTED

import pytest

from server.rollouts.assignment import assignment_of
from server.rollouts.rollout import Channel, Member
from server.rollouts.states import State
from tests.unit.server.rollouts.values import at, rollout

OLD = Member("device", installed=4)


def target(member: Member, rollouts, head: int = 5, revoked: tuple[int, ...] = ()) -> int | None:
    offered = [number for number in range(head + 1) if number not in revoked]
    found = assignment_of(member, rollouts, offered)
    return found.target if found else None


def test_without_rollouts_the_newest_generation_goes_to_every_device() -> None:
    assert target(OLD, []) == 5
    assert target(Member("empty"), []) == 5
    assert target(Member("new", installed=5), []) is None
    assert assignment_of(OLD, [], []) is None


@pytest.mark.parametrize("state", State)
def test_only_a_running_or_finished_rollout_gives_its_target(state: State) -> None:
    found = assignment_of(OLD, [rollout(state=state)], range(6))
    if state.is_offering:
        assert found is not None
        assert (found.target, found.rollout) == (5, rollout(state=state))
    else:
        assert found is None


def test_a_generation_that_no_rollout_names_goes_to_nobody() -> None:
    assert target(Member("device", installed=5), [rollout()], head=9) is None


def test_what_all_had_before_the_first_rollout_stays_for_all() -> None:
    assert target(Member("empty"), [rollout(state=State.PAUSED_THRESHOLD)]) == 4
    assert target(Member("empty"), [rollout(state=State.DRAFT, base=None)]) is None


def test_the_newest_of_several_generations_wins() -> None:
    rollouts = [
        rollout(state=State.FINISHED),
        rollout(target=7, base=5),
        rollout(target=6, base=5),
        rollout(target=8, base=5, state=State.ABORTED),
    ]
    assert target(OLD, rollouts, head=8) == 7


def test_nobody_is_taken_down() -> None:
    assert target(Member("device", installed=6), [rollout()], head=6) is None


def test_a_device_beyond_the_cutoff_or_of_another_channel_waits() -> None:
    assert target(OLD, [at(rollout("10%"), cutoff=0)]) is None
    assert target(Member("device", Channel.BETA, installed=4), [rollout()]) is None


def test_of_two_rollouts_of_one_generation_the_younger_speaks() -> None:
    again = rollout(rollout_id="second")
    found = assignment_of(OLD, [rollout(), again], range(6))
    assert found is not None
    assert found.rollout is again


def test_what_was_revoked_goes_to_nobody_and_the_next_best_is_taken() -> None:
    empty = Member("empty")
    assert target(empty, [], revoked=(5,)) == 4
    assert target(OLD, [], revoked=(5,)) is None
    assert target(OLD, [rollout()], revoked=(5,)) is None
    assert target(empty, [rollout()], revoked=(5,)) == 4
    assert target(empty, [rollout()], revoked=(4, 5)) is None
    younger = rollout(target=7, base=5)
    assert target(OLD, [rollout(), younger], head=7, revoked=(7,)) == 5

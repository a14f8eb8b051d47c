"""Rollouts over real registries and devices that say what a test wants."""

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from server.domain import AttemptState, EndCode, Outcome
from server.errors import ArtifactError, ConflictError, NotFoundError
from server.home import ServerHome
from server.rollouts import operations
from server.rollouts.conditions import Reason
from server.rollouts.evaluation import evaluate
from server.rollouts.rollout import Channel, Member, Rollout
from server.rollouts.states import State
from server.rollouts.ticking import tick
from tests.integration.served_home import add_generation
from tests.unit.server.rollouts.fleet import Fleet
from tests.unit.server.rollouts.values import HOUR

MINUTE = timedelta(minutes=1)


@pytest.fixture
def fleet(tmp_path: Path):
    with Fleet.at(tmp_path / "srv", 10) as made:
        yield made


def test_phase_by_phase_a_generation_reaches_everybody(fleet: Fleet) -> None:
    fleet.start("20%", "50%", "100%", soak=HOUR)
    reached = []
    while fleet.rollout.state is not State.FINISHED:
        reached.append(sum(fleet.update(name) for name in fleet.names))
        fleet.pass_time(MINUTE)
        assert fleet.rollout.state is State.PAUSED_SOAK
        assert not any(fleet.update(name) for name in fleet.names)
        fleet.pass_time(HOUR)
    assert reached == [2, 3, 5]
    assert set(fleet.installed.values()) == {1}


def test_a_failure_too_many_pauses_it_at_once_without_a_tick(fleet: Fleet) -> None:
    fleet.start(minimum_sample=4)
    for name in fleet.names[:2]:
        assert fleet.update(name)
    assert fleet.update(fleet.names[2], Outcome.FAILED, "UNHEALTHY")
    assert fleet.rollout.state is State.RUNNING
    assert fleet.update(fleet.names[3], Outcome.FAILED, "DIGEST_MISMATCH")
    assert fleet.rollout.state is State.PAUSED_THRESHOLD
    assert fleet.rollout.progress.reason == "2 of 4 devices failed, more than 25 %"
    assert not any(fleet.update(name) for name in fleet.names)
    failures = fleet.home.registry.rollouts.failures(fleet.rollout_id)
    assert failures == {"DIGEST_MISMATCH": 1, "UNHEALTHY": 1}


def test_a_device_that_fails_and_then_succeeds_is_a_success(fleet: Fleet) -> None:
    fleet.start()
    fleet.update("device-0", Outcome.FAILED, "DISK_FULL")
    assert fleet.home.registry.rollouts.counts(fleet.rollout).failed == 1
    fleet.update("device-0")
    counts = fleet.home.registry.rollouts.counts(fleet.rollout)
    assert (counts.on_target, counts.succeeded, counts.failed) == (1, 1, 0)


def test_a_device_that_could_not_reach_the_server_is_no_failure_of_the_generation(
    fleet: Fleet,
) -> None:
    fleet.start(maximum_attempts=2)
    for name in fleet.names:
        for _ in range(3):
            assert fleet.update(name, Outcome.FAILED, EndCode.SERVER_UNAVAILABLE)
    fleet.tick()
    assert fleet.rollout.state is State.RUNNING


def test_a_silent_device_is_ended_by_the_server_and_counts_as_a_failure(fleet: Fleet) -> None:
    fleet.start(minimum_sample=2, attempt_timeout=HOUR)
    for name in fleet.names[:2]:
        fleet.check_in(name)
        fleet.report(name, Outcome.STARTED)
    fleet.pass_time(HOUR)
    assert fleet.rollout.state is State.RUNNING
    fleet.pass_time(MINUTE)
    assert fleet.rollout.state is State.PAUSED_THRESHOLD
    attempt = fleet.home.registry.attempt(fleet.attempts["device-0"])
    assert (attempt.state, attempt.code) == (AttemptState.FAILED, EndCode.TIMED_OUT)
    assert fleet.report("device-0", Outcome.COMMITTED) is AttemptState.FAILED


def test_a_device_that_goes_on_reporting_is_not_silent(fleet: Fleet) -> None:
    fleet.start(attempt_timeout=HOUR)
    fleet.check_in("device-0")
    for _ in range(3):
        fleet.report("device-0", Outcome.STARTED)
        fleet.pass_time(59 * MINUTE)
    attempt = fleet.home.registry.attempt(fleet.attempts["device-0"])
    assert attempt.state is AttemptState.STARTED


def test_attempts_of_no_rollout_end_too(fleet: Fleet) -> None:
    assert fleet.check_in("device-0").plan is not None
    fleet.pass_time(timedelta(hours=25))
    attempt = fleet.home.registry.attempt(fleet.attempts["device-0"])
    assert (attempt.rollout_id, attempt.state) == (None, AttemptState.FAILED)


def test_a_device_that_restarts_again_and_again_is_given_up_and_counts_as_a_failure(
    fleet: Fleet,
) -> None:
    fleet.start(maximum_attempts=2, minimum_sample=1)
    for _ in range(2):
        assert fleet.check_in("device-0").plan is not None
        fleet.report("device-0", Outcome.STARTED)
    answer = fleet.check_in("device-0")
    assert answer.plan is None
    assert answer.deferral is not None
    assert answer.deferral.reason is Reason.ATTEMPTS
    fleet.tick()
    assert fleet.rollout.state is State.PAUSED_THRESHOLD


def test_no_more_are_under_way_than_may_be(fleet: Fleet) -> None:
    fleet.start(maximum_in_flight=2)
    answers = [fleet.check_in(name) for name in fleet.names]
    assert sum(answer.plan is not None for answer in answers) == 2
    assert {answer.deferral.reason for answer in answers[2:] if answer.deferral} == {
        Reason.IN_FLIGHT
    }
    fleet.report(fleet.names[0], Outcome.COMMITTED)
    assert fleet.check_in(fleet.names[5]).plan is not None


def test_pausing_and_aborting_withdraw_what_is_under_way(fleet: Fleet) -> None:
    registry = fleet.home.registry
    fleet.start()
    fleet.check_in("device-0")
    operations.pause(registry, fleet.rollout, fleet.now)
    attempt = registry.attempt(fleet.attempts["device-0"])
    assert (attempt.state, attempt.code) == (AttemptState.SUPERSEDED, EndCode.WITHDRAWN)
    assert fleet.report("device-0", Outcome.STARTED) is AttemptState.SUPERSEDED
    operations.resume(registry, fleet.rollout, fleet.now)
    fleet.check_in("device-0")
    operations.abort(registry, fleet.rollout, fleet.now)
    assert registry.attempt(fleet.attempts["device-0"]).code == EndCode.WITHDRAWN
    assert registry.rollouts.counts(fleet.rollout).failed == 0


def test_a_device_that_committed_after_it_was_stopped_is_counted_when_it_checks_in(
    fleet: Fleet,
) -> None:
    fleet.start()
    fleet.check_in("device-0")
    operations.pause(fleet.home.registry, fleet.rollout, fleet.now)
    fleet.report("device-0", Outcome.COMMITTED)
    assert fleet.home.registry.rollouts.counts(fleet.rollout).on_target == 0
    fleet.check_in("device-0")
    assert fleet.home.registry.rollouts.counts(fleet.rollout).on_target == 1


def test_after_a_resume_old_failures_do_not_pause_it_again(fleet: Fleet) -> None:
    fleet.start(minimum_sample=2)
    for name in fleet.names[:2]:
        fleet.update(name, Outcome.FAILED, "UNHEALTHY")
    assert fleet.rollout.state is State.PAUSED_THRESHOLD
    fleet.pass_time(MINUTE)
    operations.resume(fleet.home.registry, fleet.rollout, fleet.now)
    fleet.pass_time(MINUTE)
    assert fleet.rollout.state is State.RUNNING


def test_a_scheduled_rollout_starts_by_itself_and_not_before(fleet: Fleet) -> None:
    made = fleet.create()
    operations.start(fleet.home, made, fleet.now, fleet.now + HOUR)
    fleet.pass_time(59 * MINUTE)
    assert fleet.rollout.state is State.SCHEDULED
    assert not fleet.update("device-0")
    fleet.pass_time(MINUTE)
    assert fleet.rollout.state is State.RUNNING
    assert fleet.update("device-0")


def test_the_beta_channel_and_groups_get_what_is_for_them(fleet: Fleet) -> None:
    registry = fleet.home.registry
    kitchen = Member("device-0", Channel.BETA, {"room": "kitchen"})
    registry.rollouts.set_up(kitchen, None, fleet.now)
    registry.rollouts.set_up(Member("device-1", Channel.BETA), None, fleet.now)
    made = operations.create(
        registry, "digits", 1, channel=Channel.BETA, groups=[("room", "kitchen")]
    )
    operations.start(fleet.home, made, fleet.now)
    assert [name for name in fleet.names if fleet.update(name)] == ["device-0"]


def test_a_monthly_budget_defers_and_says_why_until_the_next_month(fleet: Fleet) -> None:
    registry = fleet.home.registry
    registry.rollouts.set_up(Member("device-0"), 1000, fleet.now)
    assert fleet.check_in("device-0").plan is not None
    for outcome in (Outcome.STARTED, Outcome.FAILED):
        fleet.report("device-0", outcome, "DISK_FULL", spent=990)
    answer = fleet.check_in("device-0")
    assert answer.plan is None
    assert answer.deferral is not None
    assert answer.deferral.reason is Reason.MONTHLY_BYTES
    assert "990 spent" in answer.deferral.detail
    assert answer.come_again_s > 3600
    fleet.now += timedelta(days=31)
    assert fleet.check_in("device-0").plan is not None


def test_a_final_report_over_the_budget_is_heard(fleet: Fleet) -> None:
    fleet.home.registry.rollouts.set_up(Member("device-0"), 1000, fleet.now)
    fleet.check_in("device-0")
    assert fleet.report("device-0", Outcome.COMMITTED, spent=10**9) is AttemptState.COMMITTED


def test_from_the_first_draft_on_only_rollouts_decide(fleet: Fleet) -> None:
    assert fleet.check_in("device-0").plan is not None
    fleet.create()
    assert fleet.check_in("device-0").plan is None
    fleet.installed["device-1"] = None
    assert fleet.check_in("device-1").plan.target.number == 0  # what all had before


def test_a_new_rollout_starts_from_what_the_last_one_brought(fleet: Fleet) -> None:
    fleet.start()
    for name in fleet.names:
        fleet.update(name)
    fleet.tick()
    assert fleet.rollout.state is State.FINISHED
    add_generation(fleet.home, 2)
    add_generation(fleet.home, 3)
    assert fleet.create(target=3).base == 1


def test_a_rollout_that_cannot_go_on_does_not_hold_up_the_others(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        fleet.start(minimum_sample=1)
    # The younger one sends the device; of one moment, names decide which that is.
    first, second = fleet.home.registry.rollouts.all("digits")
    monkeypatch.setattr(
        "server.rollouts.ticking.evaluate", lambda made, *_: failing(made, first, *_)
    )
    fleet.update("device-0", Outcome.FAILED, "UNHEALTHY")
    with caplog.at_level(logging.ERROR):
        fleet.tick()
    assert "no disk" in caplog.text
    assert fleet.home.registry.rollouts.find(second.rollout_id).state is State.PAUSED_THRESHOLD


def failing(made: Rollout, broken: Rollout, *rest: object):
    if made.rollout_id == broken.rollout_id:
        raise ArtifactError("no disk")
    return evaluate(made, *rest)


def test_a_generation_that_is_not_there_cannot_be_rolled_out(fleet: Fleet) -> None:
    with pytest.raises(NotFoundError, match="generation 9 of model 'digits'"):
        fleet.create(target=9)


@pytest.mark.parametrize("is_scheduled", [False, True])
def test_a_generation_with_a_missing_blob_cannot_start(fleet: Fleet, is_scheduled: bool) -> None:
    made = fleet.create()
    snapshot = fleet.home.registry.generation("digits", 1).snapshot
    name = snapshot.sha256.hex()
    (fleet.home.folder / "artifacts" / name[:2] / name[2:]).write_bytes(b"rotten")
    with pytest.raises(ArtifactError, match="generation 1 of 'digits' cannot be rolled out"):
        operations.start(fleet.home, made, fleet.now, fleet.now + HOUR if is_scheduled else None)
    assert fleet.rollout.state is State.DRAFT


def test_a_blob_that_rots_before_its_time_keeps_a_scheduled_rollout_waiting(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    operations.start(fleet.home, fleet.create(), fleet.now, fleet.now + MINUTE)
    for diff in (s.diff for s in fleet.home.registry.steps("digits") if s.base == 0):
        name = diff.sha256.hex()
        (fleet.home.folder / "artifacts" / name[:2] / name[2:]).unlink()
    with caplog.at_level(logging.ERROR):
        fleet.pass_time(HOUR)
    assert fleet.rollout.state is State.SCHEDULED
    assert "cannot be rolled out" in caplog.text


def test_who_saw_an_older_state_changes_nothing(fleet: Fleet) -> None:
    seen = fleet.start()
    operations.pause(fleet.home.registry, seen, fleet.now)
    with pytest.raises(ConflictError, match="somebody else has changed it"):
        operations.abort(fleet.home.registry, seen, fleet.now)
    assert fleet.rollout.state is State.PAUSED_MANUAL


def test_a_second_server_finds_done_what_the_first_one_did(fleet: Fleet) -> None:
    fleet.start("50%", "100%", success_threshold=0.8)
    for name in fleet.names:
        fleet.update(name)
    other = ServerHome.open(fleet.home.folder)
    fleet.tick()
    version = fleet.rollout.version
    tick(other, fleet.now)
    other.close()
    assert (fleet.rollout.progress.phase, fleet.rollout.version) == (1, version)

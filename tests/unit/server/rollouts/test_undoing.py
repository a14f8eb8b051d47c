"""The way back, with real weights and diffs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from diffcodec import apply, decode
from server.clock import utc_now
from server.devices import Installed
from server.domain import Device
from server.errors import ConflictError, NotFoundError, PublishError
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.rollouts import operations
from server.rollouts.changes import moved
from server.rollouts.rollout import OnFailure, Policy
from server.rollouts.states import Event, State
from server.rollouts.ticking import tick
from server.rollouts.undoing import roll_back, take_back
from server.signing import releasing
from tests.unit.server.check_ins import check_in, record
from tests.unit.server.models import CARD, exact, snapshot, sparse, weights
from tests.unit.server.values import TIME


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    """Generations 0, 1 and 2, each a small diff from the one before."""
    made = ServerHome.create(tmp_path / "srv")
    publish(made, "digits", snapshot(weights(0)), graph=b"graph", card=CARD)
    for number in (0, 1):
        publish(made, "digits", sparse(weights_of(made, "digits", number), 3, 5 + number))
    yield made
    made.close()


def enrolled(home: ServerHome, name: str, installed: int) -> None:
    home.registry.enroll(Device(name, "digits", "", TIME, TIME))
    record(home.registry, name, installed, None, TIME)


def plan_for(home: ServerHome, name: str, installed: int):
    runs = Installed(installed, home.registry.generation("digits", installed).digest)
    return check_in(home.registry, name, runs, now=lambda: TIME).plan


def failed(home: ServerHome, target: int = 2):
    """A rollout that its failure threshold has just paused."""
    made = operations.create(
        home.registry, "digits", target, policy=Policy(on_failure=OnFailure.ROLLBACK)
    )
    running = operations.start(home, made, TIME)
    return home.registry.rollouts.swap(running, moved(running, Event.FAIL, "too many", TIME), TIME)


def test_a_rollback_is_a_new_generation_with_the_old_weights(home: ServerHome) -> None:
    new, old = roll_back(home, "digits", 0), home.registry.generation("digits", 0)
    assert (new.number, new.parent) == (3, 2)
    assert (new.digest, new.graph, new.card) == (old.digest, old.graph, old.card)
    assert weights_of(home, "digits", 3) == weights(0)


def test_devices_go_back_by_small_diffs_from_the_newest_and_from_the_old_one(
    home: ServerHome,
) -> None:
    roll_back(home, "digits", 0)
    for number, name in ((2, "newest"), (0, "old")):
        enrolled(home, name, number)
        [step] = plan_for(home, name, number).steps
        assert step.diff.length < 1_000
        content = home.artifacts.read(step.diff.sha256, 0, step.diff.length)
        base = weights_of(home, "digits", number)
        assert apply(base, decode(content, base.layout)) == weights(0)


def test_old_weights_with_fewer_parameters_come_back_as_a_snapshot(home: ServerHome) -> None:
    grown = weights(9, columns=310)
    publish(home, "digits", exact(weights_of(home, "digits", 2), grown), graph=b"another graph")
    new = roll_back(home, "digits", 2)
    assert weights_of(home, "digits", new.number) == weights_of(home, "digits", 2)
    assert new.graph == home.registry.generation("digits", 2).graph


def test_the_newest_and_the_unknown_are_no_way_back(home: ServerHome) -> None:
    with pytest.raises(PublishError, match="older than the newest, found 2"):
        roll_back(home, "digits", 2)
    with pytest.raises(NotFoundError):
        roll_back(home, "digits", 7)
    with pytest.raises(NotFoundError):
        roll_back(home, "letters", 0)


def test_the_devices_that_took_a_failed_generation_are_taken_back_and_no_others(
    home: ServerHome,
) -> None:
    for name, number in (("took", 2), ("waits", 1)):
        enrolled(home, name, number)
    rollout = failed(home)
    assert plan_for(home, "took", 2) is None
    tick(home, TIME)
    undo = home.registry.rollouts.undoing(rollout.rollout_id)
    assert undo is not None
    assert (undo.state, undo.target, undo.only_from) == (State.RUNNING, 3, 2)
    assert home.registry.generation("digits", 3).digest == weights_of(home, "digits", 1).digest()
    assert plan_for(home, "took", 2).target.number == 3
    assert plan_for(home, "waits", 1) is None
    record(home.registry, "took", 3, None, TIME)
    tick(home, TIME)
    assert home.registry.rollouts.find(undo.rollout_id).state is State.FINISHED


def test_one_that_commits_the_failed_generation_late_is_taken_back_too(home: ServerHome) -> None:
    enrolled(home, "late", 1)
    rollout = failed(home)
    tick(home, TIME)
    tick(home, TIME)
    undo = home.registry.rollouts.undoing(rollout.rollout_id)
    assert undo is not None
    assert undo.state in (State.RUNNING, State.FINISHED)
    assert plan_for(home, "late", 2).target.number == 3


def test_a_revoked_generation_with_the_old_weights_takes_nobody_back(home: ServerHome) -> None:
    enrolled(home, "took", 2)
    failed(home)
    carrier = roll_back(home, "digits", 1)
    releasing.revoke(home.registry, home.keys, "digits", [carrier.number], utc_now())
    tick(home, TIME)
    plan = plan_for(home, "took", 2)
    assert (plan.target.number, plan.target.digest) == (4, carrier.digest)


def test_taking_back_twice_publishes_once(home: ServerHome) -> None:
    rollout = failed(home)
    first = take_back(home, rollout, TIME)
    assert take_back(home, rollout, TIME).rollout_id == first.rollout_id
    tick(home, TIME)
    head = home.registry.head("digits")
    assert head is not None
    assert head.number == 3


def test_a_server_that_died_after_publishing_leaves_the_rest_to_the_next_tick(
    home: ServerHome,
) -> None:
    rollout = failed(home)
    roll_back(home, "digits", 1)
    tick(home, TIME)
    undo = home.registry.rollouts.undoing(rollout.rollout_id)
    assert undo is not None
    assert (undo.target, len(home.registry.generations("digits"))) == (3, 4)


def test_a_server_that_died_before_starting_leaves_that_to_the_next_tick(
    home: ServerHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = failed(home)
    with monkeypatch.context() as dying:
        dying.setattr("server.rollouts.undoing.start", lambda *_: (_ for _ in ()).throw(SystemExit))
        with pytest.raises(SystemExit):
            take_back(home, rollout, TIME)
    undo = home.registry.rollouts.undoing(rollout.rollout_id)
    assert undo is not None
    assert undo.state is State.DRAFT
    tick(home, TIME)
    assert home.registry.rollouts.find(undo.rollout_id).state is State.RUNNING


def test_what_is_taken_back_is_not_resumed(home: ServerHome) -> None:
    rollout = failed(home)
    with pytest.raises(ConflictError, match="generation 2 is taken back"):
        operations.resume(home.registry, rollout, TIME)
    assert operations.abort(home.registry, rollout, TIME).state is State.ABORTED


def test_a_start_rolls_chains_up_for_the_devices_that_would_need_one(home: ServerHome) -> None:
    enrolled(home, "behind", 0)
    assert len(plan_for(home, "behind", 0).steps) == 2
    made = operations.create(home.registry, "digits", 2)
    operations.start(home, made, TIME)
    steps = home.registry.steps("digits")
    [step] = plan_for(home, "behind", 0).steps
    content = home.artifacts.read(step.diff.sha256, 0, step.diff.length)
    assert apply(weights(0), decode(content, weights(0).layout)) == weights_of(home, "digits", 2)
    operations.start(home, operations.create(home.registry, "digits", 2), TIME)
    assert home.registry.steps("digits") == steps

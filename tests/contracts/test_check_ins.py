"""Check-ins of many devices at once, in both databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from server import devices
from server.devices import Answer, CheckIn, Installed
from server.domain import Attempt, AttemptState, Device, Outcome, Report
from server.errors import NotFoundError, UnknownStateError
from server.registry import Registry
from server.registry.check_ins import CheckedIn
from server.rollouts.changes import moved
from server.rollouts.rollout import Channel, Member
from server.rollouts.states import Event
from tests.contracts.test_rollouts import FULL, rollout
from tests.unit.server.rollouts.values import at
from tests.unit.server.values import TIME, generation, step

LATER = TIME + timedelta(hours=1)
NAMES = [f"device-{number}" for number in range(6)]
RUNS_0 = Installed(0, generation(0).digest)


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """Two generations, and devices that run the older one."""
    opened = Registry.create(database_url)
    opened.add_generation(generation(0), [step(None, 0, 1000)])
    opened.add_generation(generation(1), [step(0, 1, 40)])
    for name in NAMES:
        opened.enroll(Device(name, "digits", "", TIME, TIME, installed=0))
    yield opened
    opened.close()


def attempt(name: str, device: str, of: str | None = None) -> Attempt:
    return Attempt(name, device, 0, 1, AttemptState.PLANNED, LATER, of)


def ask(registry: Registry, *asked: CheckIn) -> list[object]:
    return list(devices.check_in(registry, asked, now=lambda: LATER))


def plans(answers: list[object]) -> list[int | None]:
    """The generation that each one is told to reach."""
    found = []
    for answer in answers:
        assert isinstance(answer, Answer), answer
        found.append(answer.plan.target.number if answer.plan is not None else None)
    return found


def test_every_device_of_a_batch_is_recorded_by_what_it_runs(registry: Registry) -> None:
    registry.check_ins.record(
        [
            CheckedIn(NAMES[0], 0, attempt("reached", NAMES[0])),
            CheckedIn(NAMES[1], 0, attempt("given up", NAMES[1])),
            CheckedIn(NAMES[2], 0, attempt("begun", NAMES[2])),
        ],
        TIME,
    )
    registry.report(Report(NAMES[2], "begun", 0, Outcome.STARTED, "", 0, 0, 0), TIME)
    opened = registry.check_ins.record(
        [
            CheckedIn(NAMES[0], 1),
            CheckedIn(NAMES[1], 0, attempt("again", NAMES[1])),
            CheckedIn(NAMES[2], None),
        ],
        LATER,
    )
    assert opened == {"again"}
    assert [registry.device(name).installed for name in NAMES] == [1, 0, None, 0, 0, 0]
    seen = [registry.device(name).seen_at for name in NAMES]
    assert seen == [LATER] * 3 + [TIME] * 3
    ended = [registry.attempt(name) for name in ("reached", "given up", "begun")]
    assert [(one.state, one.code) for one in ended] == [
        (AttemptState.COMMITTED, None),
        (AttemptState.SUPERSEDED, None),
        (AttemptState.SUPERSEDED, "RESTARTED"),
    ]


def test_of_one_batch_no_more_attempts_begin_than_may_be_in_flight(registry: Registry) -> None:
    registry.rollouts.create(rollout(policy=FULL))  # three at a time
    wanted = [CheckedIn(n, 0, attempt(f"of {n}", n, "0123456789ab")) for n in NAMES]
    assert registry.check_ins.record(wanted, TIME) == {f"of {name}" for name in NAMES[:3]}
    # Who asks again has given up its place.
    again = [CheckedIn(n, 0, attempt(f"{n} again", n, "0123456789ab")) for n in NAMES]
    assert registry.check_ins.record(again, LATER) == {f"{name} again" for name in NAMES[:3]}


def test_a_stopped_rollout_lets_nothing_of_a_batch_begin_and_holds_up_nobody_else(
    registry: Registry,
) -> None:
    made = rollout()
    registry.rollouts.create(made)
    registry.rollouts.swap(made, moved(made, Event.PAUSE, "", TIME), TIME)
    wanted = [
        CheckedIn(NAMES[0], 0, attempt("stopped", NAMES[0], made.rollout_id)),
        CheckedIn(NAMES[1], 0, attempt("of no rollout", NAMES[1])),
    ]
    assert registry.check_ins.record(wanted, LATER) == {"of no rollout"}


def test_one_device_that_is_wrong_leaves_the_others_of_its_batch_alone(registry: Registry) -> None:
    good, unknown, strange, newer = ask(
        registry,
        CheckIn(NAMES[0], RUNS_0),
        CheckIn("nobody", RUNS_0),
        CheckIn(NAMES[1], Installed(0, bytes(32))),
        CheckIn(NAMES[2], Installed(7, bytes(32))),
    )
    assert plans([good]) == [1]
    assert isinstance(unknown, NotFoundError)
    assert isinstance(strange, UnknownStateError)
    assert isinstance(newer, UnknownStateError)
    assert [registry.device(name).seen_at for name in NAMES[:2]] == [LATER, TIME]


def test_a_device_that_asks_twice_at_once_has_one_open_attempt(registry: Registry) -> None:
    answers = ask(registry, *[CheckIn(NAMES[0], RUNS_0)] * 3, CheckIn(NAMES[1], RUNS_0))
    assert plans(answers) == [1, 1, 1, 1]
    counts = registry.attempt_counts("digits")
    assert counts == {AttemptState.PLANNED: 2, AttemptState.SUPERSEDED: 2}
    third = answers[2]
    assert isinstance(third, Answer)
    assert third.plan is not None
    assert registry.attempt(third.plan.attempt_id).state is AttemptState.PLANNED


def test_whatever_changes_what_is_offered_is_seen_by_the_next_batch(
    registry: Registry, database_url: str
) -> None:
    other = Registry.open(database_url)
    asked = [CheckIn(name, RUNS_0) for name in NAMES[:2]]
    assert plans(ask(registry, *asked)) == [1, 1]
    other.add_generation(generation(2), [step(1, 2, 40)])
    assert plans(ask(registry, *asked)) == [2, 2]
    held = at(rollout(target=2, channel=Channel.BETA), cutoff=2**63 - 1)
    other.rollouts.create(held)
    assert plans(ask(registry, *asked)) == [None, None]
    other.rollouts.set_up(Member(NAMES[1], Channel.BETA), None, TIME)
    assert plans(ask(registry, *asked)) == [None, 2]
    other.rollouts.swap(held, moved(held, Event.ABORT, "", LATER), LATER)
    assert plans(ask(registry, *asked)) == [None, None]
    other.close()


def test_batches_of_two_servers_and_rollouts_that_stop_do_not_wait_for_each_other_for_ever(
    registry: Registry, database_url: str
) -> None:
    other = Registry.open(database_url)
    made = rollout()
    registry.rollouts.create(made)
    both = [registry, other]

    def act(number: int) -> int:
        if number == 20:
            seen = other.rollouts.find(made.rollout_id)
            other.rollouts.swap(seen, moved(seen, Event.PAUSE, "", LATER), LATER)
            return 0
        own = NAMES if number % 2 else NAMES[::-1]
        wanted = [CheckedIn(n, 0, attempt(f"{number} {n}", n, made.rollout_id)) for n in own]
        return len(both[number % 2].check_ins.record(wanted, LATER))

    with ThreadPoolExecutor(8) as threads:
        begun = sum(threads.map(act, range(40)))
    counts = registry.attempt_counts("digits")
    assert counts == {AttemptState.SUPERSEDED: begun}
    other.close()

"""Rollouts in both databases."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta

import pytest
from sqlalchemy import select

from server.domain import Attempt, AttemptState, Device, EndCode, Outcome, Report
from server.errors import ConflictError, NotFoundError
from server.registry import Registry
from server.registry.audit import SERVER
from server.registry.identities import Identities
from server.registry.rollout_rows import MonthlyBytesRow
from server.rollouts.changes import moved
from server.rollouts.notation import parse_phases, parse_windows
from server.rollouts.rollout import Channel, Counts, Member, OnFailure, Policy, Rollout
from server.rollouts.states import Event, State
from tests.unit.server.check_ins import record
from tests.unit.server.rollouts.values import HOUR, at
from tests.unit.server.values import TIME, generation, step

LATER = TIME + HOUR
FULL = Policy(
    success_threshold=0.75,
    failure_threshold=0.125,
    minimum_sample=7,
    soak=timedelta(minutes=5),
    attempt_timeout=HOUR,
    maximum_attempts=2,
    maximum_in_flight=3,
    windows=parse_windows(["22:00-05:30", "12:00-13:00"]),
    metered_bytes=10**12,
    monthly_bytes=0,
    on_failure=OnFailure.ROLLBACK,
)


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    opened = Registry.create(database_url)
    for number in range(3):
        opened.add_generation(generation(number), [step(None, number, 1000 + number)])
    for name in ("one", "two", "three"):
        opened.enroll(Device(name, "digits", "", TIME, TIME))
    yield opened
    opened.close()


def rollout(rollout_id: str = "0123456789ab", **changes: object) -> Rollout:
    values: dict[str, object] = {
        "rollout_id": rollout_id,
        "model": "digits",
        "channel": Channel.STABLE,
        "target": 1,
        "base": 0,
        "phases": parse_phases(["10%", "25", "100%"]),
        "created_at": TIME,
        "state": State.RUNNING,
    }
    return at(Rollout(**{**values, **changes}), judged_since=TIME)  # type: ignore[arg-type]


def attempt(name: str, device: str = "one", of: str | None = "0123456789ab") -> Attempt:
    return Attempt(name, device, 0, 1, AttemptState.PLANNED, TIME, of)


def test_a_rollout_comes_back_as_it_was_created(registry: Registry) -> None:
    made = rollout(
        channel=Channel.BETA,
        policy=FULL,
        groups=(("floor", "1"), ("room", "bath"), ("room", "kitchen")),
        only_from=0,
        state=State.SCHEDULED,
    )
    made = at(made, starts_at=LATER, entered_at=TIME, reason="why", cutoff=2**63 - 1)
    registry.rollouts.create(made)
    assert registry.rollouts.find("0123456789ab") == made
    assert registry.rollouts.find("01") == made
    assert registry.rollouts.all() == registry.rollouts.all("digits") == (made,)
    assert registry.rollouts.all("letters") == ()
    assert registry.rollouts.in_states([State.SCHEDULED]) == (made,)
    assert registry.rollouts.in_states([State.RUNNING]) == ()


def test_a_name_that_fits_none_or_several_is_not_found(registry: Registry) -> None:
    for name in ("0123456789ab", "01cccccccccc"):
        registry.rollouts.create(rollout(name))
    for name in ("", "9", "%", "01"):
        with pytest.raises(NotFoundError, match="expected"):
            registry.rollouts.find(name)


@pytest.mark.parametrize(
    "wrong", [{}, {"rollout_id": "other", "target": 9}, {"rollout_id": "o", "undoes": "nobody"}]
)
def test_a_rollout_that_cannot_be_is_not_there_at_all(registry: Registry, wrong: dict) -> None:
    registry.rollouts.create(rollout())
    with pytest.raises(ConflictError):
        registry.rollouts.create(rollout(**wrong))
    assert len(registry.rollouts.all()) == 1


def test_of_two_servers_one_takes_a_rollout_back(registry: Registry) -> None:
    registry.rollouts.create(rollout())
    registry.rollouts.create(rollout("undo", target=2, undoes="0123456789ab"))
    with pytest.raises(ConflictError):
        registry.rollouts.create(rollout("again", target=2, undoes="0123456789ab"))
    undo = registry.rollouts.undoing("0123456789ab")
    assert undo is not None
    assert undo.rollout_id == "undo"
    assert registry.rollouts.undoing("undo") is None


def test_of_many_servers_at_once_one_swaps(database_url: str, registry: Registry) -> None:
    registry.rollouts.create(rollout())
    other = Registry.open(database_url)
    seen = registry.rollouts.find("0123456789ab")

    def swap(number: int) -> bool:
        changed = moved(seen, Event.PAUSE, f"by {number}", LATER)
        server = (registry, other)[number % 2]
        try:
            return server.rollouts.swap(seen, changed, LATER).progress.reason == f"by {number}"
        except ConflictError:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(swap, range(16))) == 1
    found = registry.rollouts.find("0123456789ab")
    assert (found.state, found.version) == (State.PAUSED_MANUAL, 1)
    other.close()


def test_a_rollout_that_stops_sees_every_attempt_that_it_let_begin(
    database_url: str, registry: Registry
) -> None:
    """Check-ins race with a pause: none is left open after it."""
    names = [f"device-{number}" for number in range(24)]
    for name in names:
        registry.enroll(Device(name, "digits", "", TIME, TIME))
    registry.rollouts.create(rollout())
    other = Registry.open(database_url)

    def act(name: str) -> bool:
        if name == "pause":
            seen = other.rollouts.find("0123456789ab")
            other.rollouts.swap(seen, moved(seen, Event.PAUSE, "", LATER), LATER)
            return False
        return record(registry, name, 0, attempt(f"of {name}", name), TIME)

    with ThreadPoolExecutor(8) as threads:
        begun = sum(threads.map(act, [*names[:12], "pause", *names[12:]]))
    found = registry.attempt_counts("digits")
    assert found.get(AttemptState.PLANNED, 0) == 0
    assert found.get(AttemptState.SUPERSEDED, 0) == begun
    other.close()


def test_no_more_attempts_begin_than_may_be_in_flight(registry: Registry) -> None:
    names = [f"device-{number}" for number in range(16)]
    for name in names:
        registry.enroll(Device(name, "digits", "", TIME, TIME))
    registry.rollouts.create(rollout(policy=replace(FULL, maximum_in_flight=3)))
    with ThreadPoolExecutor(8) as threads:
        begun = threads.map(
            lambda name: record(registry, name, 0, attempt(f"of {name}", name), TIME), names
        )
        assert sum(begun) == 3
    assert registry.rollouts.counts(rollout()).in_flight == 3


def test_a_device_whose_attempt_does_not_begin_is_seen_all_the_same(registry: Registry) -> None:
    registry.rollouts.create(rollout(state=State.ABORTED))
    assert not record(registry, "one", 0, attempt("first"), LATER)
    assert registry.device("one").seen_at == LATER
    assert registry.attempt_counts("digits") == {}


def report(name: str, sequence: int, outcome: Outcome, code: str = "", spent: int = 0) -> Report:
    return Report("one", name, sequence, outcome, code, spent, spent, 0)


def test_an_attempt_says_of_which_rollout_it_is_and_why_it_failed(registry: Registry) -> None:
    registry.rollouts.create(rollout())
    record(registry, "one", 0, attempt("first"), TIME)
    registry.report(report("first", 1, Outcome.FAILED, "UNHEALTHY"), LATER)
    found = registry.attempt("first")
    assert (found.rollout_id, found.code) == ("0123456789ab", "UNHEALTHY")
    assert registry.rollouts.failures("0123456789ab") == {"UNHEALTHY": 1}


def test_devices_are_counted_once_each_by_what_became_of_them(registry: Registry) -> None:
    made = rollout()
    registry.rollouts.create(made)
    for name, outcome in (("one", Outcome.FAILED), ("two", Outcome.COMMITTED)):
        record(registry, name, 0, attempt(f"of {name}", name), TIME)
        said = replace(report(f"of {name}", 1, outcome, "X"), device_id=name)
        registry.report(said, LATER)
    record(registry, "three", 0, attempt("of three", "three"), TIME)
    assert registry.rollouts.counts(made) == Counts(on_target=1, succeeded=1, failed=1, in_flight=1)
    assert registry.rollouts.took(made) == {"two"}
    later = at(made, judged_since=LATER + HOUR)
    assert registry.rollouts.counts(later) == Counts(on_target=1, in_flight=1)


def test_silent_attempts_end_each_after_its_own_time(registry: Registry) -> None:
    registry.rollouts.create(rollout(policy=FULL))
    for name, of in (("one", "0123456789ab"), ("two", None), ("three", "0123456789ab")):
        record(registry, name, 0, attempt(f"of {name}", name, of), TIME)
    heard = replace(report("of three", 1, Outcome.STARTED), device_id="three")
    registry.report(heard, TIME + HOUR)
    assert registry.rollouts.end_silent(TIME + 1.5 * HOUR, 4 * HOUR) == 1
    assert registry.attempt("of one").code == EndCode.TIMED_OUT
    assert registry.rollouts.end_silent(TIME + 5 * HOUR, 4 * HOUR) == 2
    assert registry.rollouts.end_silent(TIME + 9 * HOUR, 4 * HOUR) == 0


def test_an_attempt_that_a_device_began_and_gave_up_is_told_from_one_it_never_began(
    registry: Registry,
) -> None:
    registry.rollouts.create(rollout())
    for name in ("first", "second"):
        record(registry, "one", 0, attempt(name), TIME)
    registry.report(report("second", 1, Outcome.STARTED), TIME)
    assert registry.check_ins.surroundings({"one"}, TIME)["one"].tries == {"0123456789ab": 1}
    record(registry, "one", 0, None, LATER)
    assert registry.attempt("first").code is None
    assert registry.attempt("second").code == EndCode.RESTARTED
    assert registry.check_ins.surroundings({"one"}, TIME)["one"].tries == {"0123456789ab": 1}


def test_a_device_is_what_an_operator_set(registry: Registry) -> None:
    fresh = Member("one", Channel.STABLE, {}, None)
    assert registry.rollouts.member("one") == (fresh, None)
    member = Member("one", Channel.BETA, {"room": "kitchen", "floor": "1"})
    registry.rollouts.set_up(member, 5_000_000, TIME)
    registry.rollouts.set_up(replace(member, attributes={"room": "bath"}), 10**13, TIME)
    assert registry.rollouts.member("one") == (replace(member, attributes={"room": "bath"}), 10**13)
    assert {m.device_id: m.channel for m in registry.rollouts.population("digits")} == {
        "one": Channel.BETA,
        "two": Channel.STABLE,
        "three": Channel.STABLE,
    }
    with pytest.raises(NotFoundError, match="'nobody'"):
        registry.rollouts.set_up(Member("nobody"), None, TIME)


def test_changes_of_rollouts_and_devices_are_in_the_audit_log_with_whoever_made_them(
    registry: Registry,
) -> None:
    alice = registry.acting_as("operator:alice").rollouts
    server = registry.acting_as(SERVER).rollouts
    made = rollout()
    alice.create(made)
    failed = server.swap(made, moved(made, Event.FAIL, "too many", LATER), LATER)
    alice.swap(failed, moved(failed, Event.ABORT, "by hand", LATER), LATER)
    for _ in range(2):
        alice.set_up(Member("one", Channel.BETA, {"room": "bath"}), 7, LATER)
    with pytest.raises(ConflictError):
        server.swap(made, moved(made, Event.FINISH, "late", LATER), LATER)
    with pytest.raises(ConflictError):
        server.create(made)
    log = [entry for entry in Identities(registry).audit() if entry.action != "generation.publish"]
    assert [(entry.at, entry.actor, entry.action, entry.subject) for entry in log] == [
        (TIME, "operator:alice", "rollout.create", made.rollout_id),
        (LATER, "server", "rollout.change", made.rollout_id),
        (LATER, "operator:alice", "rollout.change", made.rollout_id),
        (LATER, "operator:alice", "device.set", "one"),
    ]
    assert [entry.details for entry in log] == [
        {"model": "digits", "target": 1, "channel": "stable", "undoes": None},
        {"before": "running", "after": "paused-threshold", "phase": 0, "reason": "too many"},
        {"before": "paused-threshold", "after": "aborted", "phase": 0, "reason": "by hand"},
        {"channel": "beta", "attributes": {"room": "bath"}, "monthly_bytes": 7},
    ]


def test_bytes_count_once_in_the_month_of_their_report(
    database_url: str, registry: Registry
) -> None:
    registry.rollouts.set_up(Member("one"), 1, TIME)
    record(registry, "one", 0, attempt("first", of=None), TIME)
    for sequence, spent in ((1, 100), (3, 400), (2, 300), (3, 400)):
        registry.report(report("first", sequence, Outcome.STARTED, spent=spent), TIME)
    assert registry.check_ins.surroundings({"one"}, TIME)["one"].used_bytes == 800
    next_month = TIME + timedelta(days=31)
    assert registry.check_ins.surroundings({"one"}, next_month)["one"].used_bytes == 0
    registry.report(report("first", 4, Outcome.COMMITTED, spent=450), next_month)
    with registry.reading() as session:
        rows = session.execute(
            select(MonthlyBytesRow.month, MonthlyBytesRow.bytes_spent).order_by(
                MonthlyBytesRow.month
            )
        )
        assert [tuple(row) for row in rows] == [(date(2026, 1, 1), 800), (date(2026, 2, 1), 100)]


def test_a_check_in_sees_what_may_offer_something_and_the_first_one(registry: Registry) -> None:
    assert registry.check_ins.surroundings({"one"}, TIME)["one"].catalogue.rollouts == ()
    states = [State.ABORTED, State.FINISHED, State.DRAFT, State.RUNNING, State.PAUSED_SOAK]
    for number, state in enumerate(states):
        made = rollout(f"{number:012x}", state=state, created_at=TIME + number * HOUR)
        registry.rollouts.create(made)
    found = registry.check_ins.surroundings({"one"}, TIME)["one"].catalogue.rollouts
    assert [made.state for made in found] == [State.ABORTED, State.FINISHED, State.RUNNING]

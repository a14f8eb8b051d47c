"""What follows from what the registry knows: states, budgets, notices. No database."""

import math
from dataclasses import replace
from datetime import timedelta
from io import StringIO

import pytest
from rich.console import Console

from server.identity.keys import DeviceKey, KeyState
from server.overview.judgement import MOST_DEVICES, SILENT_AFTER, Facts, judge, state_of
from server.overview.terminal import print_overview
from server.overview.values import Bounded, DeviceSpending, DeviceState, Level
from server.registry.fleet import DeviceFacts, FailureFacts, LastFailure
from server.rollouts.report import Report
from server.rollouts.rollout import Channel, Counts, Member, Rollout
from server.rollouts.states import State
from server.signing.records import SignedFile
from server.signing.roles import LIFETIMES, ROLES, TARGETS, TIMESTAMP
from server.status import GenerationStatus, ModelStatus
from tests.unit.server.rollouts.values import HOUR, policy, rollout
from tests.unit.server.values import TIME

SECOND = timedelta(seconds=1)
FAILURE = LastFailure(5, "UNHEALTHY", TIME - HOUR)
STEADY = DeviceFacts("one", "kitchen", "digits", 4, TIME, None, 0, is_updating=False, failure=None)


def signed(**left: timedelta) -> dict[str, SignedFile]:
    """Metadata of every role, by default just signed."""
    return {
        role: SignedFile(role, 1, 0, b"", TIME + left.get(role, LIFETIMES[role])) for role in ROLES
    }


def facts(*devices: DeviceFacts, **changes: object) -> Facts:
    generations = tuple(
        GenerationStatus(
            number=number, parent=None, digest="ab" * 32, update_bytes=10, snapshot_bytes=100,
            updates={"fast": 10}, snapshots={"fast": 100}, devices=0, published_at="2026-01-02T03",
        )
        for number in range(6)
    )  # fmt: skip
    values: dict[str, object] = {
        "models": (ModelStatus("digits", 5, generations, 0, {}),),
        "revoked": {},
        "devices": devices,
        "decommissioned": 0,
        "waiting": (),
        "reports": Bounded((), 0),
        "offering": {},
        "members": {},
        "signed": signed(),
        "failures": (),
        "failures_since": TIME - timedelta(days=30),
        "audit": (),
    }
    return Facts(**{**values, **changes})  # type: ignore[arg-type]


def notices(known: Facts) -> list[tuple[Level, str]]:
    return [(notice.level, notice.part) for notice in judge(known, TIME).notices]


@pytest.mark.parametrize(
    ("device", "state"),
    [
        (STEADY, DeviceState.STEADY),
        (replace(STEADY, installed=None), DeviceState.STEADY),
        (replace(STEADY, failure=FAILURE), DeviceState.FAILED),
        (replace(STEADY, failure=FAILURE, is_updating=True), DeviceState.UPDATING),
        (replace(STEADY, seen_at=TIME - SILENT_AFTER), DeviceState.STEADY),
        (replace(STEADY, seen_at=TIME - SILENT_AFTER - SECOND), DeviceState.SILENT),
        (
            replace(STEADY, seen_at=TIME - SILENT_AFTER - SECOND, failure=FAILURE),
            DeviceState.SILENT,
        ),
    ],
)
def test_a_device_is_in_the_first_state_that_holds(device: DeviceFacts, state: DeviceState) -> None:
    assert state_of(device, TIME) is state


def test_a_sound_fleet_needs_nobody() -> None:
    assert judge(facts(STEADY), TIME).notices == ()


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        ({TARGETS: timedelta(days=100)}, []),
        ({TARGETS: timedelta(days=80)}, [(Level.LOOK, "signing")]),
        ({TARGETS: timedelta(0)}, [(Level.BAD, "signing")]),
        # A server signs it again when the next device asks.
        ({TIMESTAMP: timedelta(days=-9)}, []),
    ],
)
def test_signatures_of_people_are_told_of_in_time(left: dict, expected: list) -> None:
    assert notices(facts(STEADY, signed=signed(**left))) == expected


def test_what_must_be_acted_on_comes_before_what_is_to_look_at() -> None:
    def key(name: bytes, is_rival: bool) -> DeviceKey:
        return DeviceKey(name * 32, "one", "digits", "", KeyState.PENDING, TIME, None, is_rival)

    def report(state: State) -> Report:
        return Report(rollout(state=state), Counts(), {}, None)

    found = notices(
        facts(
            replace(STEADY, failure=FAILURE),
            replace(STEADY, device_id="two", seen_at=TIME - 5 * SILENT_AFTER),
            replace(STEADY, device_id="three", budget_bytes=5, spent_bytes=5),
            waiting=(key(b"a", False), key(b"b", True)),
            reports=Bounded((report(State.PAUSED_MANUAL), report(State.PAUSED_THRESHOLD)), 2),
        )
    )
    assert found[:2] == [(Level.BAD, "rollouts"), (Level.BAD, "waiting")]
    assert sorted(part for level, part in found[2:] if level is Level.LOOK) == [
        "bytes",
        "look",
        "look",
        "rollouts",
        "waiting",
    ]


def test_failed_devices_come_first_the_newest_then_silent_ones_the_longest() -> None:
    def failed(name: str, hours: int) -> DeviceFacts:
        return replace(STEADY, device_id=name, failure=replace(FAILURE, at=TIME - hours * HOUR))

    def silent(name: str, days: int) -> DeviceFacts:
        return replace(STEADY, device_id=name, seen_at=TIME - timedelta(days=days))

    fleet = judge(facts(silent("c", 3), failed("b", 9), silent("d", 9), failed("a", 1)), TIME).fleet
    assert [line.device_id for line in fleet.worth_a_look.items] == ["a", "b", "d", "c"]


def test_a_large_fleet_is_counted_and_not_listed() -> None:
    many = [replace(STEADY, device_id=f"{number}", failure=FAILURE) for number in range(5000)]
    overview = judge(facts(*many), TIME)
    assert overview.fleet.worth_a_look.total == overview.fleet.states[DeviceState.FAILED] == 5000
    assert len(overview.fleet.worth_a_look.items) == MOST_DEVICES


def budgeted(*offering: Rollout, **changes: object) -> int:
    device = replace(STEADY, **changes)  # type: ignore[arg-type]
    member = Member("one", Channel.STABLE, {"room": "kitchen"}, device.installed)
    known = facts(device, offering={"digits": offering}, members={"one": member})
    return judge(known, TIME).spending.budget_bytes


def test_a_budget_is_its_own_or_that_of_the_first_rollout_that_reaches_it() -> None:
    newer = rollout(policy=policy(monthly_bytes=700))
    older = rollout(policy=policy(monthly_bytes=900), target=4, base=3)
    assert budgeted(newer, older) == 700
    assert budgeted(newer, older, budget_bytes=50) == 50
    assert budgeted(replace(newer, channel=Channel.BETA), older) == 900
    assert budgeted(replace(newer, groups=(("room", "bath"),))) == 0
    assert budgeted(replace(newer, policy=policy()), older) == 0


def test_shares_of_a_budget_know_no_division_by_zero() -> None:
    def share(spent: int, budget: int | None) -> float | None:
        return DeviceSpending("one", "", "digits", spent, budget).share

    assert (share(5, None), share(5, 10), share(15, 10)) == (None, 0.5, 1.5)
    assert (share(0, 0), share(5, 0)) == (1.0, math.inf)
    nothing = judge(facts(replace(STEADY, budget_bytes=0, spent_bytes=3)), TIME).spending
    assert (nothing.share, nothing.over) == (None, 1)


def test_without_budgets_those_are_shown_that_spent_most() -> None:
    spent = [replace(STEADY, device_id=f"{n}", spent_bytes=n) for n in range(4)]
    nearest = judge(facts(*spent), TIME).spending.nearest.items
    assert [line.device_id for line in nearest] == ["3", "2", "1"]


def test_on_a_terminal_what_others_wrote_is_neither_markup_nor_control() -> None:
    wild = "[red]\x1b[31m[/]"
    out = StringIO()
    failures = (FailureFacts("digits", wild, 3, 2, TIME, TIME),)
    known = facts(replace(STEADY, failure=FAILURE), failures=failures, revoked={"digits": {3}})
    print_overview(Console(file=out, width=160, force_terminal=True), judge(known, TIME))
    assert "[red]�[31m[/]" in out.getvalue()
    assert "\x1b[31m[/]" not in out.getvalue()
    plain = StringIO()
    print_overview(Console(file=plain, width=160), judge(known, TIME))
    for fact in ("1 device: 1 failed", "digits: head 5", "3 revoked", "root 365 d"):
        assert fact in plain.getvalue()

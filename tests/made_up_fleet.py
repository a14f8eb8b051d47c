"""A home with a fleet in the middle of its life, for tests of what operators look at.

Devices, attempts and rollouts are written as rows: a thousand of them live here within a second.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from server.clock import month_of
from server.domain import AttemptState, Device
from server.home import ServerHome
from server.registry import Registry
from server.registry.audit import record
from server.registry.identities import Identities
from server.registry.rollout_rows import DeviceSettingRow, MonthlyBytesRow
from server.registry.rows import AttemptRow, DeviceRow
from server.rollouts.notation import parse_phases, parse_windows
from server.rollouts.rollout import Channel, OnFailure, Policy, Progress, Rollout
from server.rollouts.states import State
from tests.integration.served_home import home_with

HOUR = timedelta(hours=1)
HOSTILE = "<script>document.title='owned'</script>"
CODES = ("UNHEALTHY", "DISK_FULL", "TOO_SLOW", "TIMED_OUT")
EVERYBODY = 2**63 - 1


def made_up_home(folder: Path, devices: int, now: datetime) -> ServerHome:
    """A home with one model, `digits`, of twelve generations."""
    home = home_with(folder, generations=12, diff_bytes=40_300)
    fill(home.registry, devices, now)
    return home


def fill(registry: Registry, devices: int, now: datetime) -> None:
    """Add devices, rollouts, attempts, bytes, keys that wait and entries of the audit log."""
    for rollout in rollouts(now, devices):
        registry.rollouts.create(rollout)
    with registry.writing() as session:
        session.add_all(_device(number, now) for number in range(devices))
        session.flush()
        for number in range(devices):
            session.add_all(_rows_of(number, now))
        for number in range(30):
            action = ("device.accept", "generation.publish", "rollout.start")[number % 3]
            entry = {"before": "pending", "key": f"{number:064x}"}
            at = now - (30 - number) * HOUR
            record(session, "operator:alice", action, f"device-{number:04}", entry, at)
    identities = Identities(registry)
    for number in range(3):
        key = hashlib.sha256(f"key {number}".encode()).digest()
        at = now - HOUR + timedelta(minutes=number)
        identities.request(key, f"new-{number}", "digits", f"porch {number}", at)


def rollouts(now: datetime, devices: int) -> Iterator[Rollout]:
    """One in most states, and a dozen that ended."""
    phases = parse_phases(["1%", "10%", "50%", "100%"])
    made = Rollout(
        rollout_id="3f9a00000000",
        model="digits",
        channel=Channel.STABLE,
        target=11,
        base=10,
        phases=phases,
        created_at=now - 30 * HOUR,
        policy=Policy(
            failure_threshold=0.3,
            soak=6 * HOUR,
            maximum_in_flight=50,
            windows=parse_windows(["22:00-05:30"]),
            monthly_bytes=400_000,
            on_failure=OnFailure.ROLLBACK,
        ),
        state=State.RUNNING,
        progress=Progress(
            phase=2,
            cutoff=EVERYBODY,
            devices=devices * 3 // 4,
            already=devices // 20,
            entered_at=now - 3 * HOUR,
            judged_since=now - 3 * HOUR,
            reason="soaked for 6:00:00",
        ),
    )
    yield made
    broken = replace(made.progress, phase=0, reason="3 of 9 devices failed, more than 10 %")
    yield replace(
        made,
        rollout_id="81c000000000",
        channel=Channel.BETA,
        groups=(("room", "kitchen"),),
        policy=Policy(),
        state=State.PAUSED_THRESHOLD,
        progress=broken,
    )
    soaking = replace(made.progress, phase=1, reason="phase 2: 9 of 10 devices run the target")
    yield replace(
        made,
        rollout_id="a0b100000000",
        channel=Channel.BETA,
        target=10,
        base=9,
        state=State.PAUSED_SOAK,
        progress=soaking,
    )
    starts_at = Progress(starts_at=now + 9 * HOUR)
    yield replace(made, rollout_id="c4d500000000", state=State.SCHEDULED, progress=starts_at)
    yield replace(made, rollout_id="e6f700000000", state=State.DRAFT, progress=Progress())
    for number in range(12):
        yield replace(
            made,
            rollout_id=f"{number:02}e000000000",
            target=number % 10 + 1,
            base=number % 10,
            created_at=now - (60 + number) * 24 * HOUR,
            policy=Policy(),
            state=State.ABORTED if number % 4 == 3 else State.FINISHED,
            progress=replace(
                made.progress,
                phase=3,
                devices=devices,
                already=devices - 20 if number % 4 < 3 else 5,
                entered_at=now - (60 + number) * 24 * HOUR,
                reason="980 of 1000 devices run the target",
            ),
        )


def _device(number: int, now: datetime) -> DeviceRow:
    name = HOSTILE if number % 97 == 13 else ("kitchen", "bath", "hall", "", "porch")[number % 5]
    is_silent = number % 101 == 7
    seen_at = now - (100 * HOUR if is_silent else timedelta(minutes=number % 60))
    device = Device(f"device-{number:04}", "digits", name, now - 500 * HOUR, seen_at)
    return DeviceRow(
        device_id=device.device_id,
        model=device.model,
        name=device.name,
        enrolled_at=device.enrolled_at,
        seen_at=device.seen_at,
        installed=None if number % 250 == 9 else 11 - (number % 3 if number % 7 else 4),
    )


def _rows_of(number: int, now: datetime) -> Iterator[object]:
    name = f"device-{number:04}"
    if number % 40 == 3:
        yield DeviceSettingRow(device_id=name, channel=Channel.BETA, monthly_bytes=300_000)
    if number % 6:
        spent = 20_000 + number * 7919 % 395_000
        yield MonthlyBytesRow(device_id=name, month=month_of(now), bytes_spent=spent)
    if number % 13 == 3:
        yield _attempt(number, now, AttemptState.FAILED, CODES[number % 7 % 4])
    elif number % 31 == 2:
        yield _attempt(number, now, AttemptState.STARTED, None)
    elif number % 3 == 0:
        yield _attempt(number, now, AttemptState.COMMITTED, None)


def _attempt(number: int, now: datetime, state: AttemptState, code: str | None) -> AttemptRow:
    begun_at = now - timedelta(minutes=30 + number % 90)
    return AttemptRow(
        attempt_id=f"attempt-{number:04}",
        device_id=f"device-{number:04}",
        base=10,
        target=11,
        state=state,
        created_at=begun_at,
        ended_at=begun_at + timedelta(minutes=9) if state.is_final else None,
        rollout_id="3f9a00000000",
        code=code,
    )

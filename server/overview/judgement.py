"""From what the registry knows to what an overview says. Pure.

>>> judge(facts, now).notices
(Notice(level=<Level.BAD: 'bad'>, text='rollout 81c0 of digits paused itself: ...', ...),)
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from server.clock import month_of
from server.identity.keys import DeviceKey
from server.overview.values import (
    Bounded,
    DeviceLine,
    DeviceSpending,
    DeviceState,
    Fleet,
    Level,
    ModelOverview,
    Notice,
    Overview,
    SignatureLine,
    Spending,
    WaitingKey,
)
from server.registry.audit import AuditEntry
from server.registry.fleet import DeviceFacts, FailureFacts
from server.rollouts.pacing import AT_MOST
from server.rollouts.population import reaches
from server.rollouts.report import Report
from server.rollouts.rollout import Member, Rollout
from server.rollouts.states import State
from server.signing.documents import first_to_end
from server.signing.records import SignedFile
from server.signing.roles import ONLINE, ROLES, needs_somebody
from server.status import ModelStatus
from server.wording import about, number_of

SILENT_AFTER = 2 * AT_MOST
"""A device is told to come again within AT_MOST; one that missed that twice is silent."""
MOST_DEVICES = 100
MOST_KEYS = 50
MOST_SPENDINGS = 50


@dataclass(frozen=True)
class Facts:
    """What is judged.

    Attributes:
        revoked: By model, generations that no device may install.
        waiting: Keys that wait for an operator, oldest first.
        reports: The rollouts to show.
        offering: By model, its rollouts that offer something, by whose word counts first; needed
            only where one of them has a budget.
        members: The devices of those models by id, as rollouts see them.
        signed: The newest metadata by role.
        failures_since: Since when `failures` are counted.
    """

    models: tuple[ModelStatus, ...]
    revoked: Mapping[str, frozenset[int]]
    devices: tuple[DeviceFacts, ...]
    decommissioned: int
    waiting: tuple[DeviceKey, ...]
    reports: Bounded[Report]
    offering: Mapping[str, tuple[Rollout, ...]]
    members: Mapping[str, Member]
    signed: Mapping[str, SignedFile]
    failures: tuple[FailureFacts, ...]
    failures_since: datetime
    audit: tuple[AuditEntry, ...]


def judge(facts: Facts, now: datetime) -> Overview:
    """Make an overview."""
    states = {device.device_id: state_of(device, now) for device in facts.devices}
    fleet = _fleet(facts, states)
    spending = _spending(facts, now)
    signatures = _signatures(facts.signed, now)
    return Overview(
        at=now,
        notices=_notices(fleet, facts.reports.items, spending, signatures, now),
        models=tuple(_model(model, facts, states) for model in facts.models),
        fleet=fleet,
        rollouts=facts.reports,
        spending=spending,
        failures=facts.failures,
        failures_since=facts.failures_since,
        signatures=signatures,
        audit=facts.audit,
    )


def state_of(device: DeviceFacts, now: datetime) -> DeviceState:
    """How a device does."""
    if now - device.seen_at > SILENT_AFTER:
        return DeviceState.SILENT
    if device.is_updating:
        return DeviceState.UPDATING
    return DeviceState.STEADY if device.failure is None else DeviceState.FAILED


def _model(status: ModelStatus, facts: Facts, states: Mapping[str, DeviceState]) -> ModelOverview:
    counted: dict[int | None, Counter[DeviceState]] = defaultdict(Counter)
    for device in facts.devices:
        if device.model == status.model:
            counted[device.installed][states[device.device_id]] += 1
    # Counted here once, so that no two figures of one overview disagree.
    generations = tuple(
        replace(generation, devices=counted[generation.number].total())
        for generation in status.generations
    )
    return ModelOverview(
        status=replace(
            status, generations=generations, devices_without_model=counted[None].total()
        ),
        states={number: dict(found) for number, found in counted.items() if found},
        revoked=facts.revoked.get(status.model, frozenset()),
    )


def _fleet(facts: Facts, states: Mapping[str, DeviceState]) -> Fleet:
    worth_a_look = sorted(
        (
            _device_line(device, states[device.device_id])
            for device in facts.devices
            if states[device.device_id] in (DeviceState.FAILED, DeviceState.SILENT)
        ),
        key=_by_interest,
    )
    waiting = sorted(facts.waiting, key=lambda key: not key.is_rival)
    counts = Counter(states.values())
    return Fleet(
        devices=len(facts.devices),
        states={state: counts[state] for state in DeviceState},
        worth_a_look=Bounded.of(tuple(worth_a_look), MOST_DEVICES),
        waiting=Bounded.of(tuple(map(_waiting_key, waiting)), MOST_KEYS),
        rivals=sum(key.is_rival for key in facts.waiting),
        decommissioned=facts.decommissioned,
    )


def _device_line(device: DeviceFacts, state: DeviceState) -> DeviceLine:
    failure = device.failure if state is DeviceState.FAILED else None
    return DeviceLine(
        device_id=device.device_id,
        name=device.name,
        model=device.model,
        installed=device.installed,
        state=state,
        since=failure.at if failure is not None else device.seen_at,
        reason=failure.code if failure is not None else "",
        target=failure.target if failure is not None else None,
    )


def _by_interest(line: DeviceLine) -> tuple[bool, float, str]:
    is_silent = line.state is DeviceState.SILENT
    time = line.since.timestamp()
    return is_silent, time if is_silent else -time, line.device_id


def _waiting_key(key: DeviceKey) -> WaitingKey:
    return WaitingKey(
        key.short, key.device_id or "", key.name, key.model, key.requested_at, key.is_rival
    )


def _spending(facts: Facts, now: datetime) -> Spending:
    lines = [
        DeviceSpending(
            device.device_id, device.name, device.model, device.spent_bytes, _budget(device, facts)
        )
        for device in facts.devices
    ]
    limited = [line for line in lines if line.budget_bytes is not None]
    shown = limited or [line for line in lines if line.spent_bytes]
    shown.sort(key=lambda line: (-(line.share or 0), -line.spent_bytes, line.device_id))
    return Spending(
        month=month_of(now),
        spent_bytes=sum(line.spent_bytes for line in lines),
        limited=len(limited),
        limited_spent_bytes=sum(line.spent_bytes for line in limited),
        budget_bytes=sum(line.budget_bytes or 0 for line in limited),
        over=sum((line.share or 0) >= 1 for line in limited),
        nearest=Bounded.of(tuple(shown), MOST_SPENDINGS),
    )


def _budget(device: DeviceFacts, facts: Facts) -> int | None:
    """Its own, or that of the newest generation's rollout that reaches it."""
    member = facts.members.get(device.device_id)
    if device.budget_bytes is not None or member is None:
        return device.budget_bytes
    reaching = (made for made in facts.offering[device.model] if reaches(made, member))
    newest = next(reaching, None)
    return newest.policy.monthly_bytes if newest is not None else None


def _signatures(signed: Mapping[str, SignedFile], now: datetime) -> tuple[SignatureLine, ...]:
    ends = {role: first_to_end(role, signed).expires_at for role in ROLES if role in signed}
    return tuple(
        SignatureLine(
            role=role,
            version=signed[role].version,
            expires_at=end,
            renews_itself=role in ONLINE,
            is_due=needs_somebody(role, end, now),
            is_expired=end <= now,
        )
        for role, end in ends.items()
    )


def _notices(
    fleet: Fleet,
    reports: Sequence[Report],
    spending: Spending,
    signatures: Iterable[SignatureLine],
    now: datetime,
) -> tuple[Notice, ...]:
    """The worst first."""
    found = [
        *_notices_of_signatures(signatures, now),
        *_notices_of_rollouts(reports),
        *_notices_of_fleet(fleet),
    ]
    if spending.over:
        devices = number_of(spending.over, "device")
        found.append(Notice(Level.LOOK, f"{devices} used up the month's budget", "bytes"))
    return tuple(sorted(found, key=lambda notice: notice.level is not Level.BAD))


def _notices_of_signatures(signatures: Iterable[SignatureLine], now: datetime) -> list[Notice]:
    found = []
    for line in signatures:
        distance = about(line.expires_at - now)
        if line.is_expired and not line.renews_itself:
            text = f"the signature of {line.role} expired {distance} ago: devices take no updates"
            found.append(Notice(Level.BAD, text, "signing"))
        elif line.is_due:
            text = f"the signature of {line.role} expires in {distance}"
            found.append(Notice(Level.LOOK, text, "signing"))
    return found


def _notices_of_rollouts(reports: Sequence[Report]) -> list[Notice]:
    found = []
    for report in reports:
        rollout = report.rollout
        title = f"rollout {rollout.rollout_id[:4]} of {rollout.model}"
        if rollout.state is State.PAUSED_THRESHOLD:
            why = rollout.progress.reason
            found.append(Notice(Level.BAD, f"{title} paused itself: {why}", "rollouts"))
        elif rollout.state is State.PAUSED_MANUAL:
            found.append(Notice(Level.LOOK, f"{title} is paused", "rollouts"))
    return found


def _notices_of_fleet(fleet: Fleet) -> list[Notice]:
    found = []
    if fleet.rivals:
        keys = number_of(fleet.rivals, "key wants", "keys want")
        text = f"{keys} the id of a device that has another key, or waits for it, too"
        found.append(Notice(Level.BAD, text, "waiting"))
    waiting = fleet.waiting.total - fleet.rivals
    if waiting:
        devices = number_of(waiting, "device waits", "devices wait")
        found.append(Notice(Level.LOOK, f"{devices} to be accepted", "waiting"))
    failed, silent = fleet.states[DeviceState.FAILED], fleet.states[DeviceState.SILENT]
    if failed:
        devices = number_of(failed, "device")
        found.append(Notice(Level.LOOK, f"the last update of {devices} failed", "look"))
    if silent:
        devices = number_of(silent, "device was", "devices were")
        text = f"{devices} not heard of for {about(SILENT_AFTER)} or longer"
        found.append(Notice(Level.LOOK, text, "look"))
    return found

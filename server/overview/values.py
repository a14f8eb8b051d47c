"""What an overview says.

Lists are bounded, and a list that was cut says how many there are. Times are UTC.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Generic, TypeVar

from server.registry.audit import AuditEntry
from server.registry.fleet import FailureFacts
from server.rollouts.report import Report
from server.status import ModelStatus

Item = TypeVar("Item")


class DeviceState(StrEnum):
    """How a device does. Each is in one state: the first of these that holds."""

    SILENT = "silent"
    """Not heard of for longer than it was ever told to stay away."""
    UPDATING = "updating"
    """An attempt is open."""
    FAILED = "failed"
    """Its newest attempt failed, and it runs something else."""
    STEADY = "steady"


class Level(StrEnum):
    """How much a notice matters."""

    BAD = "bad"
    LOOK = "look"


@dataclass(frozen=True)
class Bounded(Generic[Item]):
    """The first items of a list, and how many it has."""

    items: tuple[Item, ...]
    total: int

    @classmethod
    def of(cls, items: tuple[Item, ...], most: int) -> "Bounded[Item]":
        """Cut a list."""
        return cls(items[:most], len(items))


@dataclass(frozen=True)
class Notice:
    """Something that an operator should know of, and the part of the overview that says more."""

    level: Level
    text: str
    part: str


@dataclass(frozen=True)
class ModelOverview:
    """A model: its generations with sizes and devices, and by generation how the devices do.

    Attributes:
        states: By generation (None: nothing installed yet), only those that some device runs.
        revoked: Generations that no device may install any more.
    """

    status: ModelStatus
    states: Mapping[int | None, Mapping[DeviceState, int]]
    revoked: frozenset[int]


@dataclass(frozen=True)
class DeviceLine:
    """A device that is worth a look.

    Attributes:
        since: When it failed, or was last heard of.
        reason: The code of its failure; empty where it is silent.
        target: The generation that it failed to reach.
    """

    device_id: str
    name: str
    model: str
    installed: int | None
    state: DeviceState
    since: datetime
    reason: str
    target: int | None


@dataclass(frozen=True)
class WaitingKey:
    """A key that wants to be a device's; `is_rival` is an alert."""

    key: str
    device_id: str
    name: str
    model: str
    requested_at: datetime
    is_rival: bool


@dataclass(frozen=True)
class Fleet:
    """The devices in service.

    Attributes:
        devices: How many.
        states: How they do.
        worth_a_look: Failed ones, the newest first, then silent ones, the longest first.
        waiting: Keys that wait for an operator, alerts first.
        rivals: How many of those are alerts.
        decommissioned: Devices that are out of service.
    """

    devices: int
    states: Mapping[DeviceState, int]
    worth_a_look: Bounded[DeviceLine]
    waiting: Bounded[WaitingKey]
    rivals: int
    decommissioned: int


@dataclass(frozen=True)
class DeviceSpending:
    """What a device spent this month; `budget_bytes` is None where nothing limits it."""

    device_id: str
    name: str
    model: str
    spent_bytes: int
    budget_bytes: int | None

    @property
    def share(self) -> float | None:
        """Spent of the budget; over 1 where it is over. None without a budget."""
        if self.budget_bytes is None:
            return None
        if self.budget_bytes == 0:
            return 1.0 if self.spent_bytes == 0 else math.inf
        return self.spent_bytes / self.budget_bytes


@dataclass(frozen=True)
class Spending:
    """Bytes of the calendar month, as devices reported them.

    A device's budget is its own, or that of the newest rollout that offers it something.

    Attributes:
        month: Its first day.
        spent_bytes: By all devices.
        limited: Devices that have a budget.
        limited_spent_bytes: What those spent.
        budget_bytes: The sum of their budgets.
        over: How many of them spent all of it, or more.
        nearest: Those that spent the largest share of it, first; without any budgets, those that
            spent most.
    """

    month: date
    spent_bytes: int
    limited: int
    limited_spent_bytes: int
    budget_bytes: int
    over: int
    nearest: Bounded[DeviceSpending]

    @property
    def share(self) -> float | None:
        """Spent of all budgets, by devices that have one; None where that says nothing."""
        return self.limited_spent_bytes / self.budget_bytes if self.budget_bytes else None


@dataclass(frozen=True)
class SignatureLine:
    """A role's newest metadata.

    Attributes:
        renews_itself: A server signs it anew when it is due and a device asks.
        is_due: A person should sign it anew.
        is_expired: Devices refuse it.
    """

    role: str
    version: int
    expires_at: datetime
    renews_itself: bool
    is_due: bool
    is_expired: bool


@dataclass(frozen=True)
class Overview:
    """The fleet as it was at a time.

    Attributes:
        notices: What an operator should know first; empty where all is well.
        rollouts: Those that have not ended first, then the newest.
        failures: Of the last days, the most frequent first.
        failures_since: When those days began.
        audit: The newest changes first.
    """

    at: datetime
    notices: tuple[Notice, ...]
    models: tuple[ModelOverview, ...]
    fleet: Fleet
    rollouts: Bounded[Report]
    spending: Spending
    failures: tuple[FailureFacts, ...]
    failures_since: datetime
    signatures: tuple[SignatureLine, ...]
    audit: tuple[AuditEntry, ...]

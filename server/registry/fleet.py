"""The fleet at a glance: what an overview is made of, by a fixed number of queries.

    >>> FleetRecords(home.registry).devices(now)

Reads only. No query's cost grows with the reports ever made; `devices` reads a line for each
device in service, the others are bounded or grouped.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session, aliased

from server.clock import month_of
from server.domain import OPEN_STATES, AttemptState
from server.registry.audit import AuditEntry, AuditRow
from server.registry.rollout_rows import DeviceSettingRow, MonthlyBytesRow
from server.registry.rows import AttemptRow, DeviceRow
from server.registry.transactions import Transactions


@dataclass(frozen=True)
class LastFailure:
    """The newest attempt of a device, which failed and left it where it was."""

    target: int
    code: str
    at: datetime


@dataclass(frozen=True)
class DeviceFacts:
    """A device in service.

    Attributes:
        installed: The generation that it ran when it was last heard of; None: nothing.
        budget_bytes: Its own monthly budget; None: it has none.
        spent_bytes: What it reported this month.
        is_updating: An attempt of it is open.
        failure: Its newest attempt, where that failed.
    """

    device_id: str
    name: str
    model: str
    installed: int | None
    seen_at: datetime
    budget_bytes: int | None
    spent_bytes: int
    is_updating: bool
    failure: LastFailure | None


@dataclass(frozen=True)
class FailureFacts:
    """Attempts at generations of a model that failed for one reason."""

    model: str
    code: str
    attempts: int
    devices: int
    first_at: datetime
    last_at: datetime


class FleetRecords:
    """What the registry knows of the fleet as a whole; each method is one transaction."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def devices(self, now: datetime) -> tuple[DeviceFacts, ...]:
        """Every device in service, by model and id."""
        month = month_of(now)
        with self._transactions.reading() as session:
            updating = frozenset(
                session.scalars(
                    select(AttemptRow.device_id).where(AttemptRow.state.in_(OPEN_STATES))
                )
            )
            failures = _last_failures(session)
            rows = session.execute(
                select(
                    DeviceRow.device_id,
                    DeviceRow.name,
                    DeviceRow.model,
                    DeviceRow.installed,
                    DeviceRow.seen_at,
                    DeviceSettingRow.monthly_bytes,
                    func.coalesce(MonthlyBytesRow.bytes_spent, 0),
                )
                .outerjoin(DeviceSettingRow, DeviceSettingRow.device_id == DeviceRow.device_id)
                .outerjoin(
                    MonthlyBytesRow,
                    (MonthlyBytesRow.device_id == DeviceRow.device_id)
                    & (MonthlyBytesRow.month == month),
                )
                .where(DeviceRow.decommissioned_at.is_(None))
                .order_by(DeviceRow.model, DeviceRow.device_id)
            )
            return tuple(
                DeviceFacts(*row, row[0] in updating, failures.get(row[0])) for row in rows
            )

    def decommissioned(self) -> int:
        """How many devices are out of service."""
        with self._transactions.reading() as session:
            gone = DeviceRow.decommissioned_at.is_not(None)
            return session.scalar(select(func.count()).select_from(DeviceRow).where(gone)) or 0

    def failures(self, since: datetime, limit: int) -> tuple[FailureFacts, ...]:
        """Failed attempts that ended since a time, by model and code, the most frequent first."""
        reason, number = func.coalesce(AttemptRow.code, ""), func.count()
        with self._transactions.reading() as session:
            rows = session.execute(
                select(
                    DeviceRow.model,
                    reason,
                    number,
                    func.count(AttemptRow.device_id.distinct()),
                    func.min(AttemptRow.ended_at),
                    func.max(AttemptRow.ended_at),
                )
                .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
                .where(AttemptRow.state == AttemptState.FAILED, AttemptRow.ended_at >= since)
                .group_by(DeviceRow.model, reason)
                .order_by(number.desc(), DeviceRow.model, reason)
                .limit(limit)
            )
            return tuple(
                FailureFacts(model, code, attempts, devices, first_at, last_at)
                for model, code, attempts, devices, first_at, last_at in rows
                if first_at is not None and last_at is not None
            )

    def newest_audit(self, limit: int) -> tuple[AuditEntry, ...]:
        """The newest entries of the audit log, the newest first."""
        with self._transactions.reading() as session:
            newest = select(AuditRow).order_by(AuditRow.number.desc()).limit(limit)
            return tuple(
                AuditEntry(
                    row.number, row.at, row.actor, row.action, row.subject, json.loads(row.details)
                )
                for row in session.scalars(newest)
            )


def _last_failures(session: Session) -> dict[str, LastFailure]:
    """By device: its newest attempt, where that failed and the device runs something else."""
    later = aliased(AttemptRow)
    rows = session.execute(
        select(AttemptRow.device_id, AttemptRow.target, AttemptRow.code, AttemptRow.ended_at)
        .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
        .where(
            AttemptRow.state == AttemptState.FAILED,
            AttemptRow.ended_at.is_not(None),
            or_(DeviceRow.installed.is_(None), DeviceRow.installed != AttemptRow.target),
            ~select(later.attempt_id)
            .where(
                later.device_id == AttemptRow.device_id, later.created_at > AttemptRow.created_at
            )
            .exists(),
        )
    )
    return {
        device: LastFailure(target, code or "", at)
        for device, target, code, at in rows
        if at is not None
    }

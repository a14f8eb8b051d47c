"""Who changed what, and when: rows that are only ever added.

An entry is written in the transaction of the change that it tells of, so neither is ever there
without the other: server.registry.transactions has an example.
"""

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from server.registry.rows import NAME_LENGTH, Row, UtcDateTime

ACTION_LENGTH = 64
SERVER = "server"
"""The actor of what a server does by itself: steps of rollouts, ways back."""


@dataclass(frozen=True)
class AuditEntry:
    """One change.

    Attributes:
        at: UTC.
        actor: `operator:NAME`, `local:USER`, `server` for what one does by itself, `enrolment` for
            whoever holds ca.pem, or `policy` for a rule of the fleet.
        action: What was done, such as `device.accept`.
        subject: What it was done to: a device, a generation, a key, a rollout.
        details: More, as JSON has it.
    """

    number: int
    at: datetime
    actor: str
    action: str
    subject: str
    details: Mapping[str, object]


class AuditRow(Row):
    """An entry; nothing updates or deletes one."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    actor: Mapped[str] = mapped_column(String(NAME_LENGTH))
    action: Mapped[str] = mapped_column(String(ACTION_LENGTH))
    subject: Mapped[str] = mapped_column(String(NAME_LENGTH))
    details: Mapped[str] = mapped_column(Text)


def local_actor() -> str:
    """Who changes a home on its own machine: the account, which may have no name."""
    try:
        return f"local:{getpass.getuser()}"
    except (KeyError, OSError):
        return "local"


def record(
    session: Session,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, object],
    now: datetime,
) -> None:
    """Add an entry to the transaction of the change that it tells of."""
    session.add(
        AuditRow(
            at=now,
            actor=actor[:NAME_LENGTH],
            action=action,
            subject=subject[:NAME_LENGTH],
            details=json.dumps(details, ensure_ascii=False, sort_keys=True),
        )
    )


def entries(session: Session, since: datetime | None = None) -> tuple[AuditEntry, ...]:
    """Entries in the order in which they were written, from a time on."""
    wanted = select(AuditRow).order_by(AuditRow.number)
    if since is not None:
        wanted = wanted.where(AuditRow.at >= since)
    return tuple(
        AuditEntry(row.number, row.at, row.actor, row.action, row.subject, json.loads(row.details))
        for row in session.scalars(wanted)
    )

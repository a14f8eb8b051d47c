"""How many there are of what, over a whole registry; one transaction that reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from server.domain import AttemptState
from server.identity.keys import KeyState
from server.registry.key_rows import DeviceKeyRow
from server.registry.registry import Registry
from server.registry.rollout_rows import RolloutRow
from server.registry.rows import AttemptRow, DeviceRow
from server.registry.signing_rows import MetadataRow
from server.rollouts.states import State
from server.signing.roles import family_of

One = TypeVar("One")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Census:
    """Counts of one moment.

    Attributes:
        devices: In service, by model and by the generation that they run (None: nothing yet).
        attempts: By state and, where they failed or were ended, by code.
        rollouts: By model and state.
        keys: Of devices and of those that want to be, by state.
        expiries: When the newest metadata of each role ends; of `releases`, the first of its lists.
    """

    devices: Mapping[tuple[str, int | None], int]
    attempts: Mapping[tuple[AttemptState, str | None], int]
    rollouts: Mapping[tuple[str, State], int]
    keys: Mapping[KeyState, int]
    expiries: Mapping[str, datetime]


def census(registry: Registry) -> Census:
    """Count.

    Raises:
        RegistryError: the database cannot be read.
    """
    by_state = select(DeviceKeyRow.state, func.count()).group_by(DeviceKeyRow.state)
    in_service = DeviceRow.decommissioned_at.is_(None)
    with registry.reading() as session:
        return Census(
            devices=_counts(session, DeviceRow.model, DeviceRow.installed, in_service),
            attempts=_counts(session, AttemptRow.state, AttemptRow.code),
            rollouts=_counts(session, RolloutRow.model, RolloutRow.state),
            keys={row[0]: row[1] for row in session.execute(by_state)},
            expiries=_expiries(session),
        )


def _counts(
    session: Session,
    one: InstrumentedAttribute[One],
    other: InstrumentedAttribute[Other],
    *which: ColumnElement[bool],
) -> dict[tuple[One, Other], int]:
    rows = session.execute(select(one, other, func.count()).where(*which).group_by(one, other))
    return {(row[0], row[1]): row[2] for row in rows}


def _expiries(session: Session) -> dict[str, datetime]:
    newest = (
        select(MetadataRow.role, func.max(MetadataRow.version).label("version"))
        .group_by(MetadataRow.role)
        .subquery()
    )
    rows = session.execute(
        select(MetadataRow.role, MetadataRow.expires_at).join(
            newest,
            (newest.c.role == MetadataRow.role) & (newest.c.version == MetadataRow.version),
        )
    )
    ends: dict[str, datetime] = {}
    for role, end in rows:
        family = family_of(role)
        ends[family] = min(end, ends.get(family, end))
    return ends

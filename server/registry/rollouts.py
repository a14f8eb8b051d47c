"""Rollouts, and what they know of devices; each method is one transaction.

    >>> registry.rollouts.swap(seen, changed)      # ConflictError where somebody else was faster

A change names the version that it saw, so that of any number of servers one makes it. Functions
over a session, below, are for transactions of server.registry.registry that rollouts are part of.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from server.domain import OPEN_STATES, Attempt, AttemptState, EndCode, Report
from server.errors import ConflictError, NotFoundError
from server.registry import database
from server.registry.rollout_rows import (
    DeviceAttributeRow,
    DeviceSettingRow,
    GroupRow,
    MonthlyBytesRow,
    PhaseRow,
    RolloutRow,
)
from server.registry.rollout_values import fixed_values, moving_values, rollouts_of
from server.registry.rows import AttemptRow, DeviceRow, ReportRow
from server.rollouts.rollout import Channel, Counts, Member, Rollout
from server.rollouts.states import OFFERING, State

Sessions = Callable[[], AbstractContextManager[Session]]

# A failed attempt of a device that could not reach the server tells nothing of the generation.
FAILED = and_(
    AttemptRow.state == AttemptState.FAILED,
    AttemptRow.code.is_distinct_from(EndCode.SERVER_UNAVAILABLE),
)
TRIED = or_(
    FAILED,
    and_(AttemptRow.state == AttemptState.SUPERSEDED, AttemptRow.code == EndCode.RESTARTED),
)
IS_OPEN = AttemptRow.state.in_(OPEN_STATES)


@dataclass(frozen=True)
class Surroundings:
    """What a check-in is decided by, beside what the device says.

    Attributes:
        rollouts: Those of the device's model that may offer something, and the first one; oldest
            first. Empty where the model never had one.
        member: The device; `installed` is what it ran when it was last heard of.
        budget_bytes: Its own monthly budget; None: it has none.
        used_bytes: What it reported this month.
        tries: Attempts that it ended without success, by rollout.
    """

    rollouts: tuple[Rollout, ...]
    member: Member
    budget_bytes: int | None = None
    used_bytes: int = 0
    tries: Mapping[str, int] = field(default_factory=dict)


class RolloutRegistry:
    """Rollouts in the registry's database."""

    def __init__(self, reading: Sessions, writing: Sessions) -> None:
        self._reading = reading
        self._writing = writing

    # ---- rollouts

    def create(self, rollout: Rollout) -> None:
        """Add a rollout.

        Raises:
            ConflictError: there is one of this id, or one that undoes the same rollout, or a
                generation that it names is not there.
        """
        with self._writing() as session:
            session.add(RolloutRow(**fixed_values(rollout), **moving_values(rollout), version=0))
            session.flush()
            session.add_all(
                PhaseRow(
                    rollout_id=rollout.rollout_id,
                    number=number,
                    percent=phase.percent,
                    devices=phase.devices,
                )
                for number, phase in enumerate(rollout.phases)
            )
            session.add_all(
                GroupRow(rollout_id=rollout.rollout_id, key=key, value=value)
                for key, value in rollout.groups
            )

    def find(self, name: str) -> Rollout:
        """A rollout by its id, or by the first digits of it.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        with self._reading() as session:
            wanted = RolloutRow.rollout_id.startswith(name, autoescape=True)
            rows = session.scalars(select(RolloutRow).where(wanted).limit(2)).all()
            if not name or not rows:
                raise NotFoundError(f"expected a known rollout, found {name!r}")
            if len(rows) > 1:
                raise NotFoundError(f"expected one rollout, found several that begin with {name!r}")
            return rollouts_of(session, rows)[0]

    def all(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Every rollout, of one model or of all, oldest first."""
        with self._reading() as session:
            query = select(RolloutRow).order_by(RolloutRow.created_at, RolloutRow.rollout_id)
            if model is not None:
                query = query.where(RolloutRow.model == model)
            return rollouts_of(session, session.scalars(query).all())

    def in_states(self, states: Collection[State]) -> tuple[Rollout, ...]:
        """Every rollout in one of these states, oldest first."""
        with self._reading() as session:
            query = select(RolloutRow).where(RolloutRow.state.in_(states))
            ordered = query.order_by(RolloutRow.created_at, RolloutRow.rollout_id)
            return rollouts_of(session, session.scalars(ordered).all())

    def undoing(self, rollout_id: str) -> Rollout | None:
        """The rollout that takes another one's target back."""
        with self._reading() as session:
            query = select(RolloutRow).where(RolloutRow.undoes == rollout_id)
            return next(iter(rollouts_of(session, session.scalars(query).all())), None)

    def swap(self, seen: Rollout, changed: Rollout, now: datetime) -> Rollout:
        """Change a rollout that is still as it was seen; one that stops withdraws its attempts.

        Raises:
            ConflictError: somebody else changed it meanwhile; nothing was changed here.
        """
        with self._writing() as session:
            swapped = session.scalar(
                update(RolloutRow)
                .where(RolloutRow.rollout_id == seen.rollout_id, RolloutRow.version == seen.version)
                .values(**moving_values(changed), version=seen.version + 1)
                .returning(RolloutRow.version)
            )
            if swapped is None:
                raise ConflictError(
                    f"rollout {seen.rollout_id}: expected it to be {seen.state} still, found that "
                    "somebody else has changed it"
                )
            if changed.state.withdraws:
                _end(
                    session,
                    AttemptState.SUPERSEDED,
                    EndCode.WITHDRAWN,
                    now,
                    [AttemptRow.rollout_id == seen.rollout_id],
                )
        return self.find(seen.rollout_id)

    # ---- attempts of rollouts

    def counts(self, rollout: Rollout) -> Counts:
        """What the devices of a rollout did."""
        with self._reading() as session:
            return _counts(session, rollout)

    def took(self, rollout: Rollout) -> frozenset[str]:
        """The devices that reached the target by this rollout."""
        with self._reading() as session:
            ids = session.scalars(
                select(AttemptRow.device_id)
                .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
                .where(AttemptRow.rollout_id == rollout.rollout_id, _reached(rollout))
            )
            return frozenset(ids)

    def failures(self, rollout_id: str) -> dict[str, int]:
        """How many attempts of a rollout failed, by their codes."""
        with self._reading() as session:
            code = func.coalesce(AttemptRow.code, "")
            rows = session.execute(
                select(code, func.count())
                .where(AttemptRow.rollout_id == rollout_id, AttemptRow.state == AttemptState.FAILED)
                .group_by(code)
                .order_by(code)
            )
            return {row[0]: row[1] for row in rows}

    def end_silent(self, now: datetime, without_rollout: timedelta) -> int:
        """End every open attempt that was silent for longer than it may be: FAILED, TIMED_OUT.

        Args:
            now: The time.
            without_rollout: What attempts that no rollout sent may be.

        Returns:
            How many.
        """
        with self._reading() as session:
            names = session.scalars(select(AttemptRow.rollout_id).where(IS_OPEN).distinct()).all()
            if not names:
                return 0
            timeouts: dict[str | None, timedelta] = {
                row.rollout_id: row.attempt_timeout_s
                for row in session.scalars(
                    select(RolloutRow).where(RolloutRow.rollout_id.in_([n for n in names if n]))
                )
            }
        ended = 0
        for name in names:
            limit = now - timeouts.get(name, without_rollout)
            with self._writing() as session:
                ended += _end(
                    session,
                    AttemptState.FAILED,
                    EndCode.TIMED_OUT,
                    now,
                    [
                        AttemptRow.rollout_id.is_not_distinct_from(name),
                        AttemptRow.created_at < limit,
                        ~select(ReportRow.attempt_id)
                        .where(
                            ReportRow.attempt_id == AttemptRow.attempt_id,
                            ReportRow.received_at >= limit,
                        )
                        .exists(),
                    ],
                )
        return ended

    # ---- devices

    def population(self, model: str) -> tuple[Member, ...]:
        """Every device of a model that is not decommissioned."""
        with self._reading() as session:
            attributes = _attributes(session, model)
            rows = session.execute(
                select(DeviceRow.device_id, DeviceRow.installed, DeviceSettingRow.channel)
                .outerjoin(DeviceSettingRow, DeviceSettingRow.device_id == DeviceRow.device_id)
                .where(DeviceRow.model == model, DeviceRow.decommissioned_at.is_(None))
            )
            return tuple(
                Member(name, channel or Channel.STABLE, attributes.get(name, {}), installed)
                for name, installed, channel in rows
            )

    def surroundings(self, device_id: str, model: str, now: datetime) -> Surroundings:
        """What a device's check-in is decided by."""
        with self._reading() as session:
            setting = session.get(DeviceSettingRow, device_id)
            budget_bytes = setting.monthly_bytes if setting is not None else None
            channel = setting.channel if setting is not None else Channel.STABLE
            rollouts = _offering(session, model)
            if not rollouts and budget_bytes is None:
                return Surroundings((), Member(device_id, channel))
            spent = session.get(MonthlyBytesRow, (device_id, _month(now)))
            return Surroundings(
                rollouts,
                Member(device_id, channel, _attributes_of(session, device_id)),
                budget_bytes,
                spent.bytes_spent if spent is not None else 0,
                _tries(session, device_id) if rollouts else {},
            )

    def member(self, device_id: str) -> tuple[Member, int | None]:
        """A device as rollouts see it, and its own monthly budget.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self._reading() as session:
            device = session.get(DeviceRow, device_id)
            if device is None:
                raise NotFoundError(f"expected an enrolled device, found {device_id!r}")
            setting = session.get(DeviceSettingRow, device_id)
            channel = setting.channel if setting is not None else Channel.STABLE
            found = _attributes_of(session, device_id)
            budget_bytes = setting.monthly_bytes if setting is not None else None
            return Member(device_id, channel, found, device.installed), budget_bytes

    def set_up(self, member: Member, budget_bytes: int | None) -> None:
        """Replace channel, attributes and monthly budget of a device.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self._writing() as session:
            if session.get(DeviceRow, member.device_id) is None:
                raise NotFoundError(f"expected an enrolled device, found {member.device_id!r}")
            session.merge(
                DeviceSettingRow(
                    device_id=member.device_id, channel=member.channel, monthly_bytes=budget_bytes
                )
            )
            session.execute(
                delete(DeviceAttributeRow).where(DeviceAttributeRow.device_id == member.device_id)
            )
            session.add_all(
                DeviceAttributeRow(device_id=member.device_id, key=key, value=value)
                for key, value in member.attributes.items()
            )


def admits(session: Session, attempt: Attempt) -> bool:
    """Whether the rollout of an attempt lets it begin, in the transaction that would begin it.

    The row stays locked until that ends, so a rollout that stops sees every attempt it let begin.
    """
    if attempt.rollout_id is None:
        return True
    wanted = RolloutRow.rollout_id == attempt.rollout_id
    limit = session.scalars(select(RolloutRow.maximum_in_flight).where(wanted)).one()
    # Where attempts are counted they come one by one; otherwise they only keep the state.
    locked = select(RolloutRow).where(wanted).with_for_update(read=limit is None)
    if not session.scalars(locked).one().state.is_offering:
        return False
    if limit is None:
        return True
    under_way = select(func.count()).where(AttemptRow.rollout_id == attempt.rollout_id, IS_OPEN)
    return session.scalars(under_way).one() < limit


def add_bytes(session: Session, report: Report, now: datetime) -> None:
    """Add what a new report says to its device's month.

    Reports of an attempt say what was spent until then, so only what is more than before counts.
    """
    spent = report.bytes_sent + report.bytes_received
    before = session.scalar(
        select(func.max(ReportRow.bytes_sent + ReportRow.bytes_received)).where(
            ReportRow.attempt_id == report.attempt_id
        )
    )
    more = max(0, spent - (before or 0))
    values = {"device_id": report.device_id, "month": _month(now), "bytes_spent": more}
    is_postgres = session.get_bind().dialect.name == database.POSTGRES
    statement: Any = (postgresql if is_postgres else sqlite).insert(MonthlyBytesRow)
    session.execute(
        statement.values(**values).on_conflict_do_update(
            index_elements=["device_id", "month"],
            set_={"bytes_spent": MonthlyBytesRow.bytes_spent + more},
        )
    )


def _end(
    session: Session,
    state: AttemptState,
    code: EndCode,
    now: datetime,
    wanted: Sequence[ColumnElement[bool]],
) -> int:
    """End open attempts; one that has moved on meanwhile is open no more and stays."""
    ended = session.scalars(
        update(AttemptRow)
        .where(IS_OPEN, *wanted)
        .values(state=state, code=code, ended_at=now)
        .returning(AttemptRow.attempt_id)
        .execution_options(synchronize_session=False)
    )
    return len(ended.all())


def _reached(rollout: Rollout) -> ColumnElement[bool]:
    """An attempt, beside its device, that led to the target, whether its report came or not."""
    return or_(AttemptRow.state == AttemptState.COMMITTED, DeviceRow.installed == rollout.target)


def _counts(session: Session, rollout: Rollout) -> Counts:
    since = rollout.progress.judged_since
    ended = AttemptRow.ended_at >= since if since else AttemptRow.ended_at.is_not(None)
    by_device = (
        select(
            AttemptRow.device_id,
            _any(_reached(rollout)).label("is_done"),
            _any(and_(FAILED, ended)).label("has_failed"),
            _any(ended).label("has_ended"),
            func.sum(case((TRIED, 1), else_=0)).label("tries"),
            func.sum(case((IS_OPEN, 1), else_=0)).label("open"),
        )
        .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
        .where(AttemptRow.rollout_id == rollout.rollout_id)
        .group_by(AttemptRow.device_id)
        .subquery()
    )
    of = by_device.c
    is_done = of.is_done == 1
    gave_up = and_(of.tries >= rollout.policy.maximum_attempts, of.has_ended == 1)
    failed = and_(of.is_done == 0, or_(of.has_failed == 1, gave_up))
    found = session.execute(
        select(
            _number(is_done),
            _number(and_(is_done, of.has_ended == 1)),
            _number(failed),
            func.coalesce(func.sum(of.open), 0),
        )
    ).one()
    return Counts(*map(int, found))


def _any(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.max(case((condition, 1), else_=0))


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _offering(session: Session, model: str) -> tuple[Rollout, ...]:
    """The rollouts of a model that may offer something, and its first one."""
    ordered = (
        select(RolloutRow)
        .where(RolloutRow.model == model)
        .order_by(RolloutRow.created_at, RolloutRow.rollout_id)
    )
    first = session.scalar(ordered.where(RolloutRow.undoes.is_(None)).limit(1))
    if first is None:
        return ()
    wanted = or_(RolloutRow.state.in_(OFFERING), RolloutRow.rollout_id == first.rollout_id)
    return rollouts_of(session, session.scalars(ordered.where(wanted)).all())


def _tries(session: Session, device_id: str) -> dict[str, int]:
    # Who checks in has given up what it began.
    given_up = or_(TRIED, AttemptRow.state == AttemptState.STARTED)
    rows = session.execute(
        select(AttemptRow.rollout_id, func.count())
        .where(AttemptRow.device_id == device_id, AttemptRow.rollout_id.is_not(None), given_up)
        .group_by(AttemptRow.rollout_id)
    )
    return {str(row[0]): row[1] for row in rows}


def _attributes(session: Session, model: str) -> Mapping[str, Mapping[str, str]]:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    rows = session.scalars(
        select(DeviceAttributeRow)
        .join(DeviceRow, DeviceRow.device_id == DeviceAttributeRow.device_id)
        .where(DeviceRow.model == model)
    )
    for row in rows:
        found[row.device_id][row.key] = row.value
    return found


def _attributes_of(session: Session, device_id: str) -> dict[str, str]:
    rows = session.scalars(
        select(DeviceAttributeRow)
        .where(DeviceAttributeRow.device_id == device_id)
        .order_by(DeviceAttributeRow.key)
    )
    return {row.key: row.value for row in rows}


def _month(now: datetime) -> date:
    return now.astimezone(UTC).date().replace(day=1)

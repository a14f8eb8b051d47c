"""Rollouts, and what they know of devices; each method is one transaction.

    >>> registry.rollouts.swap(seen, changed)      # ConflictError where somebody else was faster

A change names the version that it saw, so that of any number of servers one makes it. What
operators and servers change is in the audit log; what attempts and reports change is not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from server.domain import Attempt, AttemptState, EndCode
from server.errors import ConflictError, NotFoundError
from server.registry.attempts import IS_OPEN, counts, end_open, reached, tries
from server.registry.members import (
    attributes_by_device,
    attributes_of,
    require_device,
    settings_of,
    spent_bytes,
)
from server.registry.rollout_rows import (
    DeviceAttributeRow,
    DeviceSettingRow,
    GroupRow,
    PhaseRow,
    RolloutRow,
)
from server.registry.rollout_values import fixed_values, moving_values, rollouts_of
from server.registry.rows import AttemptRow, DeviceRow, ReportRow
from server.registry.transactions import Transactions
from server.rollouts.rollout import Channel, Counts, Member, Rollout
from server.rollouts.states import OFFERING, State

OLDEST_FIRST = select(RolloutRow).order_by(RolloutRow.created_at, RolloutRow.rollout_id)


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


class RolloutRecords:
    """Rollouts in the registry's database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    # ---- rollouts

    def create(self, rollout: Rollout) -> None:
        """Add a rollout.

        Raises:
            ConflictError: there is one of this id, or one that undoes the same rollout, or a
                generation that it names is not there.
        """
        with self._transactions.writing() as session:
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
            details = {
                "model": rollout.model,
                "target": rollout.target,
                "channel": rollout.channel,
                "undoes": rollout.undoes,
            }
            self._transactions.record(
                session, "rollout.create", rollout.rollout_id, details, rollout.created_at
            )

    def find(self, name: str) -> Rollout:
        """A rollout by its id, or by the first digits of it.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        with self._transactions.reading() as session:
            wanted = RolloutRow.rollout_id.startswith(name, autoescape=True)
            rows = session.scalars(select(RolloutRow).where(wanted).limit(2)).all()
            if not name or not rows:
                raise NotFoundError(f"expected a known rollout, found {name!r}")
            if len(rows) > 1:
                raise NotFoundError(f"expected one rollout, found several that begin with {name!r}")
            return rollouts_of(session, rows)[0]

    def all(self, model: str | None = None) -> tuple[Rollout, ...]:
        """Every rollout, of one model or of all, oldest first."""
        with self._transactions.reading() as session:
            query = OLDEST_FIRST if model is None else OLDEST_FIRST.where(RolloutRow.model == model)
            return rollouts_of(session, session.scalars(query))

    def in_states(self, states: Collection[State]) -> tuple[Rollout, ...]:
        """Every rollout in one of these states, oldest first."""
        with self._transactions.reading() as session:
            query = OLDEST_FIRST.where(RolloutRow.state.in_(states))
            return rollouts_of(session, session.scalars(query))

    def undoing(self, rollout_id: str) -> Rollout | None:
        """The rollout that takes another one's target back."""
        with self._transactions.reading() as session:
            query = select(RolloutRow).where(RolloutRow.undoes == rollout_id)
            return next(iter(rollouts_of(session, session.scalars(query))), None)

    def swap(self, seen: Rollout, changed: Rollout, now: datetime) -> Rollout:
        """Change a rollout that is still as it was seen; one that stops withdraws its attempts.

        Returns:
            What is in the registry now.

        Raises:
            ConflictError: somebody else changed it meanwhile; nothing was changed here.
        """
        with self._transactions.writing() as session:
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
                own = AttemptRow.rollout_id == seen.rollout_id
                end_open(session, AttemptState.SUPERSEDED, EndCode.WITHDRAWN, now, own)
            details = {
                "before": seen.state,
                "after": changed.state,
                "phase": changed.progress.phase,
                "reason": changed.progress.reason,
            }
            self._transactions.record(session, "rollout.change", seen.rollout_id, details, now)
        return replace(changed, version=seen.version + 1)

    # ---- attempts of rollouts

    def counts(self, rollout: Rollout) -> Counts:
        """What the devices of a rollout did."""
        with self._transactions.reading() as session:
            return counts(session, rollout)

    def took(self, rollout: Rollout) -> frozenset[str]:
        """The devices that reached the target by this rollout."""
        with self._transactions.reading() as session:
            ids = session.scalars(
                select(AttemptRow.device_id)
                .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
                .where(AttemptRow.rollout_id == rollout.rollout_id, reached(rollout))
            )
            return frozenset(ids)

    def failures(self, rollout_id: str) -> dict[str, int]:
        """How many attempts of a rollout failed, by their codes."""
        with self._transactions.reading() as session:
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
        with self._transactions.reading() as session:
            names = session.scalars(select(AttemptRow.rollout_id).where(IS_OPEN).distinct()).all()
            if not names:
                return 0
            known = select(RolloutRow.rollout_id, RolloutRow.attempt_timeout_s)
            wanted = RolloutRow.rollout_id.in_([name for name in names if name is not None])
            timeouts = {row[0]: row[1] for row in session.execute(known.where(wanted))}
        silent = or_(
            *(
                _silent_since(name, now - timeouts.get(name or "", without_rollout))
                for name in names
            )
        )
        with self._transactions.writing() as session:
            return end_open(session, AttemptState.FAILED, EndCode.TIMED_OUT, now, silent)

    # ---- devices

    def population(self, model: str) -> tuple[Member, ...]:
        """Every device of a model that is not decommissioned."""
        with self._transactions.reading() as session:
            attributes = attributes_by_device(session, model)
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
        with self._transactions.reading() as session:
            channel, budget_bytes = settings_of(session, device_id)
            rollouts = _offering(session, model)
            if not rollouts and budget_bytes is None:
                return Surroundings((), Member(device_id, channel))
            return Surroundings(
                rollouts,
                Member(device_id, channel, attributes_of(session, device_id)),
                budget_bytes,
                spent_bytes(session, device_id, now),
                tries(session, device_id) if rollouts else {},
            )

    def member(self, device_id: str) -> tuple[Member, int | None]:
        """A device as rollouts see it, and its own monthly budget.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self._transactions.reading() as session:
            device = require_device(session, device_id)
            channel, budget_bytes = settings_of(session, device_id)
            found = attributes_of(session, device_id)
            return Member(device_id, channel, found, device.installed), budget_bytes

    def set_up(self, member: Member, budget_bytes: int | None, now: datetime) -> None:
        """Replace channel, attributes and monthly budget of a device; as they are is no change.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self._transactions.writing() as session:
            require_device(session, member.device_id)
            before = (
                *settings_of(session, member.device_id),
                attributes_of(session, member.device_id),
            )
            if before == (member.channel, budget_bytes, dict(member.attributes)):
                return
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
            details = {
                "channel": member.channel,
                "attributes": dict(member.attributes),
                "monthly_bytes": budget_bytes,
            }
            self._transactions.record(session, "device.set", member.device_id, details, now)


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


def _silent_since(rollout_id: str | None, time: datetime) -> ColumnElement[bool]:
    """An attempt of a rollout, or of none, that was neither begun nor reported on since."""
    heard = select(ReportRow.attempt_id).where(
        ReportRow.attempt_id == AttemptRow.attempt_id, ReportRow.received_at >= time
    )
    return and_(
        AttemptRow.rollout_id.is_not_distinct_from(rollout_id),
        AttemptRow.created_at < time,
        ~heard.exists(),
    )


def _offering(session: Session, model: str) -> tuple[Rollout, ...]:
    """The rollouts of a model that may offer something, and its first one."""
    ordered = OLDEST_FIRST.where(RolloutRow.model == model)
    first = session.scalar(ordered.where(RolloutRow.undoes.is_(None)).limit(1))
    if first is None:
        return ()
    wanted = or_(RolloutRow.state.in_(OFFERING), RolloutRow.rollout_id == first.rollout_id)
    return rollouts_of(session, session.scalars(ordered.where(wanted)))

"""Rollouts, and what they know of devices; each method is one transaction.

    >>> registry.rollouts.swap(seen, changed)      # ConflictError where somebody else was faster

A change names the version that it saw, so that of any number of servers one makes it. What
operators and servers change is in the audit log; what attempts and reports change is not.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from server.domain import AttemptState, EndCode
from server.errors import ConflictError, NotFoundError
from server.registry.attempts import IS_OPEN, counts, end_open, reached
from server.registry.members import (
    attributes_by_device,
    attributes_of,
    require_device,
    settings_of,
)
from server.registry.rollout_rows import (
    DeviceAttributeRow,
    DeviceSettingRow,
    GroupRow,
    PhaseRow,
    RolloutRow,
)
from server.registry.rollout_values import (
    OLDEST_FIRST,
    fixed_values,
    moving_values,
    rollouts_of,
)
from server.registry.rows import AttemptRow, DeviceRow, ReportRow
from server.registry.transactions import Transactions
from server.rollouts.rollout import Channel, Counts, Member, Rollout
from server.rollouts.states import State


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
        return self.failures_of([rollout_id])[rollout_id]

    def failures_of(self, rollout_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """By rollout: how many of its attempts failed, by code."""
        reason, number = func.coalesce(AttemptRow.code, ""), func.count()
        found: dict[str, dict[str, int]] = {name: {} for name in rollout_ids}
        with self._transactions.reading() as session:
            rows = session.execute(
                select(AttemptRow.rollout_id, reason, number)
                .where(
                    AttemptRow.rollout_id.in_(rollout_ids), AttemptRow.state == AttemptState.FAILED
                )
                .group_by(AttemptRow.rollout_id, reason)
                .order_by(AttemptRow.rollout_id, reason)
            )
            for rollout_id, code, count in rows:
                if rollout_id is not None:
                    found[rollout_id][code] = count
        return found

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
            attributes = attributes_by_device(session, DeviceRow.model == model)
            rows = session.execute(
                select(DeviceRow.device_id, DeviceRow.installed, DeviceSettingRow.channel)
                .outerjoin(DeviceSettingRow, DeviceSettingRow.device_id == DeviceRow.device_id)
                .where(DeviceRow.model == model, DeviceRow.decommissioned_at.is_(None))
            )
            return tuple(
                Member(name, channel or Channel.STABLE, attributes.get(name, {}), installed)
                for name, installed, channel in rows
            )

    def member(self, device_id: str) -> tuple[Member, int | None]:
        """A device as rollouts see it, and its own monthly budget.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self._transactions.reading() as session:
            device = require_device(session, device_id)
            channel, budget_bytes = settings_of(session, device_id)
            attributes = attributes_of(session, device_id)
            return Member(device_id, channel, attributes, device.installed), budget_bytes

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

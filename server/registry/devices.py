"""Devices, their attempts, and what they report; each method is one transaction.

Mixed into server.registry.Registry:

    >>> registry.device("kitchen").installed
    3
"""

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from server.domain import Attempt, AttemptState, Device, Report, next_state
from server.errors import ConflictError, NotFoundError
from server.registry.members import add_bytes, require_device
from server.registry.rows import AttemptRow, DeviceRow, ModelRow, ReportRow
from server.registry.transactions import Transactions


class DeviceRecords(Transactions):
    """The part of the registry that knows who installs what."""

    def enroll(self, device: Device) -> None:
        """Add a device.

        Raises:
            NotFoundError: its model is not known.
        """
        with self.writing() as session:
            if session.get(ModelRow, device.model) is None:
                raise NotFoundError(f"expected a known model, found {device.model!r}")
            session.add(
                DeviceRow(
                    device_id=device.device_id,
                    model=device.model,
                    name=device.name,
                    enrolled_at=device.enrolled_at,
                    seen_at=device.seen_at,
                    installed=device.installed,
                )
            )

    def device(self, device_id: str) -> Device:
        """One device.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self.reading() as session:
            row = require_device(session, device_id)
            return Device(
                row.device_id,
                row.model,
                row.name,
                row.enrolled_at,
                row.seen_at,
                row.installed,
                row.decommissioned_at,
            )

    def attempt(self, attempt_id: str) -> Attempt:
        """One attempt.

        Raises:
            NotFoundError: there is none of that name.
        """
        with self.reading() as session:
            row = session.get(AttemptRow, attempt_id)
            if row is None:
                raise NotFoundError(f"expected a known attempt, found {attempt_id!r}")
            return Attempt(
                row.attempt_id,
                row.device_id,
                row.base,
                row.target,
                row.state,
                row.created_at,
                row.rollout_id,
                row.code,
            )

    def report(self, report: Report, now: datetime) -> AttemptState:
        """Record a report and move its attempt; a repeated (attempt, sequence) does nothing.

        Returns:
            The state of the attempt afterwards. A final state stays, whatever comes late.

        Raises:
            NotFoundError: the device has no such attempt.
            ConflictError: another report moved the attempt meanwhile.
        """
        with self.writing() as session:
            # Reports of one attempt come one by one, so that a repeated one sees the first.
            attempt = session.get(AttemptRow, report.attempt_id, with_for_update=True)
            if attempt is None or attempt.device_id != report.device_id:
                raise NotFoundError(
                    f"expected an attempt of device {report.device_id!r}, "
                    f"found {report.attempt_id!r}"
                )
            if session.get(ReportRow, (report.attempt_id, report.sequence)) is not None:
                return attempt.state
            add_bytes(session, report, now)
            session.add(_report_row(report, now))
            reached = next_state(attempt.state, report.outcome)
            if reached is not attempt.state:
                _move(session, attempt, reached, report.code or None, now)
            return reached

    def device_counts(self, model: str) -> dict[int | None, int]:
        """How many devices of a model in service run which generation (None: nothing yet)."""
        with self.reading() as session:
            rows = session.execute(
                select(DeviceRow.installed, func.count())
                .where(DeviceRow.model == model, DeviceRow.decommissioned_at.is_(None))
                .group_by(DeviceRow.installed)
                .order_by(DeviceRow.installed.nulls_first())
            )
            return {row[0]: row[1] for row in rows}

    def attempt_counts(self, model: str) -> dict[AttemptState, int]:
        """How many attempts of a model's devices are in which state."""
        with self.reading() as session:
            rows = session.execute(
                select(AttemptRow.state, func.count())
                .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
                .where(DeviceRow.model == model)
                .group_by(AttemptRow.state)
                .order_by(AttemptRow.state)
            )
            return {row[0]: row[1] for row in rows}


def _report_row(report: Report, now: datetime) -> ReportRow:
    return ReportRow(
        attempt_id=report.attempt_id,
        sequence=report.sequence,
        outcome=report.outcome,
        code=report.code,
        bytes_sent=report.bytes_sent,
        bytes_received=report.bytes_received,
        apply_ms=report.apply_ms,
        received_at=now,
    )


def _move(
    session: Session, attempt: AttemptRow, reached: AttemptState, code: str | None, now: datetime
) -> None:
    seen = attempt.state
    moved = session.scalar(
        update(AttemptRow)
        .where(AttemptRow.attempt_id == attempt.attempt_id, AttemptRow.state == seen)
        .values(state=reached, code=code, ended_at=now if reached.is_final else None)
        .returning(AttemptRow.attempt_id)
    )
    if moved is None:
        raise ConflictError(
            f"attempt {attempt.attempt_id}: expected state {seen}, found that it has moved on"
        )
    if reached is AttemptState.COMMITTED:
        # Only from the base that the attempt started at: a later check-in knows better.
        session.execute(
            update(DeviceRow)
            .where(
                DeviceRow.device_id == attempt.device_id,
                DeviceRow.installed.is_not_distinct_from(attempt.base),
            )
            .values(installed=attempt.target)
        )

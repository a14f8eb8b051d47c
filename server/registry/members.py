"""Devices as rollouts see them: channel, attributes, what they spent.

Functions over a session, for transactions of rollouts and of devices.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from server.clock import month_of
from server.domain import Report
from server.errors import NotFoundError
from server.registry.inserts import insert
from server.registry.rollout_rows import DeviceAttributeRow, DeviceSettingRow, MonthlyBytesRow
from server.registry.rows import DeviceRow, ReportRow
from server.rollouts.rollout import Channel


def require_device(session: Session, device_id: str) -> DeviceRow:
    """The row of a device.

    Raises:
        NotFoundError: it was never enrolled here.
    """
    row = session.get(DeviceRow, device_id)
    if row is None:
        raise NotFoundError(f"expected an enrolled device, found {device_id!r}")
    return row


def settings_of(session: Session, device_id: str) -> tuple[Channel, int | None]:
    """The channel that a device follows, and its own monthly budget in bytes, if it has one."""
    row = session.get(DeviceSettingRow, device_id)
    return (row.channel, row.monthly_bytes) if row is not None else (Channel.STABLE, None)


def attributes_by_device(
    session: Session, wanted: ColumnElement[bool]
) -> Mapping[str, Mapping[str, str]]:
    """The attributes of devices, by key; of those that have any.

    Args:
        session: The transaction.
        wanted: Which rows of devices.
    """
    found: dict[str, dict[str, str]] = defaultdict(dict)
    rows = session.scalars(
        select(DeviceAttributeRow)
        .join(DeviceRow, DeviceRow.device_id == DeviceAttributeRow.device_id)
        .where(wanted)
        .order_by(DeviceAttributeRow.key)
    )
    for row in rows:
        found[row.device_id][row.key] = row.value
    return found


def attributes_of(session: Session, device_id: str) -> Mapping[str, str]:
    """The attributes of one device, by key."""
    return attributes_by_device(session, DeviceRow.device_id == device_id).get(device_id, {})


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
    values = {"device_id": report.device_id, "month": month_of(now), "bytes_spent": more}
    session.execute(
        insert(session, MonthlyBytesRow)
        .values(**values)
        .on_conflict_do_update(
            index_elements=["device_id", "month"],
            set_={"bytes_spent": MonthlyBytesRow.bytes_spent + more},
        )
    )

"""The tables of rollouts, and what rollouts know of devices, as typed rows."""

from datetime import date, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Date,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from server.registry.rows import ID_LENGTH, Row, UtcDateTime, enum_column
from server.rollouts.rollout import Channel, OnFailure
from server.rollouts.states import State

KEY_LENGTH = 64
VALUE_LENGTH = 200
REASON_LENGTH = 200
WINDOWS_LENGTH = 400


class Seconds(TypeDecorator[timedelta]):
    """Whole seconds."""

    impl = Integer
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """Store a number."""
        return round(value.total_seconds()) if value is not None else None

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:
        """Return a duration."""
        return timedelta(seconds=value) if value is not None else None


class RolloutRow(Row):
    """A rollout. `version` counts its changes: every UPDATE names the one that it saw."""

    __tablename__ = "rollouts"
    __table_args__ = (
        ForeignKeyConstraint(["model", "target"], ["generations.model", "generations.number"]),
        ForeignKeyConstraint(["model", "base"], ["generations.model", "generations.number"]),
        ForeignKeyConstraint(["model", "only_from"], ["generations.model", "generations.number"]),
        # One way back for a rollout, whichever server makes it.
        UniqueConstraint("undoes"),
    )

    rollout_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    channel: Mapped[Channel] = mapped_column(enum_column(Channel, "channel"))
    target: Mapped[int]
    base: Mapped[int | None]
    only_from: Mapped[int | None]
    undoes: Mapped[str | None] = mapped_column(ForeignKey("rollouts.rollout_id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)

    success_threshold: Mapped[float] = mapped_column(Double)
    failure_threshold: Mapped[float] = mapped_column(Double)
    minimum_sample: Mapped[int]
    soak_s: Mapped[timedelta] = mapped_column(Seconds)
    attempt_timeout_s: Mapped[timedelta] = mapped_column(Seconds)
    maximum_attempts: Mapped[int]
    maximum_in_flight: Mapped[int | None]
    windows: Mapped[str] = mapped_column(String(WINDOWS_LENGTH))
    metered_bytes: Mapped[int | None] = mapped_column(BigInteger)
    monthly_bytes: Mapped[int | None] = mapped_column(BigInteger)
    on_failure: Mapped[OnFailure] = mapped_column(enum_column(OnFailure, "on_failure"))

    state: Mapped[State] = mapped_column(enum_column(State, "rollout_state"))
    version: Mapped[int]
    phase: Mapped[int]
    cutoff: Mapped[int] = mapped_column(BigInteger)
    phase_devices: Mapped[int]
    phase_already: Mapped[int]
    starts_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    entered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    judged_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    reason: Mapped[str] = mapped_column(String(REASON_LENGTH))


class PhaseRow(Row):
    """A phase of a rollout: a percentage or a number of devices."""

    __tablename__ = "rollout_phases"

    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollouts.rollout_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    percent: Mapped[float | None] = mapped_column(Double)
    devices: Mapped[int | None]


class GroupRow(Row):
    """An attribute that the devices of a rollout must have."""

    __tablename__ = "rollout_groups"

    rollout_id: Mapped[str] = mapped_column(ForeignKey("rollouts.rollout_id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(KEY_LENGTH), primary_key=True)
    value: Mapped[str] = mapped_column(String(VALUE_LENGTH), primary_key=True)


class DeviceSettingRow(Row):
    """What an operator set of a device; one without a row follows `stable`, without a budget."""

    __tablename__ = "device_settings"

    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id"), primary_key=True)
    channel: Mapped[Channel] = mapped_column(enum_column(Channel, "channel"))
    monthly_bytes: Mapped[int | None] = mapped_column(BigInteger)


class DeviceAttributeRow(Row):
    """An attribute of a device."""

    __tablename__ = "device_attributes"

    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(KEY_LENGTH), primary_key=True)
    value: Mapped[str] = mapped_column(String(VALUE_LENGTH))


class MonthlyBytesRow(Row):
    """What a device reported to have spent in a calendar month, which its first day names (UTC)."""

    __tablename__ = "device_monthly_bytes"

    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id"), primary_key=True)
    month: Mapped[date] = mapped_column(Date, primary_key=True)
    bytes_spent: Mapped[int] = mapped_column(BigInteger)

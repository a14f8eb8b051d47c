"""The tables of keys, and of what holds for a whole fleet, as typed rows.

Rules that the database itself keeps: a key is known once, and a device has at most one accepted
key.
"""

from datetime import datetime

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from server.identity.keys import KeyState
from server.registry.rows import ID_LENGTH, NAME_LENGTH, Digest, Row, UtcDateTime, enum_column

SETTING_LENGTH = 64
ACCEPTED = text("state = 'accepted'")


class DeviceKeyRow(Row):
    """A key that asked to be a device's, or that an operator told us of."""

    __tablename__ = "device_keys"
    __table_args__ = (
        Index(
            "uq_device_keys_accepted",
            "device_id",
            unique=True,
            sqlite_where=ACCEPTED,
            postgresql_where=ACCEPTED,
        ),
    )

    key_sha256: Mapped[bytes] = mapped_column(Digest, primary_key=True)
    device_id: Mapped[str | None] = mapped_column(String(ID_LENGTH), index=True)
    model: Mapped[str] = mapped_column(String(NAME_LENGTH))
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    state: Mapped[KeyState] = mapped_column(enum_column(KeyState, "key_state"))
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    decided_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class FleetSettingRow(Row):
    """What all servers of a fleet must agree on."""

    __tablename__ = "fleet_settings"

    name: Mapped[str] = mapped_column(String(SETTING_LENGTH), primary_key=True)
    value: Mapped[str] = mapped_column(String(NAME_LENGTH))

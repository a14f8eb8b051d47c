"""The tables of generations, devices and attempts, as typed rows; other tables stand in *_rows.py.

Rules that the database itself keeps: a generation names blobs that are known, numbers are unique
in their model, a step names generations that exist, (attempt, sequence) is unique, and states
are among those of the domain.
"""

from datetime import UTC, datetime
from enum import StrEnum

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from diffcodec import Coder
from server.domain import DIGEST_BYTES, AttemptState, Outcome

# Without names of our own, SQLite's constraints are nameless and no migration can drop them.
NAMING_CONVENTION = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

NAME_LENGTH = 200
ID_LENGTH = 32
CODE_LENGTH = 64
CODERS_LENGTH = 64

Digest = LargeBinary(DIGEST_BYTES)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware times in and out; SQLite keeps no zone, so UTC is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Store UTC."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=UTC)


class CoderSet(TypeDecorator[frozenset[Coder]]):
    """Coders by name, sorted, a space between them; a diff that changes nothing needs none."""

    impl = String(CODERS_LENGTH)
    cache_ok = True

    def process_bind_param(self, value: frozenset[Coder] | None, dialect: Dialect) -> str | None:
        """Store names."""
        return " ".join(sorted(value)) if value is not None else None

    def process_result_value(self, value: str | None, dialect: Dialect) -> frozenset[Coder] | None:
        """Return coders."""
        return frozenset(map(Coder, value.split())) if value is not None else None


def enum_column(kind: type[StrEnum], name: str) -> Enum:
    """The type of a column of an enum's values, checked by the database."""
    return Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=True,
        length=16,
        values_callable=lambda members: [member.value for member in members],
    )


class Row(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class ModelRow(Row):
    """A line of generations."""

    __tablename__ = "models"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)


class BlobRow(Row):
    """A blob that the artifact store held, verified, before this row was written.

    It holds it still unless `collected_at` says that nobody needed it any more.
    """

    __tablename__ = "blobs"

    sha256: Mapped[bytes] = mapped_column(Digest, primary_key=True)
    length: Mapped[int] = mapped_column(BigInteger)
    collected_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class GenerationRow(Row):
    """One state of a model's weights."""

    __tablename__ = "generations"
    __table_args__ = (
        ForeignKeyConstraint(["model", "parent"], ["generations.model", "generations.number"]),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None]
    layout_fingerprint: Mapped[bytes] = mapped_column(Digest)
    digest: Mapped[bytes] = mapped_column(Digest)
    snapshot_sha256: Mapped[bytes] = mapped_column(ForeignKey("blobs.sha256"))
    graph_sha256: Mapped[bytes | None] = mapped_column(ForeignKey("blobs.sha256"))
    card_sha256: Mapped[bytes | None] = mapped_column(ForeignKey("blobs.sha256"))
    published_at: Mapped[datetime] = mapped_column(UtcDateTime)


class StepRow(Row):
    """A diff from `base` (NULL: nothing) to `target`.

    The file itself binds its base, so a file is there once a target.
    """

    __tablename__ = "steps"
    __table_args__ = (
        ForeignKeyConstraint(["model", "base"], ["generations.model", "generations.number"]),
        ForeignKeyConstraint(["model", "target"], ["generations.model", "generations.number"]),
        UniqueConstraint("model", "target", "diff_sha256"),
        # Steps are deleted; a number that came back would look like the step that had it.
        {"sqlite_autoincrement": True},
    )

    step_id: Mapped[int] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"))
    base: Mapped[int | None]
    target: Mapped[int]
    diff_sha256: Mapped[bytes] = mapped_column(ForeignKey("blobs.sha256"))
    coders: Mapped[frozenset[Coder]] = mapped_column(CoderSet)


class DeviceRow(Row):
    """A device and what it ran when it was last heard of."""

    __tablename__ = "devices"
    __table_args__ = (
        ForeignKeyConstraint(["model", "installed"], ["generations.model", "generations.number"]),
    )

    device_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    model: Mapped[str] = mapped_column(ForeignKey("models.name"), index=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH))
    enrolled_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    installed: Mapped[int | None]
    decommissioned_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AttemptRow(Row):
    """A device's way to a generation of the model that it follows."""

    __tablename__ = "attempts"

    attempt_id: Mapped[str] = mapped_column(String(ID_LENGTH), primary_key=True)
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.device_id"), index=True)
    base: Mapped[int | None]
    target: Mapped[int]
    state: Mapped[AttemptState] = mapped_column(
        enum_column(AttemptState, "attempt_state"), index=True
    )
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # No foreign key: SQLite adds one only by copying the table, which reports refer to.
    rollout_id: Mapped[str | None] = mapped_column(String(ID_LENGTH), index=True)
    code: Mapped[str | None] = mapped_column(String(CODE_LENGTH))


class ReportRow(Row):
    """A report as it came, late ones included."""

    __tablename__ = "reports"

    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.attempt_id"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    outcome: Mapped[Outcome] = mapped_column(enum_column(Outcome, "outcome"))
    code: Mapped[str] = mapped_column(String(CODE_LENGTH))
    bytes_sent: Mapped[int] = mapped_column(BigInteger)
    bytes_received: Mapped[int] = mapped_column(BigInteger)
    apply_ms: Mapped[int] = mapped_column(BigInteger)
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RollUpRow(Row):
    """A diff that a server makes, or tried to make, for devices that are far behind.

    Whoever adds the row makes it. `files` tells how many steps came of it, 0 where none is
    smaller than the way that there was.
    """

    __tablename__ = "roll_ups"
    __table_args__ = (
        ForeignKeyConstraint(["model", "base"], ["generations.model", "generations.number"]),
        ForeignKeyConstraint(["model", "target"], ["generations.model", "generations.number"]),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    base: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    target: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    claimed_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    files: Mapped[int]

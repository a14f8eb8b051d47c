"""The tables of signing, as typed rows."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

from server.registry.rows import Digest, Row, UtcDateTime

ROLE_LENGTH = 64


class MetadataRow(Row):
    """One version of a role's TUF metadata. A version is replaced once: that is the swap."""

    __tablename__ = "metadata"
    __table_args__ = (UniqueConstraint("role", "replaces"),)

    role: Mapped[str] = mapped_column(String(ROLE_LENGTH), primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    replaces: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[bytes] = mapped_column(LargeBinary)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ManifestRow(Row):
    """The signed manifest of a generation, and whether it was revoked."""

    __tablename__ = "manifests"
    __table_args__ = (
        ForeignKeyConstraint(["model", "generation"], ["generations.model", "generations.number"]),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    manifest_sha256: Mapped[bytes] = mapped_column(ForeignKey("blobs.sha256"))
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class ManifestDiffRow(Row):
    """A diff that a manifest names."""

    __tablename__ = "manifest_diffs"
    __table_args__ = (
        ForeignKeyConstraint(["model", "generation"], ["manifests.model", "manifests.generation"]),
    )

    model: Mapped[str] = mapped_column(ForeignKey("models.name"), primary_key=True)
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    diff_sha256: Mapped[bytes] = mapped_column(Digest, primary_key=True)

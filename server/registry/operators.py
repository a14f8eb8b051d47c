"""People with a credential of their own: who, with which role, until when."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import String, select, update
from sqlalchemy.orm import Mapped, mapped_column

from server.errors import NotFoundError
from server.registry.rows import NAME_LENGTH, Digest, Row, UtcDateTime
from server.registry.transactions import Transactions


class OperatorRow(Row):
    """One credential. Removing an operator ends all of theirs; the rows stay for the audit."""

    __tablename__ = "operators"

    key_sha256: Mapped[bytes] = mapped_column(Digest, primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), index=True)
    role: Mapped[str] = mapped_column(String(16))
    added_at: Mapped[datetime] = mapped_column(UtcDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


@dataclass(frozen=True)
class Operator:
    """A person's credential; one that was removed counts no more."""

    key_sha256: bytes
    name: str
    role: str
    added_at: datetime
    removed_at: datetime | None = None


class Operators:
    """The part of the registry that knows operators."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(self, operator: Operator) -> None:
        """Add a credential; a person may have several, one for each machine."""
        with self._transactions.writing() as session:
            session.add(
                OperatorRow(
                    key_sha256=operator.key_sha256,
                    name=operator.name,
                    role=operator.role,
                    added_at=operator.added_at,
                )
            )
            details = {"role": operator.role, "key": operator.key_sha256.hex()}
            self._transactions.record(
                session, "operator.add", operator.name, details, operator.added_at
            )

    def remove(self, name: str, now: datetime) -> int:
        """End all credentials of a person; how many there were.

        Raises:
            NotFoundError: there was none.
        """
        with self._transactions.writing() as session:
            removed = session.scalars(
                update(OperatorRow)
                .where(OperatorRow.name == name, OperatorRow.removed_at.is_(None))
                .values(removed_at=now)
                .returning(OperatorRow.key_sha256)
            ).all()
            if not removed:
                raise NotFoundError(f"expected an operator, found none of the name {name!r}")
            details = {"keys": [key.hex() for key in removed]}
            self._transactions.record(session, "operator.remove", name, details, now)
            return len(removed)

    def all(self) -> tuple[Operator, ...]:
        """Every credential, by name."""
        with self._transactions.reading() as session:
            rows = session.scalars(select(OperatorRow).order_by(OperatorRow.name))
            return tuple(
                Operator(row.key_sha256, row.name, row.role, row.added_at, row.removed_at)
                for row in rows
            )

    def is_active(self, key_sha256: bytes) -> bool:
        """Whether a credential still counts."""
        with self._transactions.reading() as session:
            row = session.get(OperatorRow, key_sha256)
            return row is not None and row.removed_at is None

"""Rows that somebody else may be adding at the same time."""

from collections.abc import Callable, Sequence

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from server.domain import Blob
from server.registry.database import POSTGRES
from server.registry.rows import BlobRow, Row

COLLECTION_LOCK = 0x6E64_6966_67
"""Names the lock under which files are deleted."""


Present = Callable[[Sequence[Blob]], None]
"""Called in a transaction with the blobs that it named; raises to have it undone."""


def insert(session: Session, kind: type[Row]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what to do on a conflict: each dialect has one of its own."""
    is_postgres = session.get_bind().dialect.name == POSTGRES
    return postgresql.insert(kind) if is_postgres else sqlite.insert(kind)


def add_missing(session: Session, kind: type[Row], **values: object) -> None:
    """Add a row unless one like it is there, whoever adds it at the same time."""
    session.execute(insert(session, kind).values(**values).on_conflict_do_nothing())


def add_blob(session: Session, blob: Blob) -> None:
    """Add a blob unless it is known already; one that was collected is there again.

    Until the transaction ends nothing is collected, so that whoever looks into the store after
    this finds there what will be there.
    """
    hold_names(session)
    added = insert(session, BlobRow).values(sha256=blob.sha256, length=blob.length)
    session.execute(
        added.on_conflict_do_update(
            index_elements=[BlobRow.sha256],
            set_={"collected_at": None},
            where=BlobRow.collected_at.is_not(None),
        )
    )


def hold_names(session: Session, *, alone: bool = False) -> None:
    """Keep blobs from being collected while this transaction gives them names.

    Args:
        session: The transaction.
        alone: This transaction collects: nobody names a blob meanwhile.
    """
    if session.get_bind().dialect.name == POSTGRES:  # SQLite has one writer at a time
        lock = func.pg_advisory_xact_lock if alone else func.pg_advisory_xact_lock_shared
        session.execute(select(lock(COLLECTION_LOCK)))

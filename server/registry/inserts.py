"""Rows that somebody else may be adding at the same time."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from server.domain import Blob
from server.registry.database import POSTGRES
from server.registry.rows import BlobRow, Row


def insert(session: Session, kind: type[Row]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what to do on a conflict: each dialect has one of its own."""
    is_postgres = session.get_bind().dialect.name == POSTGRES
    return postgresql.insert(kind) if is_postgres else sqlite.insert(kind)


def add_missing(session: Session, kind: type[Row], **values: object) -> None:
    """Add a row unless one like it is there, whoever adds it at the same time."""
    session.execute(insert(session, kind).values(**values).on_conflict_do_nothing())


def add_blob(session: Session, blob: Blob) -> None:
    """Add a blob unless it is known already."""
    add_missing(session, BlobRow, sha256=blob.sha256, length=blob.length)

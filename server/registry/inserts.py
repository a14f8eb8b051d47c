"""Rows that somebody else may be adding at the same time."""

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from server.registry.database import POSTGRES
from server.registry.rows import Row


def add_missing(session: Session, kind: type[Row], **values: object) -> None:
    """Add a row unless one like it is there, whoever adds it at the same time."""
    # Not one INSERT for both: each dialect has a statement of its own that can do this.
    if session.get_bind().dialect.name == POSTGRES:
        session.execute(postgresql.insert(kind).values(**values).on_conflict_do_nothing())
    else:
        session.execute(sqlite.insert(kind).values(**values).on_conflict_do_nothing())

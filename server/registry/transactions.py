"""Transactions over the registry's database: the one way in, for every part of the registry.

    >>> with transactions.writing() as session:
    ...     session.add(RolloutRow(...))
    ...     transactions.record(session, "rollout.create", "3f9a", {"target": 5}, now)

What leaves a block by an exception has changed nothing. Exceptions of SQLAlchemy stop here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from server.errors import ConflictError, RegistryError
from server.registry import audit, database


class Transactions:
    """A database, and who changes it.

    Args:
        engine: The database.
        actor: Who changes it, for the audit log; this account of this machine by default.
    """

    def __init__(self, engine: Engine, actor: str | None = None) -> None:
        self._engine = engine
        self.actor = actor or audit.local_actor()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """One transaction that changes nothing."""
        with database_errors(self._engine), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction that may change something."""
        engine = self._engine.execution_options(writes=True)
        with database_errors(engine), Session(engine) as session, session.begin():
            yield session

    def record(
        self,
        session: Session,
        action: str,
        subject: str,
        details: Mapping[str, object],
        now: datetime,
    ) -> None:
        """Tell the audit log of a change, in the transaction that makes it."""
        audit.record(session, self.actor, action, subject, details, now)


@contextmanager
def database_errors(engine: Engine) -> Iterator[None]:
    """Stop SQLAlchemy's exceptions at this seam; the message names the database.

    Raises:
        ConflictError: a constraint refused a change.
        RegistryError: the database cannot be used.
    """
    try:
        yield
    except IntegrityError as error:
        name, reason = database.name_of(engine), _first_line(error.orig)
        raise ConflictError(
            f"{name}: the database refused a change that breaks it: {reason}"
        ) from error
    except SQLAlchemyError as error:
        reason = _first_line(getattr(error, "orig", None) or error)
        raise RegistryError(f"{database.name_of(engine)}: the database failed: {reason}") from error


def _first_line(error: BaseException | None) -> str:
    return str(error).partition("\n")[0]

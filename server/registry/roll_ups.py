"""Diffs that servers make by themselves: who makes which, and what came of it.

>>> registry.roll_ups.claim("digits", 3, 9, now, timeout)      # False: somebody else does
>>> registry.roll_ups.end("digits", 3, 9, files=2, now=now)
"""

from datetime import datetime, timedelta

from sqlalchemy import select, update

from server.registry.inserts import insert
from server.registry.rows import RollUpRow
from server.registry.transactions import Transactions


class RollUpRecords:
    """Roll-ups in the registry's database; each method is one transaction."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def tried(self, model: str, claimed_since: datetime) -> frozenset[tuple[int, int]]:
        """Base and target of what is made, saved nothing, or was claimed since a time."""
        query = select(RollUpRow.base, RollUpRow.target).where(
            RollUpRow.model == model,
            RollUpRow.ended_at.is_not(None) | (RollUpRow.claimed_at >= claimed_since),
        )
        with self._transactions.reading() as session:
            return frozenset((base, target) for base, target in session.execute(query))

    def claim(self, model: str, base: int, target: int, now: datetime, timeout: timedelta) -> bool:
        """Become the one who makes it; an older claim than the timeout's holds no more.

        Returns:
            False where another one is, or was.
        """
        with self._transactions.writing() as session:
            claimed = insert(session, RollUpRow).values(
                model=model, base=base, target=target, claimed_at=now, files=0
            )
            won = session.scalar(
                claimed.on_conflict_do_update(
                    index_elements=[RollUpRow.model, RollUpRow.base, RollUpRow.target],
                    set_={"claimed_at": now},
                    where=RollUpRow.ended_at.is_(None) & (RollUpRow.claimed_at < now - timeout),
                ).returning(RollUpRow.base)
            )
            return won is not None

    def end(self, model: str, base: int, target: int, files: int, now: datetime) -> None:
        """What was claimed is done; `files` came of it."""
        with self._transactions.writing() as session:
            session.execute(
                update(RollUpRow)
                .where(RollUpRow.model == model, RollUpRow.base == base, RollUpRow.target == target)
                .values(ended_at=now, files=files)
            )
            if files:
                details = {"files": files}
                subject = f"{model} {base} to {target}"
                self._transactions.record(session, "generation.roll-up", subject, details, now)

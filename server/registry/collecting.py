"""The registry's part of a collection: who needs what, and the rows of what nobody does.

>>> registry.collecting.carry_out(decide, now)              # rows first
>>> registry.collecting.delete_unnamed(files, delete)       # files second
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from server.artifacts.store import StoredFile
from server.collecting.needs import Stock
from server.collecting.verdict import Verdict
from server.domain import Blob, Step
from server.registry.attempts import IS_OPEN
from server.registry.generations import generations_of, steps_of
from server.registry.inserts import hold_names
from server.registry.rollout_rows import RolloutRow
from server.registry.rollout_values import OLDEST_FIRST, rollouts_of
from server.registry.rows import (
    AttemptRow,
    BlobRow,
    DeviceRow,
    ModelRow,
    ReportRow,
    RollUpRow,
    StepRow,
)
from server.registry.signing import revoked
from server.registry.signing_rows import ManifestDiffRow, ManifestRow
from server.registry.transactions import Transactions
from server.rollouts.states import State
from server.signing.records import ManifestRecord

Decide = Callable[[Sequence[Stock], Collection[bytes]], Verdict]

ROWS_AT_ONCE = 500
"""In one statement: databases limit how many values it may have."""


class CollectingRecords:
    """Collections in the registry's database; each method is one transaction."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def preview(self, decide: Decide) -> Verdict:
        """What `carry_out` would do."""
        with self._transactions.reading() as session:
            return decide(_stocks(session), _named(session))

    def carry_out(self, decide: Decide, now: datetime) -> Verdict:
        """Take steps off the ways of devices, and names from blobs; files stay for now.

        Args:
            decide: Says what, from all models and the SHA-256 of every blob that has a name.
            now: The time.
        """
        with self._transactions.writing() as session:
            hold_names(session, alone=True)
            verdict = decide(_stocks(session), _named(session))
            _delete_steps(session, verdict.steps)
            for names in _cut(sorted(verdict.blobs)):
                session.execute(
                    update(BlobRow).where(BlobRow.sha256.in_(names)).values(collected_at=now)
                )
            if verdict.steps or verdict.blobs or verdict.files:
                details = {
                    "steps": len(verdict.steps),
                    "files": len(verdict.files),
                    "bytes": verdict.freed_bytes,
                }
                self._transactions.record(session, "artifacts.collect", "artifacts", details, now)
            return verdict

    def delete_unnamed(
        self, files: Sequence[StoredFile], delete_files: Callable[[Sequence[str]], None]
    ) -> int:
        """Delete files, but for those whose blob has a name (again).

        Nobody gives a blob a name meanwhile.

        Returns:
            How many were deleted.
        """
        with self._transactions.writing() as session:
            hold_names(session, alone=True)
            asked = [file.sha256 for file in files if file.sha256 is not None]
            is_named = BlobRow.sha256.in_(asked) & BlobRow.collected_at.is_(None)
            named = set(session.scalars(select(BlobRow.sha256).where(is_named)))
            unnamed = [file.name for file in files if file.sha256 not in named]
            delete_files(unnamed)
            return len(unnamed)

    def forget_attempts(self, before: datetime, now: datetime) -> int:
        """Delete attempts that ended before a time and that no open rollout counts.

        Returns:
            How many.
        """
        with self._transactions.writing() as session:
            open_rollouts = select(RolloutRow.rollout_id).where(
                RolloutRow.state.not_in([state for state in State if state.is_final])
            )
            old = (
                ~IS_OPEN,
                AttemptRow.ended_at < before,
                AttemptRow.rollout_id.is_(None) | AttemptRow.rollout_id.not_in(open_rollouts),
            )
            ids = select(AttemptRow.attempt_id).where(*old)
            reports = delete(ReportRow).where(ReportRow.attempt_id.in_(ids))
            session.execute(reports.execution_options(synchronize_session=False))
            gone = session.scalars(
                delete(AttemptRow)
                .where(*old)
                .returning(AttemptRow.attempt_id)
                .execution_options(synchronize_session=False)
            ).all()
            if gone:
                details = {"attempts": len(gone), "before": before.isoformat(timespec="seconds")}
                self._transactions.record(session, "attempts.forget", "attempts", details, now)
            return len(gone)


def _stocks(session: Session) -> tuple[Stock, ...]:
    models = session.scalars(select(ModelRow.name).order_by(ModelRow.name)).all()
    installed, attempts = _installed(session), _attempts(session)
    return tuple(
        Stock(
            model,
            generations_of(session, model),
            steps_of(session, model),
            revoked(session, model),
            _manifests(session, model),
            rollouts_of(session, session.scalars(OLDEST_FIRST.where(RolloutRow.model == model))),
            frozenset(installed.get(model, ())),
            frozenset(attempts.get(model, ())),
        )
        for model in models
    )


def _named(session: Session) -> frozenset[bytes]:
    return frozenset(session.scalars(select(BlobRow.sha256).where(BlobRow.collected_at.is_(None))))


def _installed(session: Session) -> Mapping[str, set[int]]:
    """What devices in service run, by model."""
    found: dict[str, set[int]] = defaultdict(set)
    in_service = DeviceRow.decommissioned_at.is_(None)
    rows = session.execute(
        select(DeviceRow.model, DeviceRow.installed).where(in_service).distinct()
    )
    for model, number in rows:
        if number is not None:
            found[model].add(number)
    return found


def _attempts(session: Session) -> Mapping[str, set[tuple[int | None, int]]]:
    """Where open attempts begin and end, by model."""
    found: dict[str, set[tuple[int | None, int]]] = defaultdict(set)
    rows = session.execute(
        select(DeviceRow.model, AttemptRow.base, AttemptRow.target)
        .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
        .where(IS_OPEN)
        .distinct()
    )
    for model, base, target in rows:
        found[model].add((base, target))
    return found


def _manifests(session: Session, model: str) -> Mapping[int, ManifestRecord]:
    diffs: dict[int, set[bytes]] = defaultdict(set)
    named = select(ManifestDiffRow.generation, ManifestDiffRow.diff_sha256)
    for number, sha256 in session.execute(named.where(ManifestDiffRow.model == model)):
        diffs[number].add(sha256)
    rows = session.execute(
        select(ManifestRow.generation, ManifestRow.manifest_sha256, BlobRow.length)
        .join(BlobRow, BlobRow.sha256 == ManifestRow.manifest_sha256)
        .where(ManifestRow.model == model)
    )
    return {
        number: ManifestRecord(model, number, Blob(sha256, length), frozenset(diffs[number]))
        for number, sha256, length in rows
    }


def _delete_steps(session: Session, steps: Sequence[tuple[str, Step]]) -> None:
    for model, step in steps:
        session.execute(
            delete(StepRow).where(
                StepRow.model == model,
                StepRow.target == step.target,
                StepRow.diff_sha256 == step.diff.sha256,
            )
        )
        if step.base is not None:
            # Should a device need it once more, a server may make it once more.
            session.execute(
                delete(RollUpRow).where(
                    RollUpRow.model == model,
                    RollUpRow.base == step.base,
                    RollUpRow.target == step.target,
                )
            )


def _cut(names: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [names[at : at + ROWS_AT_ONCE] for at in range(0, len(names), ROWS_AT_ONCE)]

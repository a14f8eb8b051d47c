"""The registry's part for signing: metadata by role and version, manifests, revocations.

Metadata is only ever added. A new version names the one that it replaces, and of two writers who
saw the same one the database lets one win: ConflictError tells the other, who looks again.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from server.domain import Blob
from server.errors import ConflictError, NotFoundError
from server.registry.inserts import Present, add_blob
from server.registry.rows import BlobRow, StepRow
from server.registry.signing_rows import ManifestDiffRow, ManifestRow, MetadataRow
from server.registry.transactions import Transactions
from server.signing.records import ManifestRecord, SignedFile, SignedRelease, UnnamedStep

KEPT_VERSIONS = 16
"""Of each role, for devices that are in the middle of an older snapshot. Of root all are kept:
a device that was away walks through every one."""
ROOT = "root"


class SigningRecords:
    """What is signed, over the registry's database; each method is one transaction."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def latest(self) -> dict[str, SignedFile]:
        """The newest version of every role."""
        newest = (
            select(MetadataRow.role, func.max(MetadataRow.version).label("version"))
            .group_by(MetadataRow.role)
            .subquery()
        )
        with self._transactions.reading() as session:
            rows = session.scalars(
                select(MetadataRow).join(
                    newest,
                    (newest.c.role == MetadataRow.role) & (newest.c.version == MetadataRow.version),
                )
            )
            return {row.role: _file(row) for row in rows}

    def read(self, role: str, version: int) -> bytes:
        """One version of a role's metadata; version 0 is the newest.

        Raises:
            NotFoundError: there is none.
        """
        query = select(MetadataRow.content).where(MetadataRow.role == role)
        if version:
            query = query.where(MetadataRow.version == version)
        with self._transactions.reading() as session:
            content = session.scalar(query.order_by(MetadataRow.version.desc()).limit(1))
        if content is None:
            which = f"version {version}" if version else "any version"
            raise NotFoundError(f"expected {which} of the metadata {role!r}, found none")
        return content

    def add(self, files: Iterable[SignedFile]) -> None:
        """Add new versions that servers sign by themselves, all or none.

        Raises:
            ConflictError: somebody replaced one of the versions that these replace.
        """
        with self._transactions.writing() as session:
            add_files(session, files)

    def change(
        self, action: str, roles: Sequence[str], files: Sequence[SignedFile], now: datetime
    ) -> None:
        """Add new versions, all or none, and tell the audit log what was done to which roles.

        Raises:
            ConflictError: somebody replaced one of the versions that these replace.
        """
        with self._transactions.writing() as session:
            add_files(session, files)
            signed = {file.role: file.version for file in files}
            self._transactions.record(session, action, ",".join(roles), signed, now)

    def manifests(self, model: str | None = None) -> tuple[ManifestRecord, ...]:
        """The manifests of one model, or of all, by model and generation."""
        query = (
            select(ManifestRow, BlobRow.length)
            .join(BlobRow, BlobRow.sha256 == ManifestRow.manifest_sha256)
            .order_by(ManifestRow.model, ManifestRow.generation)
        )
        if model is not None:
            query = query.where(ManifestRow.model == model)
        with self._transactions.reading() as session:
            return tuple(
                ManifestRecord(
                    row.model,
                    row.generation,
                    Blob(row.manifest_sha256, length),
                    is_revoked=row.revoked_at is not None,
                )
                for row, length in session.execute(query)
            )

    def revoked(self, model: str) -> frozenset[int]:
        """The generations of a model that must not be installed any more."""
        with self._transactions.reading() as session:
            return revoked(session, model)

    def unnamed_steps(self) -> tuple[UnnamedStep, ...]:
        """Every diff to a generation that has a manifest which does not name it."""
        query = (
            select(StepRow.model, StepRow.target, StepRow.diff_sha256, BlobRow.length)
            .join(BlobRow, BlobRow.sha256 == StepRow.diff_sha256)
            .join(
                ManifestRow,
                (ManifestRow.model == StepRow.model) & (ManifestRow.generation == StepRow.target),
            )
            .outerjoin(
                ManifestDiffRow,
                (ManifestDiffRow.model == StepRow.model)
                & (ManifestDiffRow.generation == StepRow.target)
                & (ManifestDiffRow.diff_sha256 == StepRow.diff_sha256),
            )
            .where(ManifestDiffRow.diff_sha256.is_(None), ManifestRow.revoked_at.is_(None))
            .order_by(StepRow.step_id)
        )
        with self._transactions.reading() as session:
            return tuple(
                UnnamedStep(model, target, Blob(sha256, length))
                for model, target, sha256, length in session.execute(query)
            )

    def adopt(
        self,
        manifests: Sequence[ManifestRecord],
        files: Iterable[SignedFile],
        present: Present | None = None,
    ) -> None:
        """Add manifests of generations that are there already.

        `present` is called with their blobs while nothing can be collected.

        Raises:
            ConflictError: somebody else signed meanwhile.
        """
        with self._transactions.writing() as session:
            for manifest in manifests:
                _add_manifest(session, manifest)
            add_files(session, files)
            if present is not None:
                present([manifest.blob for manifest in manifests])

    def revoke(
        self, model: str, generations: Iterable[int], files: Iterable[SignedFile], now: datetime
    ) -> None:
        """Mark generations as never to be installed again; there is no way back.

        Raises:
            ConflictError: somebody else signed meanwhile.
        """
        with self._transactions.writing() as session:
            revoked = session.scalars(
                update(ManifestRow)
                .where(
                    ManifestRow.model == model,
                    ManifestRow.generation.in_(tuple(generations)),
                    ManifestRow.revoked_at.is_(None),
                )
                .values(revoked_at=now)
                .returning(ManifestRow.generation)
            )
            for number in sorted(revoked):
                self._transactions.record(
                    session, "generation.revoke", f"{model} {number}", {}, now
                )
            add_files(session, files)


def revoked(session: Session, model: str) -> frozenset[int]:
    """The generations of a model that must not be installed any more."""
    return frozenset(
        session.scalars(
            select(ManifestRow.generation).where(
                ManifestRow.model == model, ManifestRow.revoked_at.is_not(None)
            )
        )
    )


def add_release(session: Session, release: SignedRelease) -> None:
    """Add a manifest and the metadata that lists it, within the transaction of its generation."""
    _add_manifest(session, release.manifest)
    add_files(session, release.files)


def add_files(session: Session, files: Iterable[SignedFile]) -> None:
    """Add new versions and forget the oldest ones.

    Raises:
        ConflictError: a version that one of them replaces is not the newest any more.
    """
    for file in files:
        newest = session.scalar(
            select(func.max(MetadataRow.version)).where(MetadataRow.role == file.role)
        )
        if (newest or 0) != file.replaces:
            raise ConflictError(
                f"metadata {file.role}: expected to replace version {file.replaces}, "
                f"found version {newest or 0}: somebody else signed meanwhile"
            )
        session.add(
            MetadataRow(
                role=file.role,
                version=file.version,
                replaces=file.replaces,
                content=file.content,
                expires_at=file.expires_at,
            )
        )
        session.flush()
        if file.role != ROOT:
            _forget_oldest(session, file.role)


def _forget_oldest(session: Session, role: str) -> None:
    oldest_kept = session.scalar(
        select(MetadataRow.version)
        .where(MetadataRow.role == role)
        .order_by(MetadataRow.version.desc())
        .offset(KEPT_VERSIONS - 1)
        .limit(1)
    )
    if oldest_kept is not None:
        session.execute(
            delete(MetadataRow).where(MetadataRow.role == role, MetadataRow.version < oldest_kept)
        )


def _add_manifest(session: Session, manifest: ManifestRecord) -> None:
    add_blob(session, manifest.blob)
    session.add(
        ManifestRow(
            model=manifest.model,
            generation=manifest.generation,
            manifest_sha256=manifest.blob.sha256,
        )
    )
    session.flush()
    for sha256 in sorted(manifest.diffs):
        session.add(
            ManifestDiffRow(
                model=manifest.model, generation=manifest.generation, diff_sha256=sha256
            )
        )


def _file(row: MetadataRow) -> SignedFile:
    return SignedFile(row.role, row.version, row.replaces, row.content, row.expires_at)

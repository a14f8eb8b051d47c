"""Models, their generations, and the steps between them; each method is one transaction.

Mixed into server.registry.Registry:

    >>> registry.head("digits").number
    4
"""

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from server.domain import Blob, Generation, Model, Step
from server.errors import ConflictError, NotFoundError
from server.registry.inserts import Present, add_blob, add_missing
from server.registry.rows import BlobRow, GenerationRow, ModelRow, StepRow
from server.registry.signing import add_release
from server.registry.transactions import Transactions
from server.signing.records import SignedRelease


class GenerationRecords(Transactions):
    """The part of the registry that knows what there is to install."""

    def models(self) -> tuple[Model, ...]:
        """All models, by name."""
        with self.reading() as session:
            names = session.scalars(select(ModelRow.name).order_by(ModelRow.name))
            return tuple(Model(name) for name in names)

    def generations(self, model: str) -> tuple[Generation, ...]:
        """All generations of a model in order; none where the model is not known."""
        with self.reading() as session:
            return generations_of(session, model)

    def generation(self, model: str, number: int) -> Generation:
        """One generation.

        Raises:
            NotFoundError: the model has no such generation.
        """
        with self.reading() as session:
            row = session.get(GenerationRow, (model, number))
            if row is None:
                raise NotFoundError(f"expected generation {number} of model {model!r}, found none")
            return _generation(session, row)

    def head(self, model: str) -> Generation | None:
        """The newest generation; None where the model is not known."""
        with self.reading() as session:
            row = session.scalar(
                select(GenerationRow)
                .where(GenerationRow.model == model)
                .order_by(GenerationRow.number.desc())
                .limit(1)
            )
            return _generation(session, row) if row is not None else None

    def steps(self, model: str) -> tuple[Step, ...]:
        """Every diff and snapshot of a model, oldest first."""
        with self.reading() as session:
            return steps_of(session, model)

    def blob(self, sha256: bytes) -> Blob:
        """A blob that some generation or step names, and that was not collected.

        Raises:
            NotFoundError: none does, or it was.
        """
        with self.reading() as session:
            row = session.get(BlobRow, sha256)
            if row is None or row.collected_at is not None:
                raise NotFoundError(f"expected a known blob, found {sha256.hex()}")
            return Blob(row.sha256, row.length)

    def add_generation(
        self,
        generation: Generation,
        steps: Sequence[Step],
        release: SignedRelease | None = None,
        present: Present | None = None,
    ) -> None:
        """Add the next generation of a model (0 creates the model), with the steps to it.

        The caller has made every blob that it names durable and has read it back. Without a
        release no device installs it.

        Args:
            generation: The next one.
            steps: Every file that leads to it.
            release: Its signed manifest.
            present: Called with every blob that got a name, at a moment at which nothing is
                collected: the last time to see to it that they are still there.

        Raises:
            ConflictError: that number is not the next one any more, or somebody else signed.
        """
        with self.writing() as session:
            newest = session.scalar(
                select(func.max(GenerationRow.number)).where(
                    GenerationRow.model == generation.model
                )
            )
            next_number = 0 if newest is None else newest + 1
            if generation.number != next_number:
                raise ConflictError(
                    f"expected to add generation {next_number} of {generation.model!r}, "
                    f"found {generation.number}: another one was published meanwhile"
                )
            add_missing(session, ModelRow, name=generation.model)
            for blob in _blobs_of(generation):
                add_blob(session, blob)
            session.add(_generation_row(generation))
            session.flush()
            for step in steps:
                _add_step(session, generation.model, step)
            self.record(
                session,
                "generation.publish",
                f"{generation.model} {generation.number}",
                {"digest": generation.digest.hex(), "parent": generation.parent},
                generation.published_at,
            )
            if release is not None:
                add_release(session, release)
            if present is not None:
                present(_blobs_of(generation, steps, release))

    def add_step(self, model: str, step: Step, present: Present | None = None) -> None:
        """Add a diff between two generations that exist; one that is there already stays.

        `present` is as for `add_generation`.
        """
        with self.writing() as session:
            _add_step(session, model, step)
            if present is not None:
                present([step.diff])


def generations_of(session: Session, model: str) -> tuple[Generation, ...]:
    """All generations of a model in order."""
    named = (GenerationRow.snapshot_sha256, GenerationRow.graph_sha256, GenerationRow.card_sha256)
    # Asked for at once: one by one they would be a query for each blob.
    blobs = select(BlobRow).join(GenerationRow, or_(*(BlobRow.sha256 == one for one in named)))
    kept = session.scalars(blobs.where(GenerationRow.model == model)).unique().all()
    rows = session.scalars(
        select(GenerationRow).where(GenerationRow.model == model).order_by(GenerationRow.number)
    )
    found = tuple(_generation(session, row) for row in rows)
    del kept  # until here: a session forgets rows that nobody holds
    return found


def steps_of(session: Session, model: str) -> tuple[Step, ...]:
    """Every diff and snapshot of a model, oldest first."""
    rows = session.execute(
        select(StepRow, GenerationRow.digest, BlobRow.length)
        .join(
            GenerationRow,
            (GenerationRow.model == StepRow.model) & (GenerationRow.number == StepRow.target),
        )
        .join(BlobRow, BlobRow.sha256 == StepRow.diff_sha256)
        .where(StepRow.model == model)
        .order_by(StepRow.step_id)
    )
    return tuple(
        Step(step.base, step.target, digest, Blob(step.diff_sha256, length), step.coders)
        for step, digest, length in rows
    )


def _blobs_of(
    generation: Generation, steps: Sequence[Step] = (), release: SignedRelease | None = None
) -> list[Blob]:
    named = [generation.snapshot, generation.graph, generation.card]
    named += [step.diff for step in steps]
    named += [release.manifest.blob] if release is not None else []
    return [blob for blob in dict.fromkeys(named) if blob is not None]


def _blob(session: Session, sha256: bytes) -> Blob:
    row = session.get(BlobRow, sha256)
    if row is None:
        raise NotFoundError(f"expected a known blob, found {sha256.hex()}")
    return Blob(row.sha256, row.length)


def _generation(session: Session, row: GenerationRow) -> Generation:
    return Generation(
        model=row.model,
        number=row.number,
        parent=row.parent,
        layout_fingerprint=row.layout_fingerprint,
        digest=row.digest,
        snapshot=_blob(session, row.snapshot_sha256),
        graph=_blob(session, row.graph_sha256) if row.graph_sha256 else None,
        card=_blob(session, row.card_sha256) if row.card_sha256 else None,
        published_at=row.published_at,
    )


def _generation_row(generation: Generation) -> GenerationRow:
    return GenerationRow(
        model=generation.model,
        number=generation.number,
        parent=generation.parent,
        layout_fingerprint=generation.layout_fingerprint,
        digest=generation.digest,
        snapshot_sha256=generation.snapshot.sha256,
        graph_sha256=generation.graph.sha256 if generation.graph else None,
        card_sha256=generation.card.sha256 if generation.card else None,
        published_at=generation.published_at,
    )


def _add_step(session: Session, model: str, step: Step) -> None:
    add_blob(session, step.diff)
    add_missing(
        session,
        StepRow,
        model=model,
        base=step.base,
        target=step.target,
        diff_sha256=step.diff.sha256,
        coders=step.coders,
    )

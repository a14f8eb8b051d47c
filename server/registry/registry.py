"""The registry's operations; each one is one transaction.

Changes of state are compare-and-swap: an UPDATE names the state that it saw, so that two servers
on one database cannot both be right. A writer that loses gets ConflictError and has changed
nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime

from sqlalchemy import Engine, case, func, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from server.domain import (
    OPEN_STATES,
    Attempt,
    AttemptState,
    Blob,
    Device,
    EndCode,
    Generation,
    Model,
    Report,
    Step,
    next_state,
)
from server.errors import ConflictError, NotFoundError, RegistryError
from server.registry import audit, database
from server.registry.inserts import add_missing as _add_missing
from server.registry.rollouts import RolloutRegistry, add_bytes, admits
from server.registry.rows import (
    AttemptRow,
    BlobRow,
    DeviceRow,
    GenerationRow,
    ModelRow,
    ReportRow,
    StepRow,
)
from server.registry.signing import SigningRecords, add_release
from server.signing.records import SignedRelease


class Registry:
    """The server's memory, over one database.

    Args:
        engine: The database.
        actor: Who changes it, for the audit log; this account of this machine by default.
    """

    def __init__(self, engine: Engine, actor: str | None = None) -> None:
        self._engine = engine
        self.actor = actor or audit.local_actor()
        self.signing = SigningRecords(self._reading, self._writing)

    @classmethod
    def create(cls, url: str) -> "Registry":
        """Create the schema in a database, or bring an older one up to date, and open it.

        Raises:
            SettingError: the URL is not one that we know.
            RegistryError: the database cannot be written.
        """
        engine = database.connect(url)
        with _database_errors(engine):
            database.upgrade(engine)
        return cls(engine)

    @classmethod
    def open(cls, url: str) -> "Registry":
        """Open a database that has the schema of this program.

        Raises:
            SettingError: the URL is not one that we know.
            HomeError: the schema is older, newer or not there.
            RegistryError: the database cannot be read.
        """
        engine = database.connect(url)
        with _database_errors(engine):
            database.require_current(engine)
        return cls(engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def acting_as(self, actor: str) -> "Registry":
        """The same database, for what somebody else changes."""
        return Registry(self._engine, actor)

    def transaction(self, *, writes: bool = False) -> AbstractContextManager[Session]:
        """One transaction, for the operations that other modules of this package add."""
        return self._writing() if writes else self._reading()

    @property
    def rollouts(self) -> RolloutRegistry:
        """Rollouts, and what they know of devices, in the same database."""
        return RolloutRegistry(self._reading, self._writing)

    # ---- models, generations, steps

    def models(self) -> tuple[Model, ...]:
        """All models, by name."""
        with self._reading() as session:
            names = session.scalars(select(ModelRow.name).order_by(ModelRow.name))
            return tuple(Model(name) for name in names)

    def generations(self, model: str) -> tuple[Generation, ...]:
        """All generations of a model in order; none where the model is not known."""
        with self._reading() as session:
            rows = session.scalars(
                select(GenerationRow)
                .where(GenerationRow.model == model)
                .order_by(GenerationRow.number)
            )
            return tuple(_generation(session, row) for row in rows)

    def generation(self, model: str, number: int) -> Generation:
        """One generation.

        Raises:
            NotFoundError: the model has no such generation.
        """
        with self._reading() as session:
            row = session.get(GenerationRow, (model, number))
            if row is None:
                raise NotFoundError(f"expected generation {number} of model {model!r}, found none")
            return _generation(session, row)

    def head(self, model: str) -> Generation | None:
        """The newest generation; None where the model is not known."""
        with self._reading() as session:
            row = session.scalar(
                select(GenerationRow)
                .where(GenerationRow.model == model)
                .order_by(GenerationRow.number.desc())
                .limit(1)
            )
            return _generation(session, row) if row is not None else None

    def steps(self, model: str) -> tuple[Step, ...]:
        """Every diff and snapshot of a model, oldest first."""
        with self._reading() as session:
            rows = session.execute(
                select(StepRow, GenerationRow.digest, BlobRow.length)
                .join(
                    GenerationRow,
                    (GenerationRow.model == StepRow.model)
                    & (GenerationRow.number == StepRow.target),
                )
                .join(BlobRow, BlobRow.sha256 == StepRow.diff_sha256)
                .where(StepRow.model == model)
                .order_by(StepRow.step_id)
            )
            return tuple(
                Step(step.base, step.target, digest, Blob(step.diff_sha256, length), step.coders)
                for step, digest, length in rows
            )

    def blob(self, sha256: bytes) -> Blob:
        """A blob that some generation or step names.

        Raises:
            NotFoundError: none does.
        """
        with self._reading() as session:
            return _blob(session, sha256)

    def add_generation(
        self,
        generation: Generation,
        steps: Sequence[Step],
        release: SignedRelease | None = None,
    ) -> None:
        """Add the next generation of a model (0 creates the model), with the steps to it.

        The caller has made every blob that it names durable and has read it back. Without a
        release no device installs it.

        Raises:
            ConflictError: that number is not the next one any more, or somebody else signed.
        """
        with self._writing() as session:
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
            _add_missing(session, ModelRow, name=generation.model)
            for blob in (generation.snapshot, generation.graph, generation.card):
                if blob is not None:
                    _add_missing(session, BlobRow, sha256=blob.sha256, length=blob.length)
            session.add(_generation_row(generation))
            session.flush()
            for step in steps:
                _add_step(session, generation.model, step)
            audit.record(
                session,
                self.actor,
                "generation.publish",
                f"{generation.model} {generation.number}",
                {"digest": generation.digest.hex(), "parent": generation.parent},
                generation.published_at,
            )
            if release is not None:
                add_release(session, release)

    def add_step(self, model: str, step: Step) -> None:
        """Add a diff between two generations that exist; one that is there already stays."""
        with self._writing() as session:
            _add_step(session, model, step)

    # ---- devices and attempts

    def enroll(self, device: Device) -> None:
        """Add a device.

        Raises:
            NotFoundError: its model is not known.
        """
        with self._writing() as session:
            if session.get(ModelRow, device.model) is None:
                raise NotFoundError(f"expected a known model, found {device.model!r}")
            session.add(
                DeviceRow(
                    device_id=device.device_id,
                    model=device.model,
                    name=device.name,
                    enrolled_at=device.enrolled_at,
                    seen_at=device.seen_at,
                    installed=device.installed,
                )
            )

    def device(self, device_id: str) -> Device:
        """One device.

        Raises:
            NotFoundError: it was never enrolled here.
        """
        with self._reading() as session:
            row = session.get(DeviceRow, device_id)
            if row is None:
                raise NotFoundError(f"expected an enrolled device, found {device_id!r}")
            return Device(
                row.device_id,
                row.model,
                row.name,
                row.enrolled_at,
                row.seen_at,
                row.installed,
                row.decommissioned_at,
            )

    def check_in(
        self, device_id: str, installed: int | None, attempt: Attempt | None, now: datetime
    ) -> bool:
        """Record what a device runs, end what it gave up, and open its new attempt.

        A device that checks in without having reached the target of an open attempt has given
        that attempt up (it restarted, or never got the answer): SUPERSEDED. One that runs the
        target has COMMITTED it, even if the report that says so is lost; should it come late, it
        is recorded with its bytes and moves nothing.

        Args:
            device_id: Who checks in.
            installed: What it runs, proven by its digest; None for nothing.
            attempt: What it is told to do, if anything.
            now: The time.

        Returns:
            Whether the attempt was opened: a rollout may have been stopped meanwhile, or have as
            many under way as it may. True where there was none to open.
        """
        with self._writing() as session:
            session.execute(
                update(DeviceRow)
                .where(DeviceRow.device_id == device_id)
                .values(installed=installed, seen_at=now)
            )
            left_open = update(AttemptRow).where(
                AttemptRow.device_id == device_id, AttemptRow.state.in_(OPEN_STATES)
            )
            reached = left_open.where(AttemptRow.target == installed)
            session.execute(reached.values(state=AttemptState.COMMITTED, ended_at=now))
            # What a device began and gave up counts as a try; what it never began does not.
            began = AttemptRow.state == AttemptState.STARTED
            code = case((began, EndCode.RESTARTED.value))
            given_up = left_open.values(state=AttemptState.SUPERSEDED, code=code, ended_at=now)
            session.execute(given_up)
            if attempt is not None and not admits(session, attempt):
                return False
            if attempt is not None:
                session.add(
                    AttemptRow(
                        attempt_id=attempt.attempt_id,
                        device_id=attempt.device_id,
                        base=attempt.base,
                        target=attempt.target,
                        state=attempt.state,
                        created_at=attempt.created_at,
                        rollout_id=attempt.rollout_id,
                    )
                )
            return True

    def attempt(self, attempt_id: str) -> Attempt:
        """One attempt.

        Raises:
            NotFoundError: there is none of that name.
        """
        with self._reading() as session:
            row = session.get(AttemptRow, attempt_id)
            if row is None:
                raise NotFoundError(f"expected a known attempt, found {attempt_id!r}")
            return Attempt(
                row.attempt_id,
                row.device_id,
                row.base,
                row.target,
                row.state,
                row.created_at,
                row.rollout_id,
                row.code,
            )

    def report(self, report: Report, now: datetime) -> AttemptState:
        """Record a report and move its attempt; a repeated (attempt, sequence) does nothing.

        Returns:
            The state of the attempt afterwards. A final state stays, whatever comes late.

        Raises:
            NotFoundError: the device has no such attempt.
            ConflictError: another report moved the attempt meanwhile.
        """
        with self._writing() as session:
            # Reports of one attempt come one by one, so that a repeated one sees the first.
            attempt = session.get(AttemptRow, report.attempt_id, with_for_update=True)
            if attempt is None or attempt.device_id != report.device_id:
                raise NotFoundError(
                    f"expected an attempt of device {report.device_id!r}, "
                    f"found {report.attempt_id!r}"
                )
            if session.get(ReportRow, (report.attempt_id, report.sequence)) is not None:
                return attempt.state
            add_bytes(session, report, now)
            session.add(_report_row(report, now))
            reached = next_state(attempt.state, report.outcome)
            if reached is not attempt.state:
                _move(session, attempt, reached, report.code or None, now)
            return reached

    def device_counts(self, model: str) -> dict[int | None, int]:
        """How many devices of a model in service run which generation (None: nothing yet)."""
        with self._reading() as session:
            rows = session.execute(
                select(DeviceRow.installed, func.count())
                .where(DeviceRow.model == model, DeviceRow.decommissioned_at.is_(None))
                .group_by(DeviceRow.installed)
                .order_by(DeviceRow.installed.nulls_first())
            )
            return {row[0]: row[1] for row in rows}

    def attempt_counts(self, model: str) -> dict[AttemptState, int]:
        """How many attempts of a model's devices are in which state."""
        with self._reading() as session:
            rows = session.execute(
                select(AttemptRow.state, func.count())
                .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
                .where(DeviceRow.model == model)
                .group_by(AttemptRow.state)
                .order_by(AttemptRow.state)
            )
            return {row[0]: row[1] for row in rows}

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with _database_errors(self._engine), Session(self._engine) as session, session.begin():
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        engine = self._engine.execution_options(writes=True)
        with _database_errors(engine), Session(engine) as session, session.begin():
            yield session


@contextmanager
def _database_errors(engine: Engine) -> Iterator[None]:
    """Stop SQLAlchemy's exceptions at this seam; the message names the database."""
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
    diff = step.diff
    _add_missing(session, BlobRow, sha256=diff.sha256, length=diff.length)
    _add_missing(
        session,
        StepRow,
        model=model,
        base=step.base,
        target=step.target,
        diff_sha256=diff.sha256,
        coders=step.coders,
    )


def _report_row(report: Report, now: datetime) -> ReportRow:
    return ReportRow(
        attempt_id=report.attempt_id,
        sequence=report.sequence,
        outcome=report.outcome,
        code=report.code,
        bytes_sent=report.bytes_sent,
        bytes_received=report.bytes_received,
        apply_ms=report.apply_ms,
        received_at=now,
    )


def _move(
    session: Session, attempt: AttemptRow, reached: AttemptState, code: str | None, now: datetime
) -> None:
    seen = attempt.state
    moved = session.scalar(
        update(AttemptRow)
        .where(AttemptRow.attempt_id == attempt.attempt_id, AttemptRow.state == seen)
        .values(state=reached, code=code, ended_at=now if reached.is_final else None)
        .returning(AttemptRow.attempt_id)
    )
    if moved is None:
        raise ConflictError(
            f"attempt {attempt.attempt_id}: expected state {seen}, found that it has moved on"
        )
    if reached is AttemptState.COMMITTED:
        # Only from the base that the attempt started at: a later check-in knows better.
        session.execute(
            update(DeviceRow)
            .where(
                DeviceRow.device_id == attempt.device_id,
                DeviceRow.installed.is_not_distinct_from(attempt.base),
            )
            .values(installed=attempt.target)
        )

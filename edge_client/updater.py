"""Bring a home to the generation that its server offers, once.

The order is what makes it safe: everything is downloaded and checked first, the passive slot is
filled, read back and tried, and only then does the pointer move. The plan is a hint: before any
of its files is fetched, each must be named by what the publisher signed (edge_client.trust).
Wherever a power cut comes, the home holds the old generation or the new one, and the next update
starts from there.

What is installed may have rotted since. An update that finds it damaged, or finds that the server
knows no way on from it, starts again from a snapshot, as on a device that holds nothing.

    >>> result = update(EdgeHome(Path("home")))
    >>> result.after.number, result.costs.traffic.received_bytes
    (4, 40231)
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from diffcodec import available_coders
from edge_client import download
from edge_client.enrollment import fetch_certificate, renew_when_due
from edge_client.errors import (
    CertificateRefusedError,
    CredentialError,
    DigestMismatchError,
    DiskFullError,
    EdgeError,
    HomeError,
    RejectedError,
    StorageError,
    UnknownGenerationError,
    UnreadableSlotError,
    WithdrawnError,
    WrongBaseError,
)
from edge_client.filling import Filling
from edge_client.footprint import Costs
from edge_client.home import Config, EdgeHome
from edge_client.inference import check_golden, check_health
from edge_client.offer import Deferral, Generation, Plan, Step
from edge_client.pace import Pace
from edge_client.progress import OnProgress
from edge_client.retry import Retry
from edge_client.slots import Installed
from edge_client.transport import Connection, Outcome, Report
from edge_client.trust import Trust
from edge_client.trust.trust import Clock, utc_now


@dataclass(frozen=True)
class UpdateResult:
    """What an update did.

    Attributes:
        before: What was installed; None: nothing.
        after: What is installed now; None: still nothing, because nothing was offered.
        head: The newest generation of the model; None: it has none yet.
        steps: The diffs that were applied; none when there was nothing to do.
        costs: What it took.
        is_reported: The server has heard of the success.
        repaired: What was wrong with the installed generation, so that a snapshot replaced it;
            None: nothing.
        deferral: Why the server lets this device wait although there is something for it.
        come_again_s: When the server wants to be asked again; None: it does not say.
    """

    before: Generation | None
    after: Generation | None
    head: int | None
    steps: tuple[Step, ...] = ()
    costs: Costs = field(default_factory=Costs)
    is_reported: bool = True
    repaired: str | None = None
    deferral: Deferral | None = None
    come_again_s: int | None = None

    @property
    def diff_bytes(self) -> int:
        """Length of the diffs that were applied."""
        return sum(step.diff.length_bytes for step in self.steps)


def update(
    home: EdgeHome,
    retry: Retry | None = None,
    on_progress: OnProgress = lambda progress: None,
    is_metered: bool = False,
    *,
    clock: Clock = utc_now,
    pace: Pace | None = None,
) -> UpdateResult:
    """Install what the server offers, if it offers anything.

    Args:
        home: An enrolled home.
        retry: How patiently to wait for the server.
        on_progress: Told how far it is.
        is_metered: The link costs money by the byte; the server may let the device wait.
        clock: By which expiry is judged, or by the time high-water where that is later.
        pace: The slowest download that is put up with.

    Raises:
        EdgeError: what was installed before is installed still (see errors.py for what to do).
            The server is told, if it can be reached.
    """
    retry = retry or Retry()
    home.config()  # before the lock makes a folder of a name that was mistyped
    with home.locked():
        config = home.config()
        with Connection.open(config.server, home.identity.credential(), retry, pace) as server:
            trust = Trust(home.path, config.model, server, clock)
            filling = Filling(home, server, retry, on_progress)
            one_pass = _Update(home, server, trust, filling, is_metered)
            try:
                result = one_pass.run()
            except CertificateRefusedError as refused:
                _fetch_certificate(home, config, server, refused)
                result = one_pass.run()
            renew_when_due(home, config, server)
        return replace(result, costs=replace(result.costs, traffic=server.traffic))


def _fetch_certificate(
    home: EdgeHome, config: Config, server: Connection, refused: CertificateRefusedError
) -> None:
    """Ask for a new certificate by the same key: ours may have ended while the device slept."""
    try:
        fetch_certificate(home, config, server)
    except (CertificateRefusedError, CredentialError):
        # Then it is not our certificate alone that is refused; the first message says most.
        raise refused from None


@dataclass(frozen=True)
class _Update:
    """One pass, with what it works with."""

    home: EdgeHome
    server: Connection
    trust: Trust
    filling: Filling
    is_metered: bool

    def run(self) -> UpdateResult:
        """Follow the server; from a snapshot, if what is installed cannot be built on."""
        installed = None
        try:
            installed = self._installed()
            self._remember(installed)
            result = self._follow(installed)
            if installed and not result.steps:
                installed.slot.verify(installed.record)
        except EdgeError as error:
            if not _calls_for_a_snapshot(error, installed):
                raise
            return self._repair(installed, error)
        return result

    def _installed(self) -> Installed | None:
        """What serves, if it can be read at all.

        Raises:
            UnreadableSlotError: pointer, record or layout is damaged.
        """
        try:
            installed = self.home.slots.installed()
            if installed is not None:
                installed.slot.layout()
        except (HomeError, StorageError) as error:
            raise UnreadableSlotError(str(error)) from error
        return installed

    def _remember(self, installed: Installed | None) -> None:
        """What serves was committed, even if a power cut came before that was written down."""
        if installed is not None:
            self.trust.commit(installed.record.generation.number)

    def _repair(self, installed: Installed | None, damage: EdgeError) -> UpdateResult:
        """Replace what is installed by a snapshot; the other slot takes it, as always."""
        result = self._follow(None)
        if not result.steps:
            raise damage
        before = installed.record.generation if installed else None
        return replace(result, before=before, repaired=str(damage))

    def _follow(self, installed: Installed | None) -> UpdateResult:
        """Ask what to do and do it.

        Args:
            installed: What to build on; None: nothing, a snapshot is needed.
        """
        before = installed.record.generation if installed else None
        held = installed.sound_files() if installed else {}
        answer = self.server.check_in(before, held, available_coders(), self.is_metered)
        plan = answer.plan
        if plan is None:
            self.trust.refresh()
            if before and before.number == answer.head:
                self._clean_up()
            return UpdateResult(
                before,
                after=before,
                head=answer.head,
                deferral=answer.deferral,
                come_again_s=answer.come_again_s,
            )
        with self._attempt(plan):
            signed = self.trust.authorise(plan, before)
            plan = signed.plan
            verified, costs = self.filling.fill_passive(plan, held, installed)
            check_health(verified.slot)
            check_golden(verified.slot, signed.golden_runs)
            self._ask_leave(plan)
            self.home.slots.activate(verified)
        # It serves, whether that can be written down now or at the next start.
        with suppress(DiskFullError, StorageError):
            self.trust.commit(plan.target.number)
        self._clean_up()
        return UpdateResult(
            before,
            after=plan.target,
            head=answer.head,
            steps=plan.steps,
            costs=costs,
            is_reported=self._report_success(plan, costs.apply_s),
            come_again_s=answer.come_again_s,
        )

    @contextmanager
    def _attempt(self, plan: Plan) -> Iterator[None]:
        """Tell the server that the attempt begins, and why it fails if it does."""
        self.server.report(Report(plan.attempt_id, 1, Outcome.STARTED))
        try:
            yield
        except EdgeError as error:
            failed = Report(plan.attempt_id, _last_sequence(plan), Outcome.FAILED, code=error.code)
            # What went wrong matters more than that the server could not be told.
            with suppress(EdgeError):
                self.server.report(failed)
            raise

    def _ask_leave(self, plan: Plan) -> None:
        """Hear a last time whether a rollout still wants its generation.

        Raises:
            WithdrawnError: it does not.
        """
        if not plan.rollout_id:
            return
        is_withdrawn = False
        # What is verified and healthy need not wait for a server that does not answer.
        with suppress(EdgeError):
            report = Report(plan.attempt_id, 2, Outcome.STARTED)
            is_withdrawn = self.server.report(report)
        if is_withdrawn:
            raise WithdrawnError(
                f"generation {plan.target.number} is not wanted any more: the server has stopped "
                f"rollout {plan.rollout_id}"
            )

    def _clean_up(self) -> None:
        """Remove what was downloaded; it is installed now.

        That may have been done by a process that was killed before it came to this point.
        """
        # The update stands all the same: the next one removes what stays behind here.
        with suppress(StorageError):
            download.keep_only((), self.home.staging)

    def _report_success(self, plan: Plan, apply_s: float) -> bool:
        report = Report(plan.attempt_id, _last_sequence(plan), Outcome.COMMITTED, apply_s=apply_s)
        try:
            self.server.report(report)
        except EdgeError:
            # The generation serves whether the server knows or not; the next check-in says so.
            return False
        return True


def _last_sequence(plan: Plan) -> int:
    """Of the report that ends an attempt: after the one that asks for leave, where there is one."""
    return 3 if plan.rollout_id else 2


def _calls_for_a_snapshot(error: EdgeError, installed: Installed | None) -> bool:
    """Whether an update failed for what the device holds, not for what it was offered."""
    if isinstance(error, UnreadableSlotError):
        return True
    if installed is None:
        return False
    if isinstance(error, WrongBaseError | UnknownGenerationError):
        return True
    if not isinstance(error, RejectedError | HomeError | StorageError):
        return False
    try:
        installed.slot.verify(installed.record)
    except (DigestMismatchError, HomeError, StorageError):
        return True
    return False

"""Check-ins in the registry: what they are decided by, and what they leave behind.

Both take any number of devices: a fleet that wakes at once shares two transactions.

    >>> around = registry.check_ins.surroundings({"kitchen", "hall"}, now)
    >>> registry.check_ins.record([CheckedIn("kitchen", installed=3, attempt=attempt)], now)
    frozenset({'0f3a...'})
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from sqlalchemy import BindParameter, and_, bindparam, case, func, insert, or_, select, update
from sqlalchemy.orm import Session

from server.clock import month_of
from server.domain import Attempt, AttemptState, EndCode, Generation, Step
from server.registry.attempts import IS_OPEN, tries
from server.registry.generations import generations_of, steps_of
from server.registry.members import attributes_by_device
from server.registry.rollout_rows import DeviceSettingRow, MonthlyBytesRow, RolloutRow
from server.registry.rollout_values import OLDEST_FIRST, rollouts_of
from server.registry.rows import AttemptRow, DeviceRow, GenerationRow, StepRow
from server.registry.signing import revoked
from server.registry.signing_rows import ManifestRow
from server.registry.transactions import Transactions
from server.rollouts.rollout import Channel, Member, Rollout
from server.rollouts.states import OFFERING


@dataclass(frozen=True)
class Catalogue:
    """What a model has for its devices.

    Attributes:
        model: Its name.
        generations: All of them; each is at the index that is its number.
        revoked: The numbers of those that must not be installed any more.
        steps: Every diff and snapshot, oldest first.
        rollouts: Those that may offer something, and the first one; oldest first. Empty where the
            model never had one.
    """

    model: str
    generations: tuple[Generation, ...]
    revoked: frozenset[int]
    steps: tuple[Step, ...]
    rollouts: tuple[Rollout, ...]

    @cached_property
    def offered(self) -> tuple[int, ...]:
        """The generations that devices may install, oldest first."""
        return tuple(n for n in range(len(self.generations)) if n not in self.revoked)


@dataclass(frozen=True)
class Surroundings:
    """What a check-in is decided by, beside what the device says.

    Attributes:
        catalogue: Of the device's model.
        member: The device; `installed` is what it ran when it was last heard of. Its attributes
            are left out where no rollout asks for them.
        budget_bytes: Its own monthly budget; None: it has none.
        used_bytes: What it reported this month.
        tries: Attempts that it ended without success, by rollout.
    """

    catalogue: Catalogue
    member: Member
    budget_bytes: int | None = None
    used_bytes: int = 0
    tries: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckedIn:
    """A device that was heard: what it runs, proven by its digest, and what it is told to do."""

    device_id: str
    installed: int | None
    attempt: Attempt | None = None


# Built once: making a statement costs as much as asking it.
_IDS: BindParameter[list[str]] = bindparam("device_ids", expanding=True)
_DEVICES = (
    select(
        DeviceRow.device_id,
        DeviceRow.model,
        DeviceRow.installed,
        DeviceSettingRow.channel,
        DeviceSettingRow.monthly_bytes,
        MonthlyBytesRow.bytes_spent,
    )
    .outerjoin(DeviceSettingRow, DeviceSettingRow.device_id == DeviceRow.device_id)
    .outerjoin(
        MonthlyBytesRow,
        (MonthlyBytesRow.device_id == DeviceRow.device_id)
        & (MonthlyBytesRow.month == bindparam("month")),
    )
    .where(DeviceRow.device_id.in_(_IDS))
)
# Numbers of steps are never used twice, and all else only grows: equal numbers, equal catalogue.
_EDITION = select(
    *(
        select(number).where(model == bindparam("model"), *conditions).scalar_subquery()
        for model, number, *conditions in (
            (GenerationRow.model, func.count()),
            (StepRow.model, func.count()),
            (StepRow.model, func.max(StepRow.step_id)),
            (ManifestRow.model, func.count(), ManifestRow.revoked_at.is_not(None)),
            (RolloutRow.model, func.count()),
            (RolloutRow.model, func.sum(RolloutRow.version)),
        )
    )
)

_OPEN_OF = and_(AttemptRow.device_id.in_(_IDS), IS_OPEN)
_ANY_OPEN = select(AttemptRow.attempt_id).where(_OPEN_OF).limit(1)
_REACHED = (
    update(AttemptRow)
    .where(_OPEN_OF, AttemptRow.target == bindparam("runs"))
    .values(state=AttemptState.COMMITTED, ended_at=bindparam("now"))
)
# What a device began and gave up counts as a try; what it never began does not.
_GIVEN_UP = (
    update(AttemptRow)
    .where(_OPEN_OF)
    .values(
        state=AttemptState.SUPERSEDED,
        code=case((AttemptRow.state == AttemptState.STARTED, EndCode.RESTARTED.value)),
        ended_at=bindparam("now"),
    )
)
_SEEN = (
    update(DeviceRow)
    .where(DeviceRow.device_id.in_(_IDS))
    .values(installed=bindparam("runs"), seen_at=bindparam("now"))
)

Edition = tuple[int | None, ...]


class CheckInRecords:
    """The part of the registry that devices ask most."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._catalogues: dict[str, tuple[Edition, Catalogue]] = {}

    def surroundings(
        self, device_ids: Collection[str], now: datetime
    ) -> Mapping[str, Surroundings]:
        """What check-ins are decided by; a device that was never enrolled here is left out."""
        with self._transactions.reading() as session:
            asked = {"device_ids": list(device_ids), "month": month_of(now)}
            rows = session.execute(_DEVICES, asked).all()
            models = {row.model for row in rows}
            catalogues = {model: self._catalogue(session, model) for model in models}
            steered = [row.device_id for row in rows if catalogues[row.model].rollouts]
            attributes = (
                attributes_by_device(session, DeviceRow.device_id.in_(steered)) if steered else {}
            )
            tried = tries(session, steered) if steered else {}
        return {
            row.device_id: Surroundings(
                catalogues[row.model],
                Member(
                    row.device_id,
                    row.channel or Channel.STABLE,
                    attributes.get(row.device_id, {}),
                    row.installed,
                ),
                row.monthly_bytes,
                row.bytes_spent or 0,
                tried.get(row.device_id, {}),
            )
            for row in rows
        }

    def record(self, heard: Sequence[CheckedIn], now: datetime) -> frozenset[str]:
        """Record what devices run, end what they gave up, and open their new attempts.

        A device that checks in without having reached the target of an open attempt has given
        that attempt up (it restarted, or never got the answer): SUPERSEDED. One that runs the
        target has COMMITTED it, even if the report that says so is lost; should it come late, it
        is recorded with its bytes and moves nothing.

        Args:
            heard: The devices, each at most once.
            now: The time.

        Returns:
            The ids of the attempts that were opened: a rollout may have been stopped meanwhile,
            or have as many under way as it may.
        """
        ids = [one.device_id for one in heard]
        wanted = [one.attempt for one in heard if one.attempt is not None]
        by_installed: dict[int | None, list[str]] = defaultdict(list)
        for one in heard:
            by_installed[one.installed].append(one.device_id)
        with self._transactions.writing() as session:
            # Rollouts, attempts, devices: whoever locks several goes in this order.
            limits = _hold(session, {attempt.rollout_id for attempt in wanted})
            tables = session.connection()
            if tables.scalar(_ANY_OPEN, {"device_ids": ids}) is not None:
                for installed, devices in by_installed.items():
                    told = {"device_ids": devices, "runs": installed, "now": now}
                    tables.execute(_REACHED, told)
                    tables.execute(_GIVEN_UP, told)
            for installed, devices in by_installed.items():
                tables.execute(_SEEN, {"device_ids": devices, "runs": installed, "now": now})
            opened = _admitted(session, wanted, limits)
            if opened:
                session.execute(insert(AttemptRow), list(map(_values, opened)))
            return frozenset(attempt.attempt_id for attempt in opened)

    def _catalogue(self, session: Session, model: str) -> Catalogue:
        """What a model has, read anew where it is not what it was."""
        edition = tuple(session.execute(_EDITION, {"model": model}).one())
        known = self._catalogues.get(model)
        if known is not None and known[0] == edition:
            return known[1]
        catalogue = Catalogue(
            model,
            generations_of(session, model),
            revoked(session, model),
            steps_of(session, model),
            _offering(session, model),
        )
        # Should it have changed since the edition was read, it is read once more next time.
        self._catalogues[model] = edition, catalogue
        return catalogue


def _offering(session: Session, model: str) -> tuple[Rollout, ...]:
    """The rollouts of a model that may offer something, and its first one."""
    ordered = OLDEST_FIRST.where(RolloutRow.model == model)
    first = session.scalar(ordered.where(RolloutRow.undoes.is_(None)).limit(1))
    if first is None:
        return ()
    wanted = or_(RolloutRow.state.in_(OFFERING), RolloutRow.rollout_id == first.rollout_id)
    return rollouts_of(session, session.scalars(ordered.where(wanted)))


def _hold(session: Session, rollout_ids: Iterable[str | None]) -> dict[str, int | None]:
    """The rollouts that still offer something, with what may be under way at once (None: any).

    They stay so until the transaction ends: one that stops sees every attempt that it let begin.
    """
    limits: dict[str, int | None] = {}
    for name in sorted(filter(None, rollout_ids)):
        wanted = RolloutRow.rollout_id == name
        limit = session.scalars(select(RolloutRow.maximum_in_flight).where(wanted)).one()
        # Where attempts are counted they come one by one; otherwise they only keep the state.
        locked = select(RolloutRow.state).where(wanted).with_for_update(read=limit is None)
        if session.scalars(locked).one().is_offering:
            limits[name] = limit
    return limits


def _admitted(
    session: Session, wanted: Iterable[Attempt], limits: Mapping[str, int | None]
) -> list[Attempt]:
    """The attempts that their rollouts let begin, as many as may be under way."""
    free: dict[str, int] = {}
    for name, limit in limits.items():
        if limit is not None:
            under_way = select(func.count()).where(AttemptRow.rollout_id == name, IS_OPEN)
            free[name] = limit - session.scalars(under_way).one()
    admitted = []
    for attempt in wanted:
        rollout = attempt.rollout_id
        if rollout is None or (rollout in limits and free.get(rollout, 1) > 0):
            admitted.append(attempt)
            if rollout in free:
                free[rollout] -= 1
    return admitted


def _values(attempt: Attempt) -> dict[str, object]:
    return {
        "attempt_id": attempt.attempt_id,
        "device_id": attempt.device_id,
        "base": attempt.base,
        "target": attempt.target,
        "state": attempt.state,
        "created_at": attempt.created_at,
        "rollout_id": attempt.rollout_id,
    }

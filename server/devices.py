"""What devices ask: what to do next, and to be heard.

The planner decides, the registry records; names and clocks come in as arguments. Devices that ask
at the same time are answered together (server.batching). Blocking, so the service runs these in
threads.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random, SystemRandom

from diffcodec import Coder
from server.clock import Clock, utc_now
from server.domain import (
    EVERY_DEVICE,
    Attempt,
    AttemptState,
    Generation,
    Plan,
    Report,
)
from server.errors import NoRouteError, NotFoundError, ServerError, UnknownStateError
from server.planner import plan_for
from server.registry import Registry
from server.registry.check_ins import Catalogue, CheckedIn, Surroundings
from server.rollouts.assignment import Assignment, assignment_of
from server.rollouts.conditions import Case, Deferral, Reason, deferral_of
from server.rollouts.pacing import come_again_s
from server.rollouts.ticking import judge


@dataclass(frozen=True)
class Installed:
    """What a device says that it runs."""

    number: int
    digest: bytes


@dataclass(frozen=True)
class Answer:
    """What a device that checks in is told: the newest generation and what to do, if anything.

    `head` is the newest that was not revoked, `deferral` says why the device must wait though there
    is something for it, and `come_again_s` when to check in next.
    """

    head: int | None
    plan: Plan | None
    deferral: Deferral | None
    come_again_s: int


@dataclass(frozen=True)
class CheckIn:
    """What a device says when it asks what to do.

    Attributes:
        device_id: Its id.
        installed: What it runs; None for nothing.
        held: SHA-256 of graphs and cards that it has.
        coders: What it decodes.
        is_metered: Its link costs money by the byte.
    """

    device_id: str
    installed: Installed | None
    held: frozenset[bytes] = frozenset()
    coders: frozenset[Coder] = EVERY_DEVICE
    is_metered: bool = False


def check_in(
    registry: Registry,
    asked: Sequence[CheckIn],
    now: Clock = utc_now,
    random: Random | None = None,
) -> list[Answer | ServerError]:
    """Plan the next updates of devices.

    Every plan is a new attempt. One that the device left open before it restarted is superseded
    rather than handed out again: a device that lost its journal numbers its reports from the
    start, and under the old name those would pass for repetitions of what was heard already.

    Args:
        registry: Who knows the devices.
        asked: What they say, in the order in which they came.
        now: The clock.
        random: Spreads devices in time.

    Returns:
        An answer for each, in their order, or why there is none: NotFoundError (no such device),
        UnknownStateError (it runs a generation that this server never made), NoRouteError
        (nothing leads to where it should go).

    Raises:
        RegistryError: the database failed; nobody was heard.
    """
    time, spread = now(), random or SystemRandom()
    answers: dict[int, Answer | ServerError] = {}
    for turn in _turns(asked):
        decided = _decide([asked[at] for at in turn], registry, time)
        heard = [one.heard for one in decided if isinstance(one, _Decision)]
        opened = registry.check_ins.record(heard, time)
        for at, one in zip(turn, decided, strict=True):
            if isinstance(one, _Decision):
                answers[at] = _answer(one, opened, time, spread)
            else:
                answers[at] = one
    return [answers[at] for at in range(len(asked))]


def report(registry: Registry, report: Report, now: Clock = utc_now) -> AttemptState:
    """Record what a device says about an attempt; repeating it changes nothing.

    A failure is judged at once, not at the next tick.

    Raises:
        NotFoundError: the device has no such attempt.
        ConflictError: another report moved the attempt meanwhile.
    """
    time = now()
    state = registry.report(report, time)
    if state is AttemptState.FAILED:
        judge(registry, report.attempt_id, time)
    return state


@dataclass(frozen=True)
class _Decision:
    """What a device should do, before the registry agrees."""

    heard: CheckedIn
    head: int | None
    plan: Plan | None
    deferral: Deferral | None


def _turns(asked: Sequence[CheckIn]) -> Iterator[list[int]]:
    """Indices in order, such that no device is in a turn twice; nearly always it is one turn."""
    left = list(range(len(asked)))
    while left:
        first = {asked[at].device_id: at for at in reversed(left)}
        turn = set(first.values())
        yield sorted(turn)
        left = [at for at in left if at not in turn]


def _decide(
    asked: Sequence[CheckIn], registry: Registry, time: datetime
) -> list[_Decision | ServerError]:
    around = registry.check_ins.surroundings({one.device_id for one in asked}, time)
    decided: list[_Decision | ServerError] = []
    for one in asked:
        try:
            decided.append(_decision(one, around.get(one.device_id), time))
        except (NotFoundError, UnknownStateError, NoRouteError) as error:
            decided.append(error)
    return decided


def _decision(asked: CheckIn, around: Surroundings | None, time: datetime) -> _Decision:
    if around is None:
        raise NotFoundError(f"expected an enrolled device, found {asked.device_id!r}")
    catalogue = around.catalogue
    running = _recognise(catalogue, asked.installed)
    base = running.number if running is not None else None
    member = replace(around.member, installed=base)
    assignment = assignment_of(member, catalogue.rollouts, catalogue.offered)
    plan = deferral = None
    if assignment is not None:
        plan = _plan(catalogue, running, assignment, asked)
        deferral = _deferral(around, assignment, plan, asked.is_metered, time)
    if deferral is not None:
        plan = None
    heard = CheckedIn(asked.device_id, base, _attempt(asked.device_id, base, plan, time))
    return _Decision(heard, max(catalogue.offered, default=None), plan, deferral)


def _answer(decision: _Decision, opened: frozenset[str], time: datetime, random: Random) -> Answer:
    """What the device is told, now that the registry has opened its attempt, or has not."""
    plan, deferral = decision.plan, decision.deferral
    if plan is not None and plan.attempt_id not in opened:
        plan = None
        deferral = Deferral(
            Reason.IN_FLIGHT, "as many devices are being updated as may be, or the rollout stopped"
        )
    return Answer(decision.head, plan, deferral, come_again_s(deferral, time, random))


def _recognise(catalogue: Catalogue, installed: Installed | None) -> Generation | None:
    """The generation that a device runs, once its digest proves it."""
    if installed is None:
        return None
    if installed.number >= len(catalogue.generations):
        raise UnknownStateError(
            f"expected a generation of model {catalogue.model!r}, found a device that runs "
            f"generation {installed.number}"
        )
    generation = catalogue.generations[installed.number]
    if generation.digest != installed.digest:
        raise UnknownStateError(
            f"expected generation {installed.number} of model {catalogue.model!r} to have digest "
            f"{generation.digest.hex()}, found {installed.digest.hex()}"
        )
    return generation


def _plan(
    catalogue: Catalogue, running: Generation | None, assignment: Assignment, asked: CheckIn
) -> Plan | None:
    target = catalogue.generations[assignment.target]
    attempt_id = uuid.uuid4().hex
    plan = plan_for(attempt_id, running, target, catalogue.steps, asked.held, asked.coders)
    if plan is None or assignment.rollout is None:
        return plan
    return replace(plan, rollout_id=assignment.rollout.rollout_id)


def _deferral(
    around: Surroundings,
    assignment: Assignment,
    plan: Plan | None,
    is_metered: bool,
    time: datetime,
) -> Deferral | None:
    """Why the device must wait with a plan, if anything says so."""
    rollout = assignment.rollout
    case = Case(
        now=time,
        attributes=around.member.attributes,
        is_metered=is_metered,
        plan_bytes=plan.length if plan is not None else 0,
        used_bytes=around.used_bytes,
        budget_bytes=around.budget_bytes,
        tries=around.tries.get(rollout.rollout_id, 0) if rollout is not None else 0,
    )
    return deferral_of(rollout.policy if rollout is not None else None, case)


def _attempt(device_id: str, base: int | None, plan: Plan | None, time: datetime) -> Attempt | None:
    if plan is None:
        return None
    return Attempt(
        plan.attempt_id,
        device_id,
        base,
        plan.target.number,
        AttemptState.PLANNED,
        created_at=time,
        rollout_id=plan.rollout_id,
    )

"""What devices ask: what to do next, and to be heard.

The planner decides, the registry records; names and clocks come in as arguments. Blocking, so
the service runs these in threads.
"""

import uuid
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
from server.errors import NotFoundError, UnknownStateError
from server.planner import plan_for
from server.registry import Registry
from server.registry.rollouts import Surroundings
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


def check_in(
    registry: Registry,
    device_id: str,
    installed: Installed | None,
    held: frozenset[bytes],
    coders: frozenset[Coder] = EVERY_DEVICE,
    is_metered: bool = False,
    now: Clock = utc_now,
    random: Random | None = None,
) -> Answer:
    """Plan the device's next update.

    Every plan is a new attempt. One that the device left open before it restarted is superseded
    rather than handed out again: a device that lost its journal numbers its reports from the
    start, and under the old name those would pass for repetitions of what was heard already.

    Args:
        registry: Who knows the device.
        device_id: Its id.
        installed: What it runs; None for nothing.
        held: SHA-256 of graphs and cards that it has.
        coders: What it decodes.
        is_metered: Its link costs money by the byte.
        now: The clock.
        random: Spreads devices in time.

    Raises:
        NotFoundError: no such device.
        UnknownStateError: it runs a generation that this server never made.
        NoRouteError: nothing leads to where it should go.
    """
    device = registry.device(device_id)
    running = _recognise(registry, device.model, installed)
    offered = _offered(registry, device.model)
    time = now()
    base = running.number if running is not None else None
    around = registry.rollouts.surroundings(device_id, device.model, time)
    member = replace(around.member, installed=base)
    assignment = assignment_of(member, around.rollouts, offered)
    plan = deferral = None
    if assignment is not None:
        plan = _plan(registry, device.model, running, assignment, held, coders)
        deferral = _deferral(around, assignment, plan, is_metered, time)
    if deferral is not None:
        plan = None
    if not registry.check_in(device_id, base, _attempt(device_id, base, plan, time), time):
        plan = None
        deferral = Deferral(
            Reason.IN_FLIGHT, "as many devices are being updated as may be, or the rollout stopped"
        )
    head = offered[-1] if offered else None
    return Answer(head, plan, deferral, come_again_s(deferral, time, random or SystemRandom()))


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


def _offered(registry: Registry, model: str) -> tuple[int, ...]:
    """The generations that devices may install, oldest first: all but the revoked ones."""
    head = registry.head(model)
    if head is None:
        return ()
    revoked = registry.signing.revoked(model)
    # Generations are numbered without a gap.
    return tuple(number for number in range(head.number + 1) if number not in revoked)


def _recognise(registry: Registry, model: str, installed: Installed | None) -> Generation | None:
    """The generation that a device runs, once its digest proves it."""
    if installed is None:
        return None
    try:
        generation = registry.generation(model, installed.number)
    except NotFoundError as error:
        raise UnknownStateError(
            f"expected a generation of model {model!r}, found a device that runs "
            f"generation {installed.number}"
        ) from error
    if generation.digest != installed.digest:
        raise UnknownStateError(
            f"expected generation {installed.number} of model {model!r} to have digest "
            f"{generation.digest.hex()}, found {installed.digest.hex()}"
        )
    return generation


def _plan(
    registry: Registry,
    model: str,
    running: Generation | None,
    assignment: Assignment,
    held: frozenset[bytes],
    coders: frozenset[Coder],
) -> Plan | None:
    target = registry.generation(model, assignment.target)
    plan = plan_for(uuid.uuid4().hex, running, target, registry.steps(model), held, coders)
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

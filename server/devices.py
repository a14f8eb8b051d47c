"""What devices ask: what to do next, and to be heard.

The planner decides, the registry records; names and clocks come in as arguments. Blocking, so
the service runs these in threads.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from diffcodec import Coder
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

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock that the server runs by."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Installed:
    """What a device says that it runs."""

    number: int
    digest: bytes


@dataclass(frozen=True)
class Answer:
    """What a device that checks in is told: the newest generation and what to do, if anything."""

    head: int | None
    plan: Plan | None


def check_in(
    registry: Registry,
    device_id: str,
    installed: Installed | None,
    held: frozenset[bytes],
    coders: frozenset[Coder] = EVERY_DEVICE,
    now: Clock = utc_now,
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
        now: The clock.

    Raises:
        NotFoundError: no such device.
        UnknownStateError: it runs a generation that this server never made.
        NoRouteError: nothing leads to the head.
    """
    device = registry.device(device_id)
    running = _recognise(registry, device.model, installed)
    head = registry.head(device.model)
    time = now()
    plan = None
    if head is not None and head != running:
        steps = registry.steps(device.model)
        plan = plan_for(uuid.uuid4().hex, running, head, steps, held, coders)
    base = running.number if running is not None else None
    registry.check_in(device_id, base, _attempt(device_id, base, plan, time), time)
    return Answer(head.number if head is not None else None, plan)


def report(registry: Registry, report: Report, now: Clock = utc_now) -> AttemptState:
    """Record what a device says about an attempt; repeating it changes nothing.

    Raises:
        NotFoundError: the device has no such attempt.
    """
    return registry.report(report, now())


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


def _attempt(device_id: str, base: int | None, plan: Plan | None, time: datetime) -> Attempt | None:
    if plan is None:
        return None
    return Attempt(
        plan.attempt_id, device_id, base, plan.target.number, AttemptState.PLANNED, created_at=time
    )

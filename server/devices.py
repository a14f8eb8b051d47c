"""What devices ask: to enrol, what to do next, and to be heard.

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
    Device,
    Generation,
    Plan,
    Report,
)
from server.errors import NotFoundError, RequestError, UnknownStateError
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


def enroll(registry: Registry, model: str, name: str, now: Clock = utc_now) -> Device:
    """Add a device that will follow a model.

    Args:
        registry: Where to.
        model: Its name; empty for the only one that there is.
        name: What people call the device.
        now: The clock.

    Raises:
        NotFoundError: no such model.
        RequestError: no model is named, and there is not just one.
    """
    time = now()
    model = model or _only_model(registry)
    device = Device(uuid.uuid4().hex, model, name, enrolled_at=time, seen_at=time)
    registry.enroll(device)
    return device


def _only_model(registry: Registry) -> str:
    names = [model.name for model in registry.models()]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise RequestError(f"expected the name of a model to follow; the server has: {found}")
    return names[0]


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
    head = _offered(registry, device.model)
    time = now()
    plan = None
    # A device that runs what was revoked waits for a newer one: it never goes back.
    if head is not None and (running is None or head.number > running.number):
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


def _offered(registry: Registry, model: str) -> Generation | None:
    """The newest generation that was not revoked."""
    head = registry.head(model)
    revoked = registry.signing.revoked(model)
    if head is None or head.number not in revoked:
        return head
    offered = [g for g in registry.generations(model) if g.number not in revoked]
    return offered[-1] if offered else None


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

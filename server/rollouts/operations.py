"""What operators do with rollouts.

    >>> rollout = create(registry, "digits", target=5, phases=parse_phases(["10%", "100%"]))
    >>> start(home, rollout)

Each reads a rollout, decides, and swaps: where somebody else was faster, ConflictError says so
and nothing has changed.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from types import EllipsisType

from diffcodec.errors import CodecError
from server.clock import Clock, utc_now
from server.errors import ArtifactError, ConflictError
from server.home import ServerHome
from server.publishing import add_direct_steps
from server.registry import Registry
from server.rollouts.assignment import base_of_all
from server.rollouts.changes import begun, moved, scheduled
from server.rollouts.population import reach_of
from server.rollouts.rollout import LARGEST_POINT, Channel, OnFailure, Phase, Policy, Rollout
from server.rollouts.states import Event, State, reached

EVERYBODY = (Phase(percent=100),)
USUAL_POLICY = Policy()
MOST_ROLL_UPS = 8
"""Generations from which chains are rolled up at a start: those that most devices run."""


def create(
    registry: Registry,
    model: str,
    target: int,
    phases: Sequence[Phase] = EVERYBODY,
    policy: Policy = USUAL_POLICY,
    *,
    channel: Channel = Channel.STABLE,
    groups: Sequence[tuple[str, str]] = (),
    base: int | EllipsisType | None = ...,
    only_from: int | None = None,
    undoes: str | None = None,
    rollout_id: str | None = None,
    now: Clock = utc_now,
) -> Rollout:
    """Draft a rollout. From a model's first one on, only rollouts decide what devices are offered.

    Args:
        registry: Where to.
        model: The line of generations.
        target: The generation to bring.
        phases: How far to go at a time.
        policy: The rules.
        channel: Which devices.
        groups: Which attributes they must have.
        base: What devices ran before; `...` to find out.
        only_from: Only devices that run this generation.
        undoes: The rollout that this one takes back.
        rollout_id: Its name; a random one without.
        now: The clock.

    Raises:
        NotFoundError: the model has no such generation.
        RolloutError: the values contradict each other.
        ConflictError: there is such a rollout already.
    """
    for number in (target, only_from):
        if number is not None:
            registry.generation(model, number)
    if base is ...:
        base = _base(registry.rollouts.all(model), channel, target)
    if base is not None:
        registry.generation(model, base)
    rollout = Rollout(
        rollout_id=rollout_id or uuid.uuid4().hex[:12],
        model=model,
        channel=channel,
        target=target,
        base=base,
        phases=tuple(phases),
        created_at=now(),
        policy=policy,
        groups=tuple(sorted(set(groups))),
        only_from=only_from,
        undoes=undoes,
    )
    registry.rollouts.create(rollout)
    return rollout


def start(home: ServerHome, rollout: Rollout, now: datetime, at: datetime | None = None) -> Rollout:
    """Begin the first phase, now or at a time; only what devices will be able to read may begin.

    Args:
        home: Where the rollout and the blobs are.
        rollout: As it was seen.
        now: The time.
        at: When to begin; a time that is over is now.

    Raises:
        ConflictError: it cannot start any more.
        ArtifactError: a blob of the generation is missing or damaged.
    """
    reached(rollout.state, Event.START if at is None else Event.SCHEDULE)
    require_readable(home, rollout)
    _shorten_ways(home, rollout)
    if at is not None:
        changed = scheduled(rollout, at, now)
        return home.registry.rollouts.swap(rollout, changed, now)
    return begin_phase(home.registry, rollout, Event.START, 0, "started by an operator", now)


def pause(registry: Registry, rollout: Rollout, now: datetime) -> Rollout:
    """Offer it to no further device, and withdraw the attempts under way.

    Raises:
        ConflictError: it does not run.
    """
    changed = moved(rollout, Event.PAUSE, "paused by an operator", now)
    return registry.rollouts.swap(rollout, changed, now)


def resume(registry: Registry, rollout: Rollout, now: datetime) -> Rollout:
    """Go on where it was paused; failures until now count no more.

    Raises:
        ConflictError: it is not paused, ends its soak by itself, or was taken back.
    """
    changed = moved(rollout, Event.RESUME, "resumed by an operator", now)
    if rollout.state is State.PAUSED_THRESHOLD and rollout.policy.on_failure is OnFailure.ROLLBACK:
        raise ConflictError(
            f"cannot resume rollout {rollout.rollout_id}: generation {rollout.target} is taken "
            "back from the devices that have it; expected a new rollout"
        )
    return registry.rollouts.swap(rollout, changed, now)


def abort(registry: Registry, rollout: Rollout, now: datetime) -> Rollout:
    """End it for good, and withdraw the attempts under way.

    Raises:
        ConflictError: it has ended already.
    """
    changed = moved(rollout, Event.ABORT, "aborted by an operator", now)
    return registry.rollouts.swap(rollout, changed, now)


def begin_phase(
    registry: Registry, rollout: Rollout, event: Event, number: int, reason: str, now: datetime
) -> Rollout:
    """Begin a phase with the devices that there are now.

    Raises:
        ConflictError: the event cannot happen, or somebody else was faster.
    """
    members = registry.rollouts.population(rollout.model)
    reach = reach_of(rollout, number, members, registry.rollouts.took(rollout))
    changed = begun(rollout, event, number, reach, reason, now)
    return registry.rollouts.swap(rollout, changed, now)


def require_readable(home: ServerHome, rollout: Rollout) -> None:
    """Read every blob that the target and the steps to it name.

    Raises:
        ArtifactError: one is missing or damaged.
    """
    generation = home.registry.generation(rollout.model, rollout.target)
    named = [generation.snapshot, generation.graph, generation.card]
    named += [s.diff for s in home.registry.steps(rollout.model) if s.target == rollout.target]
    for blob in dict.fromkeys(blob for blob in named if blob is not None):
        try:
            home.artifacts.verify(blob)
        except ArtifactError as error:
            raise ArtifactError(
                f"generation {rollout.target} of {rollout.model!r} cannot be rolled out: {error}"
            ) from error


def _shorten_ways(home: ServerHome, rollout: Rollout) -> None:
    """Roll chains up for the devices that would need one; what is made is kept for all rollouts."""
    counts = home.registry.device_counts(rollout.model)
    behind = [number for number in counts if number is not None and number < rollout.target]
    most_common = sorted(behind, key=lambda number: -counts[number])[:MOST_ROLL_UPS]
    # Without one the chain is longer, nothing else.
    with suppress(CodecError, ArtifactError):
        add_direct_steps(home, rollout.model, rollout.target, most_common)


def _base(rollouts: Sequence[Rollout], channel: Channel, target: int) -> int | None:
    """What the devices of a channel run before: what was last given to all of them."""
    given = [
        rollout.target
        for rollout in rollouts
        if rollout.state.is_offering
        and rollout.channel is channel
        and rollout.target < target
        and rollout.progress.cutoff == LARGEST_POINT
        and not (rollout.groups or rollout.undoes)
    ]
    if given:
        return max(given)
    if rollouts:
        base = base_of_all(rollouts)
        return base if base is not None and base < target else None
    return target - 1 if target else None

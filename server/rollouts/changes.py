"""The values that a transition leads to."""

from dataclasses import replace
from datetime import datetime

from server.rollouts.population import Reach
from server.rollouts.rollout import Rollout
from server.rollouts.states import Event, State, reached


def scheduled(rollout: Rollout, starts_at: datetime, now: datetime) -> Rollout:
    """The rollout, waiting for its time.

    Raises:
        ConflictError: it cannot be scheduled any more.
    """
    changed = moved(rollout, Event.SCHEDULE, f"starts at {starts_at:%Y-%m-%d %H:%M} UTC", now)
    return replace(changed, progress=replace(changed.progress, starts_at=starts_at))


def begun(
    rollout: Rollout, event: Event, number: int, reach: Reach, reason: str, now: datetime
) -> Rollout:
    """The rollout in a phase that begins now; what happened before is not judged again.

    Raises:
        ConflictError: the event cannot happen in the rollout's state.
    """
    changed = moved(rollout, event, reason, now)
    progress = replace(
        changed.progress,
        phase=number,
        cutoff=reach.cutoff,
        devices=reach.devices,
        already=reach.already,
        judged_since=now,
    )
    return replace(changed, progress=progress)


def moved(rollout: Rollout, event: Event, reason: str, now: datetime) -> Rollout:
    """The rollout after an event that keeps its phase.

    Raises:
        ConflictError: the event cannot happen in the rollout's state.
    """
    state = reached(rollout.state, event)
    since = rollout.progress.judged_since
    if rollout.state is State.PAUSED_THRESHOLD and event is Event.RESUME:
        # Somebody has looked at what failed until now.
        since = now
    progress = replace(rollout.progress, entered_at=now, judged_since=since, reason=reason)
    return replace(rollout, state=state, progress=progress)

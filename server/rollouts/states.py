"""The states of a rollout. The table is the diagram.

DRAFT ──> SCHEDULED ──> RUNNING(phase k) <──> PAUSED(manual | threshold | soak)
                           │                     │
                           └──> FINISHED         └──> ABORTED   (ABORTED from everywhere)
"""

from collections.abc import Mapping
from enum import StrEnum

from server.errors import ConflictError


class State(StrEnum):
    """Where a rollout stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    PAUSED_MANUAL = "paused-manual"
    PAUSED_THRESHOLD = "paused-threshold"
    PAUSED_SOAK = "paused-soak"
    FINISHED = "finished"
    ABORTED = "aborted"

    @property
    def is_final(self) -> bool:
        """Nothing leads out of it."""
        return self in (State.FINISHED, State.ABORTED)

    @property
    def is_offering(self) -> bool:
        """Devices may begin attempts."""
        return self in OFFERING

    @property
    def withdraws(self) -> bool:
        """Attempts under way should stop where they still can. A soak lets them end."""
        return self in (State.PAUSED_MANUAL, State.PAUSED_THRESHOLD, State.ABORTED)


class Event(StrEnum):
    """What happens to a rollout: the first five by an operator, the others by the clock."""

    SCHEDULE = "schedule"
    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    FAIL = "fail"
    SOAK = "soak"
    ADVANCE = "advance"
    FINISH = "finish"


OFFERING = (State.RUNNING, State.FINISHED)

TRANSITIONS: Mapping[tuple[State, Event], State] = {
    (State.DRAFT, Event.SCHEDULE): State.SCHEDULED,
    (State.DRAFT, Event.START): State.RUNNING,
    (State.DRAFT, Event.ABORT): State.ABORTED,
    (State.SCHEDULED, Event.START): State.RUNNING,
    (State.SCHEDULED, Event.ABORT): State.ABORTED,
    (State.RUNNING, Event.PAUSE): State.PAUSED_MANUAL,
    (State.RUNNING, Event.FAIL): State.PAUSED_THRESHOLD,
    (State.RUNNING, Event.SOAK): State.PAUSED_SOAK,
    (State.RUNNING, Event.ADVANCE): State.RUNNING,
    (State.RUNNING, Event.FINISH): State.FINISHED,
    (State.RUNNING, Event.ABORT): State.ABORTED,
    (State.PAUSED_MANUAL, Event.RESUME): State.RUNNING,
    (State.PAUSED_MANUAL, Event.ABORT): State.ABORTED,
    (State.PAUSED_THRESHOLD, Event.RESUME): State.RUNNING,
    (State.PAUSED_THRESHOLD, Event.ABORT): State.ABORTED,
    (State.PAUSED_SOAK, Event.PAUSE): State.PAUSED_MANUAL,
    (State.PAUSED_SOAK, Event.FAIL): State.PAUSED_THRESHOLD,
    (State.PAUSED_SOAK, Event.ADVANCE): State.RUNNING,
    (State.PAUSED_SOAK, Event.FINISH): State.FINISHED,
    (State.PAUSED_SOAK, Event.ABORT): State.ABORTED,
}


def reached(state: State, event: Event) -> State:
    """The state after an event.

    Raises:
        ConflictError: the event cannot happen in this state.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        possible = sorted(found for found, known in TRANSITIONS if known is event)
        raise ConflictError(
            f"cannot {event} a rollout that is {state}: expected it to be {' or '.join(possible)}"
        ) from None

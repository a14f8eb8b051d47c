"""What a rollout waits for next.

Pure, and without a rule of its own: how many devices are missing and how many failures are borne
is asked of `evaluation`, so that what people read is what will happen.

    >>> outlook_of(rollout, counts).text
    '3 more devices on generation 5, then it soaks for 6 h'
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from server.rollouts.evaluation import has_failed, has_succeeded
from server.rollouts.rollout import Counts, OnFailure, Rollout
from server.rollouts.states import State
from server.wording import duration

MOST = 2**31
"""No fleet has more devices; where a search ends."""


@dataclass(frozen=True)
class Outlook:
    """What comes next, if anything does.

    Attributes:
        text: For people; empty where nothing comes any more.
        until: When it happens, where a clock decides.
        devices_to_go: How many more devices must run the target before the phase is over; None
            where no phase is under way.
        failures_to_pause: How many more devices must fail, and nothing else happen, before it
            pauses itself; None where it cannot.
        needs_operator: Nothing happens by itself.
    """

    text: str
    until: datetime | None = None
    devices_to_go: int | None = None
    failures_to_pause: int | None = None
    needs_operator: bool = False


def outlook_of(rollout: Rollout, counts: Counts, undone_by: str | None = None) -> Outlook:
    """Say what a rollout waits for.

    Args:
        rollout: As it stands.
        counts: What its devices did.
        undone_by: The rollout that takes its target back, if there is one.
    """
    match rollout.state:
        case State.DRAFT:
            return Outlook("an operator who starts it", needs_operator=True)
        case State.SCHEDULED:
            return Outlook("its start", until=rollout.progress.starts_at)
        case State.RUNNING:
            return _running(rollout, counts)
        case State.PAUSED_SOAK:
            return _soaking(rollout, counts)
        case State.PAUSED_MANUAL:
            return Outlook("an operator who resumes or aborts it", needs_operator=True)
        case State.PAUSED_THRESHOLD:
            return _failed(rollout, undone_by)
    return Outlook("")


def _running(rollout: Rollout, counts: Counts) -> Outlook:
    to_go = _fewest(
        lambda more: has_succeeded(rollout, replace(counts, on_target=counts.on_target + more))
    )
    then = _onward(rollout)
    if rollout.policy.soak:
        then = f"it soaks for {duration(rollout.policy.soak)}"
    missing = "a server's next look"
    if to_go:
        devices = "device" if to_go == 1 else "devices"
        missing = f"{to_go} more {devices} on generation {rollout.target}"
    return Outlook(
        f"{missing}, then {then}",
        devices_to_go=to_go,
        failures_to_pause=_failures_to_pause(rollout, counts),
    )


def _soaking(rollout: Rollout, counts: Counts) -> Outlook:
    entered_at = rollout.progress.entered_at
    return Outlook(
        f"the end of its soak, then {_onward(rollout)}",
        until=entered_at + rollout.policy.soak if entered_at is not None else None,
        failures_to_pause=_failures_to_pause(rollout, counts),
    )


def _failed(rollout: Rollout, undone_by: str | None) -> Outlook:
    if undone_by is not None:
        return Outlook(f"an operator who aborts it; {undone_by} takes it back", needs_operator=True)
    if rollout.policy.on_failure is OnFailure.ROLLBACK:
        return Outlook("its way back, which a server makes")
    return Outlook("an operator who resumes or aborts it", needs_operator=True)


def _onward(rollout: Rollout) -> str:
    if rollout.is_in_last_phase:
        return "it is finished"
    number = rollout.progress.phase + 1
    return f"phase {number + 1} ({rollout.phases[number]}) begins"


def _failures_to_pause(rollout: Rollout, counts: Counts) -> int | None:
    return _fewest(lambda more: has_failed(rollout, replace(counts, failed=counts.failed + more)))


def _fewest(holds: Callable[[int], bool]) -> int | None:
    """The smallest number for which something holds, which then holds for all larger ones."""
    if not holds(MOST):
        return None
    low, high = 0, MOST
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low

"""What should become of a rollout now.

Pure: every server may ask, as often as it likes, and gets the same answer. Failures are looked at
before successes, so a phase cannot succeed its way out of a failure.

    >>> evaluate(rollout, counts, now)
    Verdict(event=<Event.FAIL>, reason='2 of 5 devices failed, more than 10 %')
"""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import ceil

from server.rollouts.rollout import Counts, Rollout
from server.rollouts.states import Event, State


@dataclass(frozen=True)
class Verdict:
    """What happens, and why."""

    event: Event
    reason: str


def evaluate(rollout: Rollout, counts: Counts, now: datetime) -> Verdict | None:
    """Decide what happens to a rollout by itself.

    Args:
        rollout: As it stands.
        counts: What its devices did.
        now: The time.

    Returns:
        None where nothing does; also in every state that only an operator can end.
    """
    if rollout.state is State.SCHEDULED:
        return _start(rollout, now)
    if rollout.state not in (State.RUNNING, State.PAUSED_SOAK):
        return None
    if has_failed(rollout, counts):
        share = rollout.policy.failure_threshold * 100
        return Verdict(
            Event.FAIL,
            f"{counts.failed} of {counts.sample} devices failed, more than {share:g} %",
        )
    if rollout.state is State.PAUSED_SOAK:
        return _after_soak(rollout, now)
    if not has_succeeded(rollout, counts):
        return None
    done = f"{rollout.progress.already + counts.on_target} of {rollout.progress.devices} devices"
    if rollout.policy.soak:
        return Verdict(Event.SOAK, f"phase {rollout.progress.phase + 1}: {done} run the target")
    return _onward(rollout, f"{done} run the target")


def has_failed(rollout: Rollout, counts: Counts) -> bool:
    """Whether more devices failed than the policy bears."""
    if counts.sample < _least_sample(rollout) or not counts.failed:
        return False
    return Fraction(counts.failed, counts.sample) > _exactly(rollout.policy.failure_threshold)


def has_succeeded(rollout: Rollout, counts: Counts) -> bool:
    """Whether the phase has brought the target to enough devices."""
    progress = rollout.progress
    done = progress.already + counts.on_target
    wanted = ceil(_exactly(rollout.policy.success_threshold) * progress.devices)
    if rollout.undoes is None:
        # A phase that proved nothing on any device must not open the next one.
        wanted = max(1, wanted)
    return done >= wanted and done >= min(rollout.policy.minimum_sample, progress.devices)


def _start(rollout: Rollout, now: datetime) -> Verdict | None:
    starts_at = rollout.progress.starts_at
    if starts_at is None or now < starts_at:
        return None
    return Verdict(Event.START, f"scheduled for {starts_at:%Y-%m-%d %H:%M} UTC")


def _after_soak(rollout: Rollout, now: datetime) -> Verdict | None:
    entered_at = rollout.progress.entered_at
    if entered_at is None or now < entered_at + rollout.policy.soak:
        return None
    return _onward(rollout, f"soaked for {rollout.policy.soak}")


def _onward(rollout: Rollout, reason: str) -> Verdict:
    return Verdict(Event.FINISH if rollout.is_in_last_phase else Event.ADVANCE, reason)


def _least_sample(rollout: Rollout) -> int:
    """A phase of few devices is judged when all of them have answered."""
    return max(1, min(rollout.policy.minimum_sample, rollout.progress.devices))


def _exactly(share: float) -> Fraction:
    """0.1 as a person means it: of 10 devices that is 1, not a little more."""
    return Fraction(str(share))

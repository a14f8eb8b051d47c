"""Which generation a device should run.

A model without rollouts brings its newest generation to every device at once. From its first
rollout on only rollouts decide: a device should run the newest generation that a running or
finished rollout of its channel gives it. What every device had before the first rollout, its
base, stays for all of them, so that a new device does not wait with nothing. Never what was
revoked, and never below what a device runs: the way back is a newer generation with older weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from server.rollouts.population import reaches
from server.rollouts.rollout import Member, Rollout


@dataclass(frozen=True)
class Assignment:
    """The generation that a device should reach, and the rollout that says so, if one does."""

    target: int
    rollout: Rollout | None = None


def assignment_of(
    member: Member, rollouts: Sequence[Rollout], offered: Sequence[int]
) -> Assignment | None:
    """Decide what a device should run.

    Args:
        member: The device, with what it runs now.
        rollouts: Every rollout of its model, oldest first.
        offered: The generations that devices may install, oldest first: all but the revoked ones.

    Returns:
        None where the device should stay as it is.
    """
    wanted = _assignments(member, rollouts) if rollouts else [Assignment(n) for n in offered]
    found = [one for one in wanted if one.target in offered]
    # Of two rollouts of one generation the younger one speaks: somebody wanted it anew.
    newest = max(found, key=lambda one: one.target, default=None)
    if newest is None or (member.installed is not None and newest.target <= member.installed):
        return None
    return newest


def _assignments(member: Member, rollouts: Sequence[Rollout]) -> list[Assignment]:
    """Youngest first."""
    given = [
        Assignment(rollout.target, rollout)
        for rollout in reversed(rollouts)
        if rollout.state.is_offering and reaches(rollout, member)
    ]
    base = base_of_all(rollouts)
    return given if base is None else [*given, Assignment(base)]


def base_of_all(rollouts: Sequence[Rollout]) -> int | None:
    """What every device had before the first rollout; None: nothing.

    Args:
        rollouts: Of one model, oldest first; at least the first one.
    """
    return next((rollout.base for rollout in rollouts if rollout.undoes is None), None)

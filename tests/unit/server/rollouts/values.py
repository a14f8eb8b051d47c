"""Small rollouts for tests."""

from dataclasses import replace
from datetime import timedelta

from server.rollouts.notation import parse_phases
from server.rollouts.rollout import Channel, Member, Policy, Progress, Rollout
from server.rollouts.states import State
from tests.unit.server.values import TIME

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
PROGRESS = Progress(cutoff=2**63 - 1, devices=10, judged_since=TIME, entered_at=TIME)


def rollout(*phases: str, state: State = State.RUNNING, **changes: object) -> Rollout:
    """To generation 5 from 4, of 10 devices, with short rules."""
    values: dict[str, object] = {
        "rollout_id": "0123456789ab",
        "model": "digits",
        "channel": Channel.STABLE,
        "target": 5,
        "base": 4,
        "phases": parse_phases(phases or ("100%",)),
        "created_at": TIME,
        "policy": policy(),
        "state": state,
        "progress": PROGRESS,
    }
    return Rollout(**{**values, **changes})  # type: ignore[arg-type]


def policy(**changes: object) -> Policy:
    """Judged from 4 devices on; half must succeed, more than a quarter must not fail."""
    values: dict[str, object] = {
        "success_threshold": 0.5,
        "failure_threshold": 0.25,
        "minimum_sample": 4,
    }
    return Policy(**{**values, **changes})  # type: ignore[arg-type]


def members(count: int, installed: int | None = 4) -> list[Member]:
    return [Member(f"device-{number}", installed=installed) for number in range(count)]


def at(made: Rollout, **progress: object) -> Rollout:
    return replace(made, progress=replace(made.progress, **progress))  # type: ignore[arg-type]

"""Rollouts as rows and as values."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from server.registry.rollout_rows import GroupRow, PhaseRow, RolloutRow
from server.rollouts.notation import parse_windows, windows_text
from server.rollouts.rollout import Phase, Policy, Progress, Rollout

OLDEST_FIRST = select(RolloutRow).order_by(RolloutRow.created_at, RolloutRow.rollout_id)


def fixed_values(rollout: Rollout) -> dict[str, Any]:
    """What never changes of a rollout, as columns."""
    policy = rollout.policy
    return {
        "rollout_id": rollout.rollout_id,
        "model": rollout.model,
        "channel": rollout.channel,
        "target": rollout.target,
        "base": rollout.base,
        "only_from": rollout.only_from,
        "undoes": rollout.undoes,
        "created_at": rollout.created_at,
        "success_threshold": policy.success_threshold,
        "failure_threshold": policy.failure_threshold,
        "minimum_sample": policy.minimum_sample,
        "soak_s": policy.soak,
        "attempt_timeout_s": policy.attempt_timeout,
        "maximum_attempts": policy.maximum_attempts,
        "maximum_in_flight": policy.maximum_in_flight,
        "windows": windows_text(policy.windows),
        "metered_bytes": policy.metered_bytes,
        "monthly_bytes": policy.monthly_bytes,
        "on_failure": policy.on_failure,
    }


def moving_values(rollout: Rollout) -> dict[str, Any]:
    """What a transition changes, but for the version."""
    progress = rollout.progress
    return {
        "state": rollout.state,
        "phase": progress.phase,
        "cutoff": progress.cutoff,
        "phase_devices": progress.devices,
        "phase_already": progress.already,
        "starts_at": progress.starts_at,
        "entered_at": progress.entered_at,
        "judged_since": progress.judged_since,
        "reason": progress.reason,
    }


def rollouts_of(session: Session, rows: Iterable[RolloutRow]) -> tuple[Rollout, ...]:
    """Values of rows, in their order."""
    rows = list(rows)
    names = [row.rollout_id for row in rows]
    phases: dict[str, list[Phase]] = defaultdict(list)
    for phase in session.scalars(
        select(PhaseRow).where(PhaseRow.rollout_id.in_(names)).order_by(PhaseRow.number)
    ):
        phases[phase.rollout_id].append(Phase(phase.percent, phase.devices))
    groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for group in session.scalars(
        select(GroupRow)
        .where(GroupRow.rollout_id.in_(names))
        .order_by(GroupRow.key, GroupRow.value)
    ):
        groups[group.rollout_id].append((group.key, group.value))
    return tuple(
        _rollout(row, tuple(phases[row.rollout_id]), tuple(groups[row.rollout_id])) for row in rows
    )


def _rollout(
    row: RolloutRow, phases: tuple[Phase, ...], groups: tuple[tuple[str, str], ...]
) -> Rollout:
    return Rollout(
        rollout_id=row.rollout_id,
        model=row.model,
        channel=row.channel,
        target=row.target,
        base=row.base,
        phases=phases,
        created_at=row.created_at,
        policy=Policy(
            success_threshold=row.success_threshold,
            failure_threshold=row.failure_threshold,
            minimum_sample=row.minimum_sample,
            soak=row.soak_s,
            attempt_timeout=row.attempt_timeout_s,
            maximum_attempts=row.maximum_attempts,
            maximum_in_flight=row.maximum_in_flight,
            windows=parse_windows(row.windows.split()),
            metered_bytes=row.metered_bytes,
            monthly_bytes=row.monthly_bytes,
            on_failure=row.on_failure,
        ),
        groups=groups,
        only_from=row.only_from,
        undoes=row.undoes,
        state=row.state,
        progress=Progress(
            phase=row.phase,
            cutoff=row.cutoff,
            devices=row.phase_devices,
            already=row.phase_already,
            starts_at=row.starts_at,
            entered_at=row.entered_at,
            judged_since=row.judged_since,
            reason=row.reason,
        ),
        version=row.version,
    )

"""Attempts in SQL: which are open, which failed, and what a rollout's amount to.

Functions over a session, for every part of the registry that counts attempts or ends them.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, and_, case, func, or_, select, update
from sqlalchemy.orm import Session

from server.domain import OPEN_STATES, AttemptState, EndCode
from server.registry.rows import AttemptRow, DeviceRow
from server.rollouts.rollout import Counts, Rollout

# A failed attempt of a device that could not reach the server tells nothing of the generation.
FAILED = and_(
    AttemptRow.state == AttemptState.FAILED,
    AttemptRow.code.is_distinct_from(EndCode.SERVER_UNAVAILABLE),
)
TRIED = or_(
    FAILED,
    and_(AttemptRow.state == AttemptState.SUPERSEDED, AttemptRow.code == EndCode.RESTARTED),
)
IS_OPEN = AttemptRow.state.in_(OPEN_STATES)


def end_open(
    session: Session,
    state: AttemptState,
    code: EndCode | None,
    now: datetime,
    *wanted: ColumnElement[bool],
) -> int:
    """End open attempts; one that has moved on meanwhile is open no more and stays.

    Args:
        session: The transaction.
        state: Where they end.
        code: Why.
        now: The time.
        wanted: Which ones.

    Returns:
        How many.
    """
    ended = session.scalars(
        update(AttemptRow)
        .where(IS_OPEN, *wanted)
        .values(state=state, code=code, ended_at=now)
        .returning(AttemptRow.attempt_id)
        .execution_options(synchronize_session=False)
    )
    return len(ended.all())


def reached(rollout: Rollout) -> ColumnElement[bool]:
    """An attempt, beside its device, that led to the target, whether its report came or not."""
    return or_(AttemptRow.state == AttemptState.COMMITTED, DeviceRow.installed == rollout.target)


def counts(session: Session, rollout: Rollout) -> Counts:
    """What the devices of a rollout did, each counted once."""
    since = rollout.progress.judged_since
    ended = AttemptRow.ended_at >= since if since else AttemptRow.ended_at.is_not(None)
    by_device = (
        select(
            AttemptRow.device_id,
            _any(reached(rollout)).label("is_done"),
            _any(and_(FAILED, ended)).label("has_failed"),
            _any(ended).label("has_ended"),
            func.sum(case((TRIED, 1), else_=0)).label("tries"),
            func.sum(case((IS_OPEN, 1), else_=0)).label("open"),
        )
        .join(DeviceRow, DeviceRow.device_id == AttemptRow.device_id)
        .where(AttemptRow.rollout_id == rollout.rollout_id)
        .group_by(AttemptRow.device_id)
        .subquery()
    )
    of = by_device.c
    is_done = of.is_done == 1
    gave_up = and_(of.tries >= rollout.policy.maximum_attempts, of.has_ended == 1)
    failed = and_(of.is_done == 0, or_(of.has_failed == 1, gave_up))
    found = session.execute(
        select(
            _number(is_done),
            _number(and_(is_done, of.has_ended == 1)),
            _number(failed),
            func.coalesce(func.sum(of.open), 0),
        )
    ).one()
    return Counts(*map(int, found))


def tries(session: Session, device_ids: Collection[str]) -> Mapping[str, Mapping[str, int]]:
    """Attempts that devices ended without success, by device and rollout."""
    # Who checks in has given up what it began.
    given_up = or_(TRIED, AttemptRow.state == AttemptState.STARTED)
    rows = session.execute(
        select(AttemptRow.device_id, AttemptRow.rollout_id, func.count())
        .where(AttemptRow.device_id.in_(device_ids), AttemptRow.rollout_id.is_not(None), given_up)
        .group_by(AttemptRow.device_id, AttemptRow.rollout_id)
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for device_id, rollout_id, count in rows:
        found[device_id][str(rollout_id)] = count
    return found


def _any(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.max(case((condition, 1), else_=0))


def _number(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)

"""What servers do by themselves, every few seconds, each of them.

Servers keep nothing between ticks and are not told of each other: a tick reads, decides
(evaluation) and swaps. Where two want the same, one swap succeeds and the other finds it done. A
server that is killed anywhere in a tick leaves work for the next tick of any server.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from diffcodec.errors import CodecError
from server.clock import Clock, utc_now
from server.errors import ConflictError, ServerError
from server.home import ServerHome
from server.registry import Registry
from server.rollouts.changes import moved
from server.rollouts.evaluation import Verdict, evaluate
from server.rollouts.operations import begin_phase, require_readable
from server.rollouts.rollout import OnFailure, Rollout
from server.rollouts.states import Event, State
from server.rollouts.undoing import take_back

log = logging.getLogger(__name__)

TICK_S = 2.0
ATTEMPT_TIMEOUT = timedelta(hours=24)
"""Of attempts that no rollout sent."""

WATCHED = (State.SCHEDULED, State.RUNNING, State.PAUSED_SOAK, State.PAUSED_THRESHOLD)


def tick(home: ServerHome, now: datetime) -> None:
    """End silent attempts, and let every rollout take the step that is due.

    Raises:
        RegistryError: the database failed; the next tick tries again.
    """
    ended = home.registry.rollouts.end_silent(now, ATTEMPT_TIMEOUT)
    if ended:
        log.info("%d silent attempts were ended", ended)
    for rollout in home.registry.rollouts.in_states(WATCHED):
        try:
            _advance(home, rollout, now)
        except ConflictError as error:
            log.info("rollout %s: another server was faster: %s", rollout.rollout_id, error)
        except (ServerError, CodecError) as error:
            log.error("rollout %s: %s", rollout.rollout_id, error)


def judge(registry: Registry, attempt_id: str, now: datetime) -> None:
    """Pause the rollout of an attempt at once if its failure is one too many."""
    rollout_id = registry.attempt(attempt_id).rollout_id
    if rollout_id is None:
        return
    rollout = registry.rollouts.find(rollout_id)
    verdict = evaluate(rollout, registry.rollouts.counts(rollout), now)
    if verdict is not None and verdict.event is Event.FAIL:
        with suppress(ConflictError):
            _keep_phase(registry, rollout, verdict, now)


async def keep_ticking(
    home: ServerHome,
    stopped: asyncio.Event,
    spread: Callable[[], float],
    every_s: float = TICK_S,
    now: Clock = utc_now,
) -> None:
    """Tick until told to stop; a tick under way ends first.

    Args:
        home: What to look after.
        stopped: Ends it.
        spread: A number around 1 for each pause, so that servers do not tick in step.
        every_s: The usual pause.
        now: The clock.
    """
    while not stopped.is_set():
        try:
            await asyncio.to_thread(tick, home, now())
        except ServerError as error:
            log.error("tick: %s", error)
        except Exception:  # whatever it is, rollouts of this server must not stand still for ever
            log.exception("tick")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), every_s * spread())


def _advance(home: ServerHome, rollout: Rollout, now: datetime) -> None:
    if rollout.state is State.PAUSED_THRESHOLD:
        if rollout.policy.on_failure is OnFailure.ROLLBACK:
            take_back(home, rollout, now)
        return
    verdict = evaluate(rollout, home.registry.rollouts.counts(rollout), now)
    if verdict is None:
        return
    if verdict.event is Event.START:
        require_readable(home, rollout)
        begin_phase(home.registry, rollout, verdict.event, 0, verdict.reason, now)
    elif verdict.event is Event.ADVANCE:
        number = rollout.progress.phase + 1
        begin_phase(home.registry, rollout, verdict.event, number, verdict.reason, now)
    else:
        _keep_phase(home.registry, rollout, verdict, now)
    log.info("rollout %s: %s: %s", rollout.rollout_id, verdict.event, verdict.reason)


def _keep_phase(registry: Registry, rollout: Rollout, verdict: Verdict, now: datetime) -> None:
    registry.rollouts.swap(rollout, moved(rollout, verdict.event, verdict.reason, now), now)

"""One cheap step for devices that are far behind: chains are rolled up by servers themselves.

A device that must go by several diffs, or by a snapshot, is answered at once with what there is.
Every few seconds each server looks where devices stand so, and makes one diff from there to where
they are brought, if nobody has and it saves bytes. The online role `routes` signs it (the result's
digest is the publisher's), and the next check-in takes it. It is kept as any step is, until a
collection finds that no device needs it.

Each pair of generations is tried once, by whichever server claims it first; a claim of a server
that died is taken over.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta

from diffcodec.errors import CodecError
from server.clock import Clock, utc_now
from server.collecting.needs import goals_of
from server.domain import EVERY_DEVICE, Step
from server.errors import ServerError
from server.home import ServerHome
from server.publishing import add_direct_steps
from server.rollouts.rollout import Rollout

log = logging.getLogger(__name__)

EVERY_S = 5.0
LEAST_DEVICES = 2
"""That run a generation, before a diff from there is worth its place on the disk."""
CLAIM_TIMEOUT = timedelta(hours=1)
"""Of a server that makes one: longer than the largest model takes."""

Pair = tuple[int, int]


def wanted_roll_ups(
    offered: Sequence[int],
    steps: Sequence[Step],
    rollouts: Sequence[Rollout],
    devices: Mapping[int | None, int],
    tried: Collection[Pair],
    least_devices: int = LEAST_DEVICES,
) -> tuple[Pair, ...]:
    """From where to where one diff would shorten the way of enough devices. Pure.

    Args:
        offered: The generations that devices may install, oldest first.
        steps: Every diff and snapshot of the model.
        rollouts: All of them, oldest first.
        devices: How many run which generation.
        tried: What was made already, or is being made, or saved nothing.
        least_devices: How many must run a generation.

    Returns:
        Base and target, those of most devices first.
    """
    goals = goals_of(rollouts, offered)
    if rollouts:  # only what devices are offered now; a start looks after its own
        goals &= {rollout.target for rollout in rollouts if rollout.state.is_offering}
    # Without one diff there are several files to take, or all the weights.
    short = {(step.base, step.target) for step in steps if step.coders <= EVERY_DEVICE}
    done = short.union(tried)
    wanted = [
        (number, goal)
        for number, count in devices.items()
        if number is not None and count >= least_devices
        for goal in goals
        if number < goal and (number, goal) not in done
    ]
    return tuple(sorted(wanted, key=lambda pair: (-devices[pair[0]], pair)))


def roll_up_one(
    home: ServerHome, now: Clock = utc_now, least_devices: int = LEAST_DEVICES
) -> Pair | None:
    """Make one diff that is wanted.

    Returns:
        From where to where, whether it saved anything or not; None where nothing is to be done.

    Raises:
        RegistryError: the database failed; the next turn tries again.
    """
    records = home.registry.roll_ups
    for model in home.registry.models():
        revoked = home.registry.signing.revoked(model.name)
        pairs = wanted_roll_ups(
            [g.number for g in home.registry.generations(model.name) if g.number not in revoked],
            home.registry.steps(model.name),
            home.registry.rollouts.all(model.name),
            home.registry.device_counts(model.name),
            records.tried(model.name, now() - CLAIM_TIMEOUT),
            least_devices,
        )
        for pair in pairs:
            if records.claim(model.name, *pair, now(), CLAIM_TIMEOUT):
                _make(home, model.name, pair, now)
                return pair
    return None


def _make(home: ServerHome, model: str, pair: Pair, now: Clock) -> None:
    base, target = pair
    files = 0
    try:
        files = add_direct_steps(home, model, target, [base])
        log.info("%s: %d files from generation %d to %d were rolled up", model, files, *pair)
    except (ServerError, CodecError) as error:
        log.error("%s: generation %d to %d cannot be rolled up: %s", model, *pair, error)
    home.registry.roll_ups.end(model, base, target, files, now())


async def keep_rolling_up(
    home: ServerHome,
    stopped: asyncio.Event,
    spread: Callable[[], float],
    least_devices: int = LEAST_DEVICES,
    every_s: float = EVERY_S,
    now: Clock = utc_now,
) -> None:
    """Roll up, one diff at a time, until told to stop; one that is being made is finished first.

    Args:
        home: Where.
        stopped: Ends it.
        spread: A number around 1 for each pause, so that servers do not look in step.
        least_devices: How many must run a generation.
        every_s: The usual pause.
        now: The clock.
    """
    while not stopped.is_set():
        try:
            await asyncio.to_thread(roll_up_one, home, now, least_devices)
        except ServerError as error:
            log.error("roll-ups: %s", error)
        except Exception:  # whatever it is, devices are served without
            log.exception("roll-ups")
        with suppress(TimeoutError):
            await asyncio.wait_for(stopped.wait(), every_s * spread())

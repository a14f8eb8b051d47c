"""The way back: a new generation that carries old weights.

Numbers only grow, on the server and on devices, so what went wrong is never run again by going
down. The old weights come back under the next number, with the graph and card that they had, and
with small steps from where devices are.

    >>> roll_back(home, "digits", to=4)        # generation 6 is 4 again

A rollout whose policy says so takes its target back by itself once it is paused by its failure
threshold: `take_back` publishes the base's weights, unless a newer generation carries them
already, and starts a rollout of it for exactly the devices that run the failed target, windows
and metered links notwithstanding. Every server may try, after a crash once more; one succeeds.
"""

import hashlib
from dataclasses import replace
from datetime import datetime

from diffcodec import LayoutError, encode, lossless_diff
from server.artifacts import read_whole
from server.clock import Clock, utc_now
from server.domain import Blob, Generation
from server.errors import PublishError
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.rollouts.operations import EVERYBODY, create, start
from server.rollouts.rollout import Policy, Rollout
from server.rollouts.states import State

ATTEMPTS = 20
"""Of a device that is taken back: it must not stay where it is."""


def roll_back(home: ServerHome, model: str, to: int, now: Clock = utc_now) -> Generation:
    """Publish the weights, graph and card of an older generation as the next one.

    Args:
        home: Where the model lives.
        model: Its name.
        to: The older generation.
        now: The clock.

    Raises:
        NotFoundError: no such generation.
        PublishError: it is the newest one, or lacks a graph or card that would be inherited.
        ConflictError: another generation was published meanwhile; nothing was.
        StorageError: a blob cannot be read, or disk or database failed.
    """
    old = home.registry.generation(model, to)
    head = home.registry.head(model)
    if head is None or head.number == to:
        raise PublishError(f"expected a generation older than the newest, found {to}")
    for kept, inherited, name in ((old.graph, head.graph, "graph"), (old.card, head.card, "card")):
        if kept is None and inherited is not None:
            raise PublishError(
                f"expected generation {to} of {model!r} to have a {name} as generation "
                f"{head.number} has, found none"
            )
    return publish(
        home,
        model,
        _diff_back(home, head, old),
        graph=_content(home, old.graph),
        card=_content(home, old.card),
        expected_head=head.number,
        direct_from=_starts(home, head, old),
        now=now,
    )


def take_back(home: ServerHome, rollout: Rollout, now: datetime) -> Rollout:
    """Bring the devices that run a failed target back to the base's weights.

    Args:
        home: Where the rollout lives.
        rollout: Paused by its failure threshold, with a base.
        now: The time.

    Returns:
        The rollout that does it. The same one, however often this is called.

    Raises:
        ConflictError: another server is doing it; nothing was done twice.
        StorageError: disk or database failed; call again.
    """
    undo = home.registry.rollouts.undoing(rollout.rollout_id)
    if undo is None:
        generation = _carrier(home, rollout) or roll_back(
            home, rollout.model, _require_base(rollout), lambda: now
        )
        undo = create(
            home.registry,
            rollout.model,
            generation.number,
            EVERYBODY,
            _policy(rollout),
            channel=rollout.channel,
            base=rollout.target,
            only_from=rollout.target,
            undoes=rollout.rollout_id,
            rollout_id=_undo_id(rollout),
            now=lambda: now,
        )
    # A server may have died between the two.
    return start(home, undo, now) if undo.state is State.DRAFT else undo


def _diff_back(home: ServerHome, head: Generation, old: Generation) -> bytes:
    """From the newest generation, or a snapshot where a tensor would have to shrink."""
    weights = weights_of(home, old.model, old.number)
    newest = weights_of(home, old.model, head.number)
    try:
        return encode(lossless_diff(newest, weights), newest)
    except LayoutError:
        return encode(lossless_diff(None, weights), None)


def _starts(home: ServerHome, head: Generation, old: Generation) -> list[int]:
    """Where devices are that would have to go by the newest generation otherwise."""
    running = {number for number in home.registry.device_counts(old.model) if number is not None}
    return sorted(
        generation.number
        for generation in home.registry.generations(old.model)
        if generation.number in running | {old.number}
        and generation.number != head.number
        and generation.layout_fingerprint == old.layout_fingerprint
    )


def _content(home: ServerHome, blob: Blob | None) -> bytes | None:
    return None if blob is None else read_whole(home.artifacts, blob)


def _require_base(rollout: Rollout) -> int:
    if rollout.base is None:
        raise PublishError(f"rollout {rollout.rollout_id}: expected a base, found none")
    return rollout.base


def _carrier(home: ServerHome, rollout: Rollout) -> Generation | None:
    """A generation after the target that has the base's weights already, and may be installed."""
    revoked = home.registry.signing.revoked(rollout.model)
    base = home.registry.generation(rollout.model, _require_base(rollout))
    found = [
        generation
        for generation in home.registry.generations(rollout.model)
        if generation.number > rollout.target
        and generation.number not in revoked
        and (generation.digest, generation.graph, generation.card)
        == (base.digest, base.graph, base.card)
    ]
    return found[-1] if found else None


def _policy(rollout: Rollout) -> Policy:
    """Nothing holds a device on a generation that failed, and nothing stops the way back."""
    return replace(
        Policy(),
        success_threshold=1.0,
        failure_threshold=1.0,
        minimum_sample=1,
        attempt_timeout=rollout.policy.attempt_timeout,
        maximum_attempts=ATTEMPTS,
    )


def _undo_id(rollout: Rollout) -> str:
    return hashlib.sha256(f"undo {rollout.rollout_id}".encode()).hexdigest()[:12]

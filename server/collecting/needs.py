"""What of a model somebody needs. Pure: values in, values out.

Generations that are *kept* have their weights (a snapshot), graph, card and manifest: the newest
ones, those that devices in service run, and those of rollouts and attempts that have not ended.
A generation that is only passed on the way keeps its manifest, by which devices verify the way,
and so do those that signed metadata lists.

A diff is kept where it is on the cheapest way from a kept generation, or from nothing, to a *goal*
(what rollouts give to devices now or may give soon); where its release came with it and both its
ends are kept; and where the plan of an open attempt may name it. What a server rolled up by itself
(server.roll_ups) is kept for ways alone: it can be made again.

    >>> needs_of(stock, newest=8).blobs
"""

import heapq
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from diffcodec import Coder
from server.domain import EVERY_DEVICE, Blob, Generation, Step
from server.rollouts.rollout import LARGEST_POINT, Channel, Rollout
from server.rollouts.states import State
from server.signing.records import ManifestRecord
from server.signing.roles import LISTED_GENERATIONS

CODERS = (EVERY_DEVICE, frozenset(Coder))
"""What devices decode: some all, some only what every one does."""


@dataclass(frozen=True)
class Stock:
    """What there is of a model, and who uses it.

    Attributes:
        model: Its name.
        generations: All of them, oldest first; each is at the index that is its number.
        steps: Every diff and snapshot that is there.
        revoked: Generations that must not be installed.
        manifests: By generation.
        rollouts: All of them, oldest first.
        installed: What devices in service run.
        attempts: Base (None: nothing) and target of every open one.
    """

    model: str
    generations: tuple[Generation, ...]
    steps: tuple[Step, ...]
    revoked: frozenset[int] = frozenset()
    manifests: Mapping[int, ManifestRecord] = field(default_factory=dict)
    rollouts: tuple[Rollout, ...] = ()
    installed: frozenset[int] = frozenset()
    attempts: frozenset[tuple[int | None, int]] = frozenset()

    @property
    def offered(self) -> tuple[int, ...]:
        """The generations that devices may install, oldest first."""
        return tuple(g.number for g in self.generations if g.number not in self.revoked)


@dataclass(frozen=True)
class Needs:
    """What of a model must stay: generations with the reason, diffs, and all blobs by SHA-256."""

    generations: Mapping[int, str]
    steps: frozenset[Step]
    blobs: frozenset[bytes]


def needs_of(stock: Stock, newest: int) -> Needs:
    """What of a model must stay.

    Args:
        stock: What there is.
        newest: How many of the newest generations are kept, whoever uses them.
    """
    kept = kept_generations(stock, newest)
    released = [step for step in stock.steps if _is_released(stock, step)]
    ways = [
        way
        for goal in goals_of(stock.rollouts, stock.offered)
        for way in _ways_to(stock.steps, {None, *kept}, goal)
    ]
    for base, target in stock.attempts:
        # Plans are not recorded, and a shorter way may have been made since.
        ways += _ways_to(stock.steps, {None, base}, target)
        ways += _ways_to(released, {None, base}, target)
    steps = {step for way in ways for step in way}
    steps |= {step for step in stock.steps if _may_be_planned(step, stock.attempts)}
    steps |= {s for s in released if s.target in kept and (s.base is None or s.base in kept)}
    spans = {(way[0].target, way[-1].target) for way in ways}
    spans |= {(base, target) for base, target in stock.attempts if base is not None}
    # Whatever signed metadata lists can be read, whether it is kept or not.
    verified = {*kept, *stock.offered[-LISTED_GENERATIONS:]}.union(
        *(range(first, last + 1) for first, last in spans)
    )
    blobs = [step.diff for step in steps]
    for generation in stock.generations:
        if generation.number in kept:
            blobs += _own_blobs(generation)
        if generation.number in verified and generation.number in stock.manifests:
            blobs.append(stock.manifests[generation.number].blob)
    return Needs(kept, frozenset(steps), frozenset(blob.sha256 for blob in blobs))


def kept_generations(stock: Stock, newest: int) -> dict[int, str]:
    """The generations whose weights, graph and card stay, and why."""
    offered = stock.offered
    kept: dict[int, str] = {}

    def keep(numbers: Iterable[int | None], reason: str) -> None:
        for number in numbers:
            if number is not None:
                kept.setdefault(number, reason)

    # The head is what the next diff and the way back start from, revoked or not.
    keep((generation.number for generation in stock.generations[-1:]), "the newest")
    keep(offered[-newest:], f"one of the {newest} newest")
    keep(stock.installed, "devices run it")
    for rollout in stock.rollouts:
        if not rollout.state.is_final:
            named = (rollout.target, rollout.base, rollout.only_from)
            keep(named, f"rollout {rollout.rollout_id} names it")
    keep(goals_of(stock.rollouts, offered), "devices are brought to it")
    for ends in stock.attempts:
        keep(ends, "a device is on its way")
    return kept


def goals_of(rollouts: Sequence[Rollout], offered: Sequence[int]) -> frozenset[int]:
    """Where devices are brought, now or soon: what server.rollouts.assignment may say.

    Args:
        rollouts: Of a model, all of them, oldest first.
        offered: The generations that devices may install, oldest first.
    """
    goals = set(offered[-1:])
    goals |= {rollout.target for rollout in rollouts if not rollout.state.is_final}
    for rollout in rollouts:
        is_given = rollout.state is State.FINISHED and rollout.target in offered
        if is_given and not _is_hidden(rollout.target, rollout.channel, rollouts, offered):
            goals.add(rollout.target)
    first = next((rollout for rollout in rollouts if rollout.undoes is None), None)
    base = first.base if first is not None else None
    # What every device had before the first rollout stays for those that none ever reached.
    if base is not None and not all(
        _is_hidden(base, channel, rollouts, offered) for channel in Channel
    ):
        goals.update({base}.intersection(offered))
    return frozenset(goals)


def _is_hidden(
    target: int, channel: Channel, rollouts: Sequence[Rollout], offered: Collection[int]
) -> bool:
    """Whether every device of a channel is given something newer."""
    return any(
        rollout.state is State.FINISHED
        and rollout.channel is channel
        and rollout.target > target
        and rollout.target in offered
        and rollout.progress.cutoff == LARGEST_POINT
        and not rollout.groups
        and rollout.only_from is None
        for rollout in rollouts
    )


def _ways_to(
    steps: Sequence[Step], starts: Collection[int | None], goal: int
) -> list[tuple[Step, ...]]:
    """A way of fewest bytes from each start, for every set of coders; none where none leads."""
    ways = []
    for coders in CODERS:
        onward = _onward([step for step in steps if step.coders <= coders], goal)
        for start in starts:
            # A device may also begin with nothing: that way is among these, too.
            way, at = [], start
            while at in onward:
                way.append(onward[at])
                at = onward[at].target
            ways.append(tuple(way))
    return [way for way in ways if way]


def _onward(steps: Sequence[Step], goal: int) -> dict[int | None, Step]:
    """The first step of the cheapest way to the goal, by where it begins (Dijkstra, backwards)."""
    leading: dict[int, list[Step]] = {}
    for step in steps:
        leading.setdefault(step.target, []).append(step)
    onward: dict[int | None, Step] = {}
    # Bytes, steps, and a number that tells equal ones apart.
    frontier: list[tuple[int, int, int, Step]] = []
    numbers = itertools.count()

    def explore(node: int, length: int, count: int) -> None:
        for step in leading.get(node, ()):
            if step.base not in onward and step.base != goal:
                order = (length + step.diff.length, count + 1, next(numbers))
                heapq.heappush(frontier, (*order, step))

    explore(goal, 0, 0)
    while frontier:
        length, count, _, step = heapq.heappop(frontier)
        if step.base not in onward:
            onward[step.base] = step
            if step.base is not None:
                explore(step.base, length, count)
    return onward


def _may_be_planned(step: Step, attempts: Iterable[tuple[int | None, int]]) -> bool:
    """Whether a diff lies between the ends of an open attempt."""
    return step.base is not None and any(
        base is not None and base <= step.base and step.target <= target
        for base, target in attempts
    )


def _is_released(stock: Stock, step: Step) -> bool:
    """Whether a diff was signed with its target."""
    manifest = stock.manifests.get(step.target)
    return manifest is not None and step.diff.sha256 in manifest.diffs


def _own_blobs(generation: Generation) -> list[Blob]:
    named = (generation.snapshot, generation.graph, generation.card)
    return [blob for blob in named if blob is not None]

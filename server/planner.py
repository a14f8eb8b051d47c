"""Which route a device takes: the one with the fewest bytes.

Pure: values in, values out. A device may start from what it runs, or from nothing at all when a
snapshot is cheaper, so direct diffs, chains and snapshots (also a snapshot with diffs after it)
compete on the same terms; of one diff by several coders only the files that the device decodes
do. Byte counts alone do not decide ties, and two servers must answer alike: equal routes are
told apart by fewer steps, then by the generations passed, then by the names of their files.

    >>> route = cheapest_route(steps, start=1, goal=4)
    >>> sum(step.diff.length for step in route)
"""

import heapq
from collections.abc import Iterable

from diffcodec import Coder
from server.domain import EVERY_DEVICE, Blob, Generation, Plan, Step
from server.errors import NoRouteError

Cost = tuple[int, int, tuple[tuple[int, int, bytes], ...]]


def cheapest_route(
    steps: Iterable[Step],
    start: int | None,
    goal: int,
    coders: frozenset[Coder] = EVERY_DEVICE,
) -> tuple[Step, ...]:
    """Find the route of fewest bytes (Dijkstra).

    Args:
        steps: Everything that the model offers.
        start: What the device runs; None for nothing.
        goal: The generation to reach.
        coders: What the device decodes; steps that need others are no way for it.

    Returns:
        Steps in the order in which to apply them; none where start is goal.

    Raises:
        NoRouteError: nothing leads to the goal.
    """
    if start == goal:
        return ()
    leaving: dict[int | None, list[Step]] = {}
    for step in steps:
        if step.coders <= coders:
            leaving.setdefault(step.base, []).append(step)
    settled: set[int | None] = set()
    frontier: list[tuple[Cost, int, tuple[Step, ...]]] = []

    def explore(node: int | None, route: tuple[Step, ...]) -> None:
        settled.add(node)
        for step in leaving.get(node, ()):
            if step.target not in settled:
                longer = (*route, step)
                heapq.heappush(frontier, (_cost(longer), step.target, longer))

    explore(None, ())
    if start is not None:
        explore(start, ())
    while frontier:
        _, node, route = heapq.heappop(frontier)
        if node == goal:
            return route
        if node not in settled:
            explore(node, route)
    origin = "an empty device" if start is None else f"generation {start}"
    raise NoRouteError(f"expected a route from {origin} to generation {goal}, found none")


def _cost(route: tuple[Step, ...]) -> Cost:
    """Bytes, then steps, then a name that no two routes share."""
    return (
        sum(step.diff.length for step in route),
        len(route),
        tuple(
            (step.target, -1 if step.base is None else step.base, step.diff.sha256)
            for step in route
        ),
    )


def needed(blob: Blob | None, installed: Blob | None, held: frozenset[bytes]) -> Blob | None:
    """The graph or card that a plan must name, or None where the device keeps the one it has.

    It keeps it only when it says that it holds the blob *and* the generation that it runs uses
    it: a device with an older graph in its other slot must still be told which one to take.
    """
    if blob is not None and blob == installed and blob.sha256 in held:
        return None
    return blob


def plan_for(
    attempt_id: str,
    installed: Generation | None,
    target: Generation,
    steps: Iterable[Step],
    held: frozenset[bytes],
    coders: frozenset[Coder] = EVERY_DEVICE,
) -> Plan | None:
    """Decide what a device should do.

    Args:
        attempt_id: The name that the attempt will have if there is something to do.
        installed: What the device runs; None for nothing.
        target: The generation that it should run.
        steps: Everything that the model offers.
        held: SHA-256 of the graphs and cards that the device says it has.
        coders: What it decodes.

    Returns:
        A plan, or None where the device runs the target already.

    Raises:
        NoRouteError: nothing leads to the target.
    """
    start = installed.number if installed else None
    route = cheapest_route(steps, start, target.number, coders)
    if not route:
        return None
    return Plan(
        attempt_id,
        target=target,
        steps=route,
        graph=needed(target.graph, installed.graph if installed else None, held),
        card=needed(target.card, installed.card if installed else None, held),
    )

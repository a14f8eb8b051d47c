"""One diff that skips generations, for devices that fell behind.

    >>> direct_diff(old, new, [first, second])     # smaller than both together, or None

Pure: weights and files in, a file out. Not for: deciding from where; the publisher says that.
"""

from collections.abc import Sequence
from dataclasses import replace

from diffcodec import ParameterSet, decode, encode, lossless_diff, read_header, roll_up
from diffcodec.file import pack
from server.domain import EVERY_DEVICE, Step
from server.errors import NoRouteError
from server.planner import cheapest_route


def chain_between(steps: Sequence[Step], start: int, goal: int) -> tuple[Step, ...]:
    """The cheapest chain of diffs that every device decodes; empty where there is none.

    Snapshots are left out: nothing of the old generation would be left to build on.
    """
    diffs = (step for step in steps if not step.is_snapshot)
    try:
        return cheapest_route(diffs, start, goal)
    except NoRouteError:
        return ()


def direct_diff(old: ParameterSet, new: ParameterSet, chain: Sequence[bytes]) -> bytes | None:
    """The smallest file by `fast` from one generation to a later one.

    Args:
        old: Where it starts.
        new: Where it leads, exactly.
        chain: The files that lead there one by one; empty where none do.

    Returns:
        The chain rolled up, or a lossless diff between both ends, whichever is smaller. None
        where the chain is as small. Its graph is left out: a plan names the target's graph, which
        need not be the chain's last one.

    Raises:
        LayoutError: a tensor is smaller in the new generation.
    """
    if not chain:
        return encode(lossless_diff(old, new), old, EVERY_DEVICE)
    file = roll_up(old, chain, EVERY_DEVICE)
    return file if file is None else _without_graph(file, old)


def _without_graph(file: bytes, old: ParameterSet) -> bytes:
    if read_header(file).graph is None:
        return file
    decoded = decode(file, old.layout)
    return pack(replace(decoded.diff, graph=None), decoded.target_digest, EVERY_DEVICE)

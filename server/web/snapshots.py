"""One look at the registry for any number of viewers.

A look is kept for FRESH_S, or for REST times what it took, if that is longer: however large the
fleet and however many look, the page takes a bounded share of one thread. A failed look is kept,
too, so that a database in trouble is not asked more often than a sound one.

    >>> snapshots = Snapshots(lambda: overview_of(home, utc_now()))
    >>> (await snapshots.latest()).overview
"""

import asyncio
import math
import time
from collections.abc import Callable, Hashable

from server.errors import RegistryError, ServerError
from server.overview.values import Overview

FRESH_S = 3.0
REST = 10
"""A look that takes a second is repeated every ten at most."""
MOST_BODIES = 64
"""Renderings that are kept of one look; beyond, viewers of odd pages pay for themselves."""


class Snapshot:
    """An overview, and what was made of it already."""

    def __init__(self, overview: Overview) -> None:
        self.overview = overview
        self._bodies: dict[Hashable, bytes] = {}

    async def body(self, name: Hashable, make: Callable[[Overview], bytes]) -> bytes:
        """What `make` makes of the overview, in a thread, once for each name."""
        found = self._bodies.get(name)
        if found is None:
            found = await asyncio.to_thread(make, self.overview)
            if len(self._bodies) < MOST_BODIES:
                self._bodies[name] = found
        return found


class Snapshots:
    """The newest look.

    Args:
        look: Asks the registry; blocks, so it runs in a thread.
        clock: Seconds that only go forward.
    """

    def __init__(
        self, look: Callable[[], Overview], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look = look
        self._clock = clock
        self._latest: Snapshot | ServerError | None = None
        self._good_until = -math.inf
        self._lock = asyncio.Lock()

    async def latest(self) -> Snapshot:
        """A look that is fresh enough; whoever comes while one is under way waits for that one.

        Raises:
            ServerError: the registry could not be read.
        """
        async with self._lock:
            if self._clock() >= self._good_until:
                await self._renew()
            latest = self._latest
        if isinstance(latest, Snapshot):
            return latest
        raise latest or RegistryError("the last look failed; the log of the server says why")

    async def _renew(self) -> None:
        begun = self._clock()
        self._latest = None
        try:
            self._latest = Snapshot(await asyncio.to_thread(self._look))
        except ServerError as error:
            self._latest = error
        finally:
            took = self._clock() - begun
            self._good_until = self._clock() + max(FRESH_S, REST * took)

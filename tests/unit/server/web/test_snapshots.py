"""Any number of viewers cost one look."""

import asyncio
import threading

import pytest

from server.errors import RegistryError
from server.overview.values import Overview
from server.web.snapshots import FRESH_S, MOST_BODIES, REST, Snapshots


class Registry:
    """Counts the looks at it; each takes some seconds of a clock that a test owns."""

    def __init__(self, takes_s: float = 0.0) -> None:
        self.looks = 0
        self.time = 100.0
        self.takes_s = takes_s
        self.error: Exception | None = None
        self.at_once = threading.Semaphore(1)

    def look(self) -> Overview:
        assert self.at_once.acquire(blocking=False), "two looks at once"
        try:
            self.looks += 1
            self.time += self.takes_s
            if self.error is not None:
                raise self.error
            return object()  # type: ignore[return-value]
        finally:
            self.at_once.release()

    def clock(self) -> float:
        return self.time


def test_a_hundred_viewers_at_once_cost_one_look() -> None:
    async def story() -> None:
        registry = Registry()
        snapshots = Snapshots(registry.look, registry.clock)
        seen = await asyncio.gather(*(snapshots.latest() for _ in range(100)))
        assert registry.looks == 1
        assert len({id(one) for one in seen}) == 1
        registry.time += FRESH_S - 0.1
        await snapshots.latest()
        assert registry.looks == 1
        registry.time += 0.2
        await asyncio.gather(*(snapshots.latest() for _ in range(100)))
        assert registry.looks == 2

    asyncio.run(story())


def test_a_look_that_takes_long_is_kept_longer() -> None:
    async def story() -> None:
        registry = Registry(takes_s=4.0)
        snapshots = Snapshots(registry.look, registry.clock)
        await snapshots.latest()
        registry.time += REST * 4.0 - 0.1
        await snapshots.latest()
        assert registry.looks == 1
        registry.time += 0.2
        await snapshots.latest()
        assert registry.looks == 2

    asyncio.run(story())


def test_a_failed_look_is_kept_too_and_tried_again_later() -> None:
    async def story() -> None:
        registry = Registry()
        snapshots = Snapshots(registry.look, registry.clock)
        registry.error = RegistryError("the database failed: gone")
        for _ in range(9):
            with pytest.raises(RegistryError, match="gone"):
                await snapshots.latest()
        assert registry.looks == 1
        registry.error, registry.time = None, registry.time + FRESH_S
        await snapshots.latest()
        assert registry.looks == 2

    asyncio.run(story())


def test_a_rendering_is_made_once_and_not_endlessly_many_are_kept() -> None:
    async def story() -> None:
        made = []

        def make(_overview: Overview) -> bytes:
            made.append(1)
            return b"page"

        snapshot = await Snapshots(Registry().look).latest()
        for _ in range(3):
            for number in range(MOST_BODIES):
                assert await snapshot.body(number, make) == b"page"
        assert len(made) == MOST_BODIES
        await snapshot.body("one more", make)
        await snapshot.body("one more", make)
        assert len(made) == MOST_BODIES + 2

    asyncio.run(story())

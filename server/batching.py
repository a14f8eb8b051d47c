"""Calls answered together: what comes in while a batch is worked on makes the next one.

A call that comes alone is worked on at once, by itself; a fleet that wakes together shares
transactions. Its cost grows with the number of batches, so while calls keep coming a batch follows
the one before it after a pause, in which it fills.

    >>> keys = Batches(registry.keys, most=256)      # blocking: many in, as many out
    >>> await keys.answer(key_sha256)                # from any number of calls
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

from server.errors import ServerError

PAUSE_S = 0.015
"""Long enough for a storm to share, too short to be noticed: a batch takes about as long."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Batches(Generic[Item, Answer]):
    """Collects items of one event loop, and works them off in a thread, one batch at a time.

    Args:
        work: Blocking. Answers a batch item by item, in its order; an error among the answers is
            raised to the caller of that item alone, one that is raised to all of the batch.
        most: Items in one batch.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], Sequence[Answer | ServerError]], most: int
    ) -> None:
        self._work = work
        self._most = most
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def answer(self, item: Item) -> Answer:
        """Hand in an item and wait for its answer.

        Raises:
            ServerError: as the work says of this item, or of the batch that it was in.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            # A context of its own: what is said of the first call holds for no other one.
            self._worker = loop.create_task(self._work_off(), context=Context())
        return await future

    async def _work_off(self) -> None:
        try:
            while batch := self._next():
                await self._settle(batch)
                if self._waiting:
                    await asyncio.sleep(PAUSE_S)
        finally:
            self._worker = None

    def _next(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        """The longest that wait; who has hung up meanwhile is left out."""
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        while self._waiting and len(batch) < self._most:
            item, future = self._waiting.popleft()
            if not future.done():
                batch.append((item, future))
        return batch

    async def _settle(self, batch: list[tuple[Item, asyncio.Future[Answer]]]) -> None:
        try:
            answers = await asyncio.to_thread(self._work, [item for item, _ in batch])
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, ServerError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

"""The innermost interceptor: what a request must be, and the room that there must be for it.

After it a method finds a message of its own type that keeps the rules of its fields. It also
writes streams, so that one whose reader takes nothing ends.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from server.errors import BusyError, RequestError
from server.handlers import Context, Handler, Wrapper, around
from server.identity.caller import current_caller
from server.limits.rules import require_rules
from server.limits.settings import Limits
from server.limits.turns import caller_of
from server.observability.fields import note
from server.service import status_of_errors

RETRY_STREAMS_S = 10
LAST_WORDS_S = 1.0
"""To tell a reader that is there after all why its stream ends."""


@dataclass(frozen=True)
class Malformed:
    """Stands for a request whose bytes are not a message."""

    size: int


class Guard(Wrapper):
    """Stands between the gate and the services."""

    def __init__(self, limits: Limits) -> None:
        super().__init__()
        self._limits = limits
        self._streams: Counter[str] = Counter()

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Put the checks before the method."""
        read = _reader(handler.request_deserializer) if handler.request_deserializer else None
        scope = self._checked_stream if handler.response_streaming else self._checked
        return around(handler, scope, write=self._write, read=read)

    @asynccontextmanager
    async def _checked(self, request: Any, context: Context) -> AsyncIterator[None]:
        async with status_of_errors(context):
            _require_message(request)
        yield

    @asynccontextmanager
    async def _checked_stream(self, request: Any, context: Context) -> AsyncIterator[None]:
        caller = caller_of(current_caller().identity, context.peer())
        async with status_of_errors(context):
            _require_message(request)
            self._require_room(caller)
        self._streams[caller] += 1
        try:
            yield
        finally:
            self._streams[caller] -= 1
            if not self._streams[caller]:
                del self._streams[caller]

    def _require_room(self, caller: str) -> None:
        if self._streams[caller] >= self._limits.caller_streams:
            raise BusyError(
                f"expected at most {self._limits.caller_streams} streams of one caller at once, "
                "found one more",
                RETRY_STREAMS_S,
                "caller-streams",
            )
        if self._streams.total() >= self._limits.streams:
            raise BusyError("too many streams at once: come again", RETRY_STREAMS_S, "streams")

    async def _write(self, context: Context, answer: Any) -> None:
        try:
            async with asyncio.timeout(self._limits.stall_s):
                await context.write(answer)
        except TimeoutError:
            note(limit="stall-s")
            await _cut(context, f"nothing was taken for {self._limits.stall_s:g} s")


async def _cut(context: Context, reason: str) -> None:
    """End a stream, with its status where it can still be told."""
    try:
        async with asyncio.timeout(LAST_WORDS_S):
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, reason)
    except TimeoutError:
        # The status waits behind what nobody reads; the call goes with the task.
        raise asyncio.CancelledError from None


def _require_message(request: Any) -> None:
    if isinstance(request, Malformed):
        raise RequestError(
            f"expected a message of this method, found {request.size} bytes that are none"
        )
    # What is no message is a stream of them; gRPC's own reflection alone reads such.
    if isinstance(request, Message):
        require_rules(request)


def _reader(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def read_or_mark(content: bytes) -> Any:
        try:
            return read(content)
        except DecodeError:
            return Malformed(len(content))

    return read_or_mark

"""The outermost interceptor: every call gets an id, is counted, and ends with one log line.

Calls whose request never came, was too large to be read, or that the client gave up before that,
end with the code UNREAD: gRPC answers those by itself.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from server.handlers import Context, Continuation, Handler, around
from server.observability import fields
from server.observability.metrics import Metrics

log = logging.getLogger("server.access")
faults = logging.getLogger(__name__)

UNREAD = "UNREAD"
UNKNOWN_METHOD = "unknown"
"""Stands for all methods that are none, so that callers cannot make up labels."""
KINDS = {
    "/ota.v1.ContentService/ReadBlob": "blob",
    "/ota.v1.ContentService/ReadMetadata": "metadata",
}
ANSWER = "answer"
QUIET = ("/grpc.health.v1.Health/",)
"""Asked every few seconds by whatever watches the server."""

CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass
class Call:
    """A call under way."""

    method: str
    noted: dict[str, str]
    began_s: float = field(default_factory=time.perf_counter)
    code: str = UNREAD
    sent_bytes: int = 0


class Calls(grpc.aio.ServerInterceptor):
    """Watches every call; must be the first of a server's interceptors."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """Begin a call. gRPC runs this in the task of the call, which ends with it."""
        method = str(handler_call_details.method)
        noted = {"request_id": uuid.uuid4().hex[:16], "method": method}
        fields.begin(noted)
        handler = await continuation(handler_call_details)
        call = Call(method if handler is not None else UNKNOWN_METHOD, noted)
        self._metrics.call_began(call.method)
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("gRPC's event loop runs tasks alone")
        task.add_done_callback(lambda _: self._end(call))
        if handler is None:
            call.code = grpc.StatusCode.UNIMPLEMENTED.name
            return None
        return around(
            handler,
            lambda _, context: self._judged(call, context),
            serialize=self._counting(call, handler.response_serializer),
        )

    @asynccontextmanager
    async def _judged(self, call: Call, context: Context) -> AsyncIterator[None]:
        """Learn how the method ends; a fault of ours tells the caller where to look, not what."""
        call.noted["peer"] = context.peer()
        try:
            yield
        except grpc.aio.AbortError:
            call.code = _code(context)
            raise
        except asyncio.CancelledError:
            # A stream that was cut has said why already.
            call.code = _code(context, ended=grpc.StatusCode.CANCELLED)
            raise
        except Exception:
            call.code = grpc.StatusCode.INTERNAL.name
            faults.exception("a fault of the server")
            await context.abort(
                grpc.StatusCode.INTERNAL,
                f"the server failed; its log says more of request {call.noted['request_id']}",
            )
        else:
            call.code = _code(context)

    def _counting(
        self, call: Call, serialize: Callable[[Any], bytes] | None
    ) -> Callable[[Any], bytes] | None:
        count = self._metrics.sent(KINDS.get(call.method, ANSWER))
        if serialize is None:
            return None

        def counted(message: Any) -> bytes:
            content = serialize(message)
            call.sent_bytes += len(content)
            count(len(content))
            return content

        return counted

    def _end(self, call: Call) -> None:
        seconds = time.perf_counter() - call.began_s
        self._metrics.call_ended(call.method, call.code, seconds)
        if "answer" in call.noted:
            self._metrics.checked_in(call.noted["answer"])
        if "limit" in call.noted:
            self._metrics.refused(call.noted["limit"])
        milliseconds = round(seconds * 1000, 1)
        log.log(
            logging.DEBUG if call.method.startswith(QUIET) else logging.INFO,
            "%s in %s ms, %d bytes",
            call.code,
            milliseconds,
            call.sent_bytes,
            extra={
                "fields": {
                    "code": call.code,
                    "duration_ms": milliseconds,
                    "sent_bytes": call.sent_bytes,
                }
            },
        )


def _code(context: Context, ended: grpc.StatusCode = grpc.StatusCode.OK) -> str:
    """The name of the status that a call was given; `ended` where it was given none."""
    code = context.code() or ended.value[0]
    if isinstance(code, grpc.StatusCode):
        return code.name
    return CODE_NAMES.get(code, "UNKNOWN")

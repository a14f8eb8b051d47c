"""Put something around the methods of a service: what our interceptors have in common."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from inspect import isasyncgenfunction
from typing import Any

import grpc

Handler = Any
"""What gRPC calls for a method; its types have no name for it that they would accept back."""
Context = grpc.aio.ServicerContext[Any, Any]
Scope = Callable[[Any, Context], AbstractAsyncContextManager[None]]
Write = Callable[[Context, Any], Awaitable[None]]
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


async def _write(context: Context, answer: Any) -> None:
    await context.write(answer)


def around(
    handler: Handler,
    scope: Scope,
    *,
    write: Write = _write,
    read: Callable[[bytes], Any] | None = None,
    serialize: Callable[[Any], bytes] | None = None,
) -> Handler:
    """The same method within a scope.

    Args:
        handler: The method.
        scope: Of a request and its context; entered before the method runs, left after it. What
            it raises before it yields keeps the method from running.
        write: Sends an answer of a stream.
        read: Makes the request of its bytes; None: as the method has it.
        serialize: Makes bytes of an answer; None: as the method has it.
    """
    inner = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )

    async def one(request: Any, context: Context) -> Any:
        async with scope(request, context):
            return await inner(request, context)

    async def many(request: Any, context: Context) -> None:
        async with scope(request, context), aclosing(inner(request, context)) as answers:
            async for answer in answers:
                await write(context, answer)

    # A stream is a generator, or else a coroutine that writes to the context.
    kind = _KINDS[(handler.request_streaming, handler.response_streaming)]
    return kind(
        many if isasyncgenfunction(inner) else one,
        request_deserializer=read or handler.request_deserializer,
        response_serializer=serialize or handler.response_serializer,
    )


class Wrapper(grpc.aio.ServerInterceptor):
    """An interceptor that puts the same around a method at every call, and so makes it once."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Handler, Handler]] = {}

    @abstractmethod
    def wrap(self, method: str, handler: Handler) -> Handler:
        """What runs in place of a method."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler:
        """What was made of the method; None, and so UNIMPLEMENTED, where there is no such one."""
        method = str(handler_call_details.method)
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        made_of, made = self._made.get(method, (None, None))
        if made_of is not handler:
            made = self.wrap(method, handler)
            self._made[method] = handler, made
        return made


_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}

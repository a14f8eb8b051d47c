"""Put something around the methods of a service: what our interceptors have in common."""

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


def around(handler: Handler, scope: Scope, write: Write = _write) -> Handler:
    """The same method within a scope.

    Args:
        handler: The method.
        scope: Of a request and its context; entered before the method runs, left after it. What
            it raises before it yields keeps the method from running.
        write: Sends an answer of a stream.
    """
    inner = _function(handler)

    async def one(request: Any, context: Context) -> Any:
        async with scope(request, context):
            return await inner(request, context)

    async def many(request: Any, context: Context) -> None:
        async with scope(request, context), aclosing(inner(request, context)) as answers:
            async for answer in answers:
                await write(context, answer)

    # A stream is a generator, or else a coroutine that writes to the context.
    return _like(handler, many if isasyncgenfunction(inner) else one)


def coded(
    handler: Handler,
    read: Callable[[bytes], Any] | None = None,
    serialize: Callable[[Any], bytes] | None = None,
) -> Handler:
    """The same method with other functions between bytes and messages; None: as it was."""
    return _like(
        handler,
        _function(handler),
        read or handler.request_deserializer,
        serialize or handler.response_serializer,
    )


_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _function(handler: Handler) -> Any:
    return (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


def _like(handler: Handler, function: Any, *codecs: Any) -> Handler:
    read, serialize = codecs or (handler.request_deserializer, handler.response_serializer)
    kind = _KINDS[(handler.request_streaming, handler.response_streaming)]
    return kind(function, request_deserializer=read, response_serializer=serialize)

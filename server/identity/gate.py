"""The interceptor that asks, before any service runs, who calls and whether they may.

TLS has proven that the caller holds the key of a certificate that one of our authorities signed
and that is valid now. Here the certificate is read, the table of access is asked, and then the
registry, whether the key still counts: at every call, so that a revocation needs no restart.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import lru_cache
from inspect import isasyncgenfunction
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server.batching import Batches
from server.errors import ForbiddenError, UnknownCallerError
from server.identity.access import require_access
from server.identity.authority import Authority
from server.identity.caller import Caller, set_caller
from server.identity.certificates import DeviceIdentity, EnrolmentIdentity, OperatorIdentity
from server.identity.keys import KeyState
from server.registry import Registry
from server.registry.identities import ENROLMENT_KEY, Identities, Standing
from server.registry.operators import Operators
from server.service import status_of_errors

log = logging.getLogger(__name__)

Handler = Any
Context = grpc.aio.ServicerContext[Any, Any]
KNOWN_CALLERS = 4096
MOST_KEYS_AT_ONCE = 256


class Gate(grpc.aio.ServerInterceptor):
    """Lets in whom `server.identity.access` and the registry let in."""

    def __init__(self, authority: Authority, registry: Registry) -> None:
        self._identities = Identities(registry)
        self._device_keys = Batches(self._identities.standings, MOST_KEYS_AT_ONCE)
        self._operators = Operators(registry)
        # Reading a certificate costs more than all else here, and devices come back.
        self._caller_of = lru_cache(KNOWN_CALLERS)(lambda pem: _caller(authority, pem))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Put the check before the method."""
        handler = await continuation(handler_call_details)
        if handler is None:  # UNIMPLEMENTED, whoever asks
            return None
        return self._guarded(handler, str(handler_call_details.method))

    def _guarded(self, handler: Handler, method: str) -> Handler:
        async def one(request: Any, context: Context) -> Any:
            await self._admit(method, context)
            return await inner(request, context)

        async def many(request: Any, context: Context) -> AsyncIterator[Any]:
            await self._admit(method, context)
            async for answer in inner(request, context):
                yield answer

        inner = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        kind = _KINDS[(handler.request_streaming, handler.response_streaming)]
        return kind(
            # A stream is a generator, or else a coroutine that writes to the context.
            many if isasyncgenfunction(inner) else one,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _admit(self, method: str, context: Context) -> None:
        async with status_of_errors(context):
            try:
                caller = self._caller_of(_certificate_of(context))
                require_access(method, caller.identity)
                await self._require_counting(caller)
            except (ForbiddenError, UnknownCallerError) as error:
                log.warning("%s refused for %s: %s", method, context.peer(), error)
                raise
            set_caller(caller)

    async def _require_counting(self, caller: Caller) -> None:
        """Refuse a key that no longer counts, whatever its certificate says."""
        identity = caller.identity
        match identity:
            case DeviceIdentity():
                _require_accepted(identity, await self._device_keys.answer(identity.key_sha256))
            case EnrolmentIdentity():
                current = await asyncio.to_thread(self._identities.setting, ENROLMENT_KEY)
                if current is not None and current != identity.key_sha256.hex():
                    raise UnknownCallerError(
                        "expected the fleet's present ca.pem, found an older one: get it anew"
                    )
            case OperatorIdentity():
                if not await asyncio.to_thread(self._operators.is_active, identity.key_sha256):
                    raise UnknownCallerError(
                        f"expected a credential that counts, found one of {identity.name} "
                        "that was removed"
                    )


def _require_accepted(identity: DeviceIdentity, standing: Standing | None) -> None:
    if standing is None or standing.device_id != identity.device_id:
        raise UnknownCallerError(
            f"expected a device that is known here, found {identity.device_id!r}: enrol it again"
        )
    if standing.state is not KeyState.ACCEPTED:
        raise ForbiddenError(f"the key of device {identity.device_id} is {standing.state}")


_KINDS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _certificate_of(context: Context) -> bytes:
    pem = context.auth_context().get("x509_pem_cert", ())
    for certificate in pem:
        return bytes(certificate)
    raise UnknownCallerError("expected a client certificate, found none")


def _caller(authority: Authority, pem: bytes) -> Caller:
    certificate = x509.load_pem_x509_certificate(pem)
    identity = authority.identity_of(certificate)
    key = certificate.public_key()
    if identity is None or not isinstance(key, ec.EllipticCurvePublicKey):
        raise UnknownCallerError(
            "expected a certificate of a device, an operator or of enrolment, found another"
        )
    return Caller(identity, key)

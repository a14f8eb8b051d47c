"""The interceptor that asks, before any service runs, who calls and whether they may.

TLS has proven that the caller holds the key of a certificate that one of our authorities signed
and that is valid now. Here the certificate is read, the table of access is asked, and then the
registry, whether the key still counts: at every call, so that a revocation needs no restart.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server.batching import Batches
from server.errors import ForbiddenError, UnknownCallerError
from server.handlers import Context, Handler, Wrapper, around
from server.identity.access import require_access
from server.identity.authority import Authority
from server.identity.caller import Caller, set_caller
from server.identity.certificates import DeviceIdentity, EnrolmentIdentity, OperatorIdentity
from server.identity.keys import KeyState
from server.limits.turns import Turns, note_caller
from server.registry import Registry
from server.registry.identities import ENROLMENT_KEY, Identities, Standing
from server.registry.operators import Operators
from server.service import status_of_errors

log = logging.getLogger(__name__)

KNOWN_CALLERS = 4096
MOST_KEYS_AT_ONCE = 256


class Gate(Wrapper):
    """Lets in whom `server.identity.access` and the registry let in."""

    def __init__(self, authority: Authority, registry: Registry, turns: Turns) -> None:
        super().__init__()
        self._turns = turns
        self._identities = Identities(registry)
        self._device_keys = Batches(self._identities.standings, MOST_KEYS_AT_ONCE)
        self._operators = Operators(registry)
        # Reading a certificate costs more than all else here, and devices come back.
        self._caller_of = lru_cache(KNOWN_CALLERS)(lambda pem: _caller(authority, pem))

    def wrap(self, method: str, handler: Handler) -> Handler:
        """Put the check before the method."""
        return around(handler, lambda _, context: self._admitted(method, context))

    @asynccontextmanager
    async def _admitted(self, method: str, context: Context) -> AsyncIterator[None]:
        await self._admit(method, context)
        yield

    async def _admit(self, method: str, context: Context) -> None:
        async with status_of_errors(context):
            try:
                caller = self._caller_of(_certificate_of(context))
                note_caller(caller.identity)
                self._turns.take(caller.identity, context.peer())
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

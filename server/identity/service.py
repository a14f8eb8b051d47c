"""The gRPC border of enrolment: messages in, values to the registry, messages out."""

import asyncio
import logging
from datetime import datetime
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from protos.ota.v1 import enrollment_pb2, enrollment_pb2_grpc
from server.clock import Clock, utc_now
from server.domain import LONGEST_NAME
from server.errors import ConflictError, RequestError
from server.identity.authority import Authority
from server.identity.caller import caller_device, current_caller
from server.identity.certificates import key_of_request, key_sha256
from server.identity.keys import DeviceKey, KeyState, require_device_id
from server.registry import Registry
from server.registry.identities import Identities
from server.service import status_of_errors

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

STATES = {
    KeyState.PENDING: enrollment_pb2.ENROLLMENT_STATE_PENDING,
    KeyState.ACCEPTED: enrollment_pb2.ENROLLMENT_STATE_ACCEPTED,
    KeyState.REJECTED: enrollment_pb2.ENROLLMENT_STATE_REJECTED,
    KeyState.REVOKED: enrollment_pb2.ENROLLMENT_STATE_REVOKED,
}


class EnrollmentService(enrollment_pb2_grpc.EnrollmentServiceServicer):
    """Requests for certificates, and their renewal."""

    def __init__(self, registry: Registry, authority: Authority, now: Clock = utc_now) -> None:
        self._registry = registry
        self._identities = Identities(registry)
        self._authority = authority
        self._now = now

    async def Enroll(  # noqa: N802 - the name of the rpc
        self, request: enrollment_pb2.EnrollRequest, context: Context
    ) -> enrollment_pb2.EnrollResponse:
        """Record a request, and answer with a certificate once it is accepted."""
        async with status_of_errors(context):
            _require_short("model", request.model)
            _require_short("name", request.name)
            if request.device_id:
                require_device_id(request.device_id)
            key = key_of_request(request.signing_request)
            return await asyncio.to_thread(self._enroll, request, key, context.peer())

    async def RenewCertificate(  # noqa: N802
        self, request: enrollment_pb2.RenewCertificateRequest, context: Context
    ) -> enrollment_pb2.RenewCertificateResponse:
        """Sign the same device and key anew."""
        async with status_of_errors(context):
            device_id = caller_device("")
            certificate = await asyncio.to_thread(
                self._sign, device_id, current_caller().key, self._now()
            )
            log.info("device %s: its certificate is renewed", device_id)
            return enrollment_pb2.RenewCertificateResponse(certificate=certificate)

    def _enroll(
        self, request: enrollment_pb2.EnrollRequest, key: ec.EllipticCurvePublicKey, peer: str
    ) -> enrollment_pb2.EnrollResponse:
        now = self._now()
        known = self._recorded(request, key_sha256(key), now)
        self._log(known, peer)
        device_id = known.device_id or ""
        if known.state is not KeyState.ACCEPTED:
            return enrollment_pb2.EnrollResponse(
                state=STATES[known.state], device_id=device_id, model=known.model
            )
        return enrollment_pb2.EnrollResponse(
            state=STATES[known.state],
            device_id=device_id,
            model=self._registry.device(device_id).model,
            certificate=self._sign(device_id, key, now),
        )

    def _recorded(
        self, request: enrollment_pb2.EnrollRequest, sha256: bytes, now: datetime
    ) -> DeviceKey:
        wanted = (sha256, request.device_id, request.model, request.name, now)
        try:
            return self._identities.request(*wanted)
        except ConflictError:
            # Another server recorded the same key, or the same device, just now: look again.
            return self._identities.request(*wanted)

    def _sign(self, device_id: str, key: ec.EllipticCurvePublicKey, now: datetime) -> bytes:
        return self._authority.sign_device(device_id, key, now).public_bytes(Encoding.DER)

    def _log(self, known: DeviceKey, peer: str) -> None:
        if known.is_rival:
            log.warning(
                "ALERT: key %s from %s asks to be device %s, for which there is another key; "
                "it waits for an operator",
                known.short,
                peer,
                known.device_id,
            )
        else:
            log.info(
                "key %s from %s: device %s, %s", known.short, peer, known.device_id, known.state
            )


def _require_short(field: str, value: str) -> None:
    if len(value) > LONGEST_NAME:
        raise RequestError(
            f"{field}: expected at most {LONGEST_NAME} characters, found {len(value)}"
        )
    if not value.isprintable():  # it is shown to operators, in terminals and logs
        raise RequestError(f"{field}: expected printable characters, found {value!r}")

"""The gRPC border of what operators do from another machine. The gate has checked the role."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc

from protos.ota.v1 import operator_pb2, operator_pb2_grpc
from server.clock import Clock, utc_now
from server.domain import DIGEST_BYTES
from server.errors import RequestError
from server.identity.caller import caller_operator
from server.identity.desk import STATES, VERBS, message_of
from server.identity.keys import KeyState, Verb, require_device_id
from server.registry import Registry
from server.registry.identities import Identities
from server.service import status_of_errors

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
KEYS_AT_ONCE = 500


class OperatorService(operator_pb2_grpc.OperatorServiceServicer):
    """Lists devices and decides on them; the audit log has the operator's name."""

    def __init__(self, registry: Registry, now: Clock = utc_now) -> None:
        self._registry = registry
        self._now = now

    async def ListDevices(  # noqa: N802 - the name of the rpc
        self, request: operator_pb2.ListDevicesRequest, context: Context
    ) -> AsyncIterator[operator_pb2.ListDevicesResponse]:
        """All keys, or those of a state."""
        async with status_of_errors(context):
            state = _state_of(request.state)
            keys = await asyncio.to_thread(self._identities().all, state)
            for start in range(0, len(keys), KEYS_AT_ONCE):
                part = keys[start : start + KEYS_AT_ONCE]
                yield operator_pb2.ListDevicesResponse(devices=map(message_of, part))

    async def DecideKey(  # noqa: N802
        self, request: operator_pb2.DecideKeyRequest, context: Context
    ) -> operator_pb2.DecideKeyResponse:
        """Accept, reject or revoke."""
        async with status_of_errors(context):
            sha256, verb = _sha256_of(request.key_sha256), _verb_of(request.verb)
            key = await asyncio.to_thread(
                self._identities().decide, sha256, verb, self._now(), replace=request.replace
            )
            log.info("%s: %s device %s", self._actor(), key.state, key.device_id)
            return operator_pb2.DecideKeyResponse(device=message_of(key))

    async def PreauthorizeKey(  # noqa: N802
        self, request: operator_pb2.PreauthorizeKeyRequest, context: Context
    ) -> operator_pb2.PreauthorizeKeyResponse:
        """Accept a key before it asks."""
        async with status_of_errors(context):
            device_id = require_device_id(request.device_id) if request.device_id else None
            key = await asyncio.to_thread(
                self._identities().preauthorize,
                _sha256_of(request.key_sha256),
                device_id,
                request.model,
                self._now(),
            )
            return operator_pb2.PreauthorizeKeyResponse(device=message_of(key))

    async def DecommissionDevice(  # noqa: N802
        self, request: operator_pb2.DecommissionDeviceRequest, context: Context
    ) -> operator_pb2.DecommissionDeviceResponse:
        """Take a device out of service for good."""
        async with status_of_errors(context):
            await asyncio.to_thread(self._identities().decommission, request.device_id, self._now())
            log.info("%s: decommissioned device %s", self._actor(), request.device_id)
            return operator_pb2.DecommissionDeviceResponse()

    def _identities(self) -> Identities:
        return Identities(self._registry.acting_as(self._actor()))

    def _actor(self) -> str:
        return f"operator:{caller_operator().name}"


def _state_of(number: int) -> KeyState | None:
    if number == operator_pb2.KEY_STATE_UNSPECIFIED:
        return None
    for state, known in STATES.items():
        if known == number:
            return state
    raise RequestError(f"state: expected one that is known, found {number}")


def _verb_of(number: int) -> Verb:
    for verb, known in VERBS.items():
        if known == number:
            return verb
    raise RequestError(f"verb: expected one that is known, found {number}")


def _sha256_of(value: bytes) -> bytes:
    if len(value) != DIGEST_BYTES:
        raise RequestError(f"key_sha256: expected {DIGEST_BYTES} bytes, found {len(value)}")
    return value

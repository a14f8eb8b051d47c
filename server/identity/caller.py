"""Who makes the call that is being served.

The gate (server.identity.gate) sets it before a method of a service runs; asking outside of a
call is a mistake of ours, and refused.
"""

from contextvars import ContextVar
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from server.errors import ForbiddenError, UnknownCallerError
from server.identity.certificates import DeviceIdentity, Identity, OperatorIdentity


@dataclass(frozen=True)
class Caller:
    """Whom the certificate names, and the key that TLS has proven the caller to hold."""

    identity: Identity
    key: ec.EllipticCurvePublicKey


_caller: ContextVar[Caller] = ContextVar("caller")


def set_caller(caller: Caller) -> None:
    """Say who calls, for the rest of this call."""
    _caller.set(caller)


def current_caller() -> Caller:
    """Who calls.

    Raises:
        UnknownCallerError: nobody does.
    """
    caller = _caller.get(None)
    if caller is None:
        raise UnknownCallerError("expected a caller with a certificate, found none")
    return caller


def caller_device(claimed: str) -> str:
    """The id of the device that calls.

    Args:
        claimed: What the request says; empty, or the same.

    Raises:
        ForbiddenError: the request names another device, or no device calls.
    """
    identity = current_caller().identity
    if not isinstance(identity, DeviceIdentity):
        raise ForbiddenError("expected the certificate of a device, found another")
    if claimed not in ("", identity.device_id):
        raise ForbiddenError(
            f"device_id: expected {identity.device_id!r}, whose certificate this is, or none, "
            f"found {claimed!r}"
        )
    return identity.device_id


def caller_operator() -> OperatorIdentity:
    """The operator who calls.

    Raises:
        ForbiddenError: somebody else does.
    """
    identity = current_caller().identity
    if not isinstance(identity, OperatorIdentity):
        raise ForbiddenError("expected the certificate of an operator, found another")
    return identity

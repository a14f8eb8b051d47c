"""The TLS channel to a server, and what its failures mean.

There is TLS alone. The server must have a certificate of the fleet's authority for the host that
was called, and knows this device by the certificate that it shows; requests name no device.
gRPC's exceptions stop here.
"""

import grpc

from edge_client.address import ServerAddress
from edge_client.errors import (
    AccessDeniedError,
    CertificateRefusedError,
    EdgeError,
    ServerBusyError,
    ServerFaultError,
    ServerUnavailableError,
    UnknownDeviceError,
    UnknownGenerationError,
    UntrustedServerError,
    one_line,
)
from edge_client.identity import Credential
from edge_client.meter import Meter

HANDSHAKE_FAILED = "failed to connect to all addresses"
"""How gRPC begins to say that there was no connection to make a call on; it has no code for it."""
NOT_TRUSTED = ("Tls handshake failed", "verification check failed")
"""What it says where this side ends the handshake, for what the server has shown."""


def channel_to(server: ServerAddress, credential: Credential, meter: Meter) -> grpc.Channel:
    """A channel through a meter, on which nothing is sent before the first call.

    Args:
        server: Which name its certificate must have.
        credential: Whom to trust, and who calls.
        meter: The way to the server.
    """
    return grpc.secure_channel(
        meter.address,
        grpc.ssl_channel_credentials(credential.authority, credential.key, credential.certificate),
        options=_options(server),
    )


def _options(server: ServerAddress) -> list[tuple[str, str | int]]:
    return [
        # The server's certificate is for its own name, not for the relay's.
        ("grpc.ssl_target_name_override", server.host),
        # The relay is an implementation detail; requests are addressed to the server.
        ("grpc.default_authority", str(server)),
        # A proxy from the environment must not come between the channel and the relay.
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        # edge_client.retry decides when to try again; the channel must not be slower than that.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


def meaning_of(
    error: grpc.RpcError, server: ServerAddress, meter: Meter, missing: type[EdgeError]
) -> EdgeError:
    """The error of this package for a call that failed.

    Args:
        error: What gRPC raised.
        server: Who was called.
        meter: What it was called through.
        missing: What it means that the server does not find what the call names.
    """
    code = error.code()
    # Nobody but this process knows the relay; people know the server.
    told = (error.details() or "no reason given").replace(meter.address, str(server))
    detail = one_line(told)
    if code is grpc.StatusCode.UNAVAILABLE:
        refused = _handshake_failure(told, server, meter)
        if refused is not None:
            return refused
        reason = meter.connect_failure or detail
        return ServerUnavailableError(f"no server answers at {server}: {reason}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ServerUnavailableError(f"no answer from {server} in time: {detail}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ServerBusyError(f"the server at {server} is busy: {detail}")
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return UnknownGenerationError(
            f"the server at {server} knows no way on from the generation that this "
            f"device runs: {detail}"
        )
    if code is grpc.StatusCode.PERMISSION_DENIED:
        return AccessDeniedError(f"the server at {server} refused: {detail}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return UnknownDeviceError(f"the server at {server} refused: {detail}; run: ota-edge enroll")
    if code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE):
        return missing(f"the server at {server} refused: {detail}")
    return ServerFaultError(f"the server at {server} failed ({code.name}): {detail}")


def _handshake_failure(
    told: str, server: ServerAddress, meter: Meter
) -> ServerUnavailableError | None:
    """What is likely wrong where somebody answers, and the handshake fails; None elsewhere."""
    if meter.connect_failure is not None or not told.startswith(HANDSHAKE_FAILED):
        return None
    detail = one_line(told.rpartition("last error: ")[2])
    if any(words in told for words in NOT_TRUSTED):
        return UntrustedServerError(
            f"expected the server at {server} to have a certificate of the fleet in "
            f"ca.pem, for the name {server.host}, found another: {detail}"
        )
    return CertificateRefusedError(
        f"the server at {server} ended the handshake: likely this device's certificate "
        f"has ended or is of another fleet, or no server of a fleet listens there: {detail}"
    )

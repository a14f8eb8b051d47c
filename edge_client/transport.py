"""Talk to the server over gRPC; in and out go the values of offer.py.

Foreign exceptions stop here. Every call has a deadline. Calls that may be repeated without harm
are, a few times with growing random waits, when the server is unavailable. A stream that breaks
is not repeated here: download.py resumes it at the byte it has.

There is TLS alone. The server must have a certificate of the fleet's authority for the host that
was called, and knows this device by the certificate that it shows; requests name no device.

    >>> with Connection.open(ServerAddress.parse("127.0.0.1:50051"), credential) as server:
    ...     answer = server.check_in(installed=None, held=())
    >>> server.traffic.received_bytes
    512
"""

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeVar

import grpc

from diffcodec import Coder
from diffcodec.wire import CODER_NUMBERS
from edge_client.address import ServerAddress
from edge_client.errors import (
    AccessDeniedError,
    BlobError,
    CertificateRefusedError,
    EdgeError,
    MissingMetadataError,
    OversizedError,
    ServerBusyError,
    ServerFaultError,
    ServerUnavailableError,
    SlowServerError,
    UnknownDeviceError,
    UnknownGenerationError,
    UntrustedServerError,
    one_line,
)
from edge_client.identity import Credential
from edge_client.meter import Meter, Traffic
from edge_client.offer import Blob, CheckInAnswer, Deferral, Generation, Plan, Step
from edge_client.pace import Pace
from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)

Answer = TypeVar("Answer")

CALL_TIMEOUT_S = 20.0
STREAM_TIMEOUT_S = 300.0
"""A stream that takes longer is cut and resumed: a peer that stalls cannot hold us for ever."""


@dataclass(frozen=True)
class Retry:
    """How often and how patiently to try again. Waits double and are drawn from [half, whole]."""

    tries: int = 4
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0
    sleep: Callable[[float], None] = time.sleep
    # Only spreads devices in time; nothing secret.
    randomness: random.Random = field(default_factory=random.Random)

    def pause(self, failures: int) -> None:
        """Wait after the given number of failures in a row, failures >= 1."""
        whole = min(self.longest_wait_s, self.first_wait_s * 2 ** (failures - 1))
        self.sleep(self.randomness.uniform(whole / 2, whole))


class Outcome(Enum):
    """What a report says about an attempt."""

    STARTED = device_pb2.OUTCOME_STARTED
    COMMITTED = device_pb2.OUTCOME_COMMITTED
    FAILED = device_pb2.OUTCOME_FAILED


@dataclass(frozen=True)
class Report:
    """One message about an attempt. Repeating one (same attempt and sequence) has no effect."""

    attempt_id: str
    sequence: int
    outcome: Outcome
    code: str = ""
    apply_s: float = 0.0


class BlobSource(Protocol):
    """Where downloads come from."""

    def read_blob(self, blob: Blob, offset: int) -> Iterator[bytes]:
        """Yield the blob's bytes from the offset to its end; may break off at any time."""
        ...


class EnrollmentState(Enum):
    """What has become of a request for a certificate."""

    PENDING = enrollment_pb2.ENROLLMENT_STATE_PENDING
    ACCEPTED = enrollment_pb2.ENROLLMENT_STATE_ACCEPTED
    REJECTED = enrollment_pb2.ENROLLMENT_STATE_REJECTED
    REVOKED = enrollment_pb2.ENROLLMENT_STATE_REVOKED


@dataclass(frozen=True)
class Enrolled:
    """The answer to a request; `certificate` is X.509 in DER where the state is ACCEPTED."""

    state: EnrollmentState
    device_id: str
    model: str
    certificate: bytes


class Connection:
    """A metered channel to one server. Use `Connection.open`."""

    def __init__(
        self,
        server: ServerAddress,
        credential: Credential,
        meter: Meter,
        retry: Retry,
        pace: Pace,
    ) -> None:
        self._server = server
        self._meter = meter
        self._retry = retry
        self._pace = pace
        self._channel = _channel(server, credential, meter)
        self._make_stubs()

    @classmethod
    @contextmanager
    def open(
        cls,
        server: ServerAddress,
        credential: Credential,
        retry: Retry | None = None,
        pace: Pace | None = None,
    ) -> "Iterator[Connection]":
        """Connect on the first call; close channel and meter at the end of the block.

        Args:
            server: Where, and which name its certificate must have.
            credential: Whom to trust, and who calls.
            retry: How patiently to wait for the server.
            pace: The slowest download that is put up with.
        """
        with Meter(server) as meter:
            connection = cls(server, credential, meter, retry or Retry(), pace or Pace())
            try:
                yield connection
            finally:
                connection._channel.close()

    def use(self, credential: Credential) -> None:
        """Connect anew as somebody else; what is counted goes on."""
        self._channel.close()
        self._channel = _channel(self._server, credential, self._meter)
        self._make_stubs()

    def _make_stubs(self) -> None:
        self._devices = device_pb2_grpc.DeviceServiceStub(self._channel)
        self._contents = content_pb2_grpc.ContentServiceStub(self._channel)
        self._enrollments = enrollment_pb2_grpc.EnrollmentServiceStub(self._channel)

    @property
    def traffic(self) -> Traffic:
        """Bytes on the wire so far, handshakes included; complete once `open`'s block has ended."""
        return self._meter.traffic

    def enroll(self, signing_request: bytes, model: str, name: str, device_id: str) -> Enrolled:
        """Ask for a certificate, or how the request stands. For the enrolment credential.

        Args:
            signing_request: PKCS #10 in DER.
            model: Which model to follow; empty for the server's only one.
            name: How people call the device.
            device_id: The id that it had or is to have; empty for a new one.

        Raises:
            UnknownDeviceError: the server has no such model, or another ca.pem by now.
            AccessDeniedError: the device was decommissioned.
            ServerUnavailableError, ServerFaultError
        """
        request = enrollment_pb2.EnrollRequest(
            signing_request=signing_request, model=model, name=name, device_id=device_id
        )
        answer = self._again(lambda: self._enrollments.Enroll(request, timeout=CALL_TIMEOUT_S))
        try:
            state = EnrollmentState(answer.state)
        except ValueError as error:
            raise ServerFaultError(
                f"expected a state of enrolment from {self._server}, found {answer.state}"
            ) from error
        if state is EnrollmentState.ACCEPTED and not answer.device_id:
            raise ServerFaultError(f"expected a device id from {self._server}, found none")
        return Enrolled(state, answer.device_id, answer.model or model, answer.certificate)

    def renew_certificate(self) -> bytes:
        """Another certificate for this device and key: X.509 in DER.

        Raises:
            AccessDeniedError, UnknownDeviceError, ServerUnavailableError, ServerFaultError
        """
        request = enrollment_pb2.RenewCertificateRequest()
        stub = self._enrollments
        return self._again(
            lambda: stub.RenewCertificate(request, timeout=CALL_TIMEOUT_S)
        ).certificate

    def check_in(
        self,
        installed: Generation | None,
        held: Iterable[bytes],
        coders: Collection[Coder] = (Coder.FAST,),
        is_metered: bool = False,
    ) -> CheckInAnswer:
        """Say what runs here and ask what to do.

        Args:
            installed: What the active slot holds.
            held: SHA-256 of the graph and card that it holds.
            coders: What this machine decodes.
            is_metered: The link costs money by the byte.

        Raises:
            UnknownDeviceError: the server does not know the device.
            UnknownGenerationError: the server does not know what is installed.
            OfferError: the plan contradicts itself.
            ServerUnavailableError, ServerFaultError
        """
        request = device_pb2.CheckInRequest(
            held=list(held),
            coders=[CODER_NUMBERS[coder] for coder in sorted(coders)],
            is_metered=is_metered,
        )
        if installed is not None:
            request.installed.number = installed.number
            request.installed.digest = installed.digest
        answer = self._again(lambda: self._devices.CheckIn(request, timeout=CALL_TIMEOUT_S))
        return CheckInAnswer(
            head=answer.head if answer.HasField("head") else None,
            plan=_plan(answer.plan) if answer.HasField("plan") else None,
            deferral=_deferral(answer.deferral) if answer.HasField("deferral") else None,
            come_again_s=answer.check_in_after_s or None,
        )

    def report(self, report: Report) -> bool:
        """Tell the server how an attempt goes, with the bytes counted so far.

        Returns:
            Whether the server has withdrawn the attempt.

        Raises:
            UnknownDeviceError: the server does not know the device or the attempt.
            ServerUnavailableError, ServerFaultError
        """
        traffic = self.traffic
        request = device_pb2.ReportRequest(
            attempt_id=report.attempt_id,
            sequence=report.sequence,
            outcome=report.outcome.value,
            code=report.code,
            bytes_sent=traffic.sent_bytes,
            bytes_received=traffic.received_bytes,
            apply_ms=round(report.apply_s * 1000),
        )
        answer = self._again(lambda: self._devices.Report(request, timeout=CALL_TIMEOUT_S))
        return answer.is_withdrawn

    def read_blob(self, blob: Blob, offset: int) -> Iterator[bytes]:
        """Yield the blob's bytes from the offset on. The caller counts them and may stop.

        Raises:
            BlobError: the server has no such blob, or fewer bytes than the offset.
            ServerUnavailableError: the stream broke; what was yielded is good so far.
            SlowServerError: it was cut because it brought too little; as above.
            ServerFaultError
        """
        request = content_pb2.ReadBlobRequest(
            sha256=blob.sha256, offset=offset, length=blob.length_bytes - offset
        )
        stream = self._contents.ReadBlob(request, timeout=STREAM_TIMEOUT_S)
        with self._pace.watch(lambda: self.traffic.received_bytes, stream.cancel) as watch:
            try:
                for answer in stream:
                    yield answer.chunk
            except grpc.RpcError as error:
                if watch.is_slow:
                    raise SlowServerError(
                        f"expected at least {self._pace.least_bytes_s} bytes a second from "
                        f"{self._server}, found fewer for {self._pace.window_s:.0f} s"
                    ) from error
                raise self._translate(error, missing=BlobError) from error
            finally:
                stream.cancel()

    def read_metadata(self, role: str, version: int, most_bytes: int) -> bytes:
        """Read a file of signed metadata. It is not verified here.

        Args:
            role: Whose.
            version: Which one; 0 is the newest.
            most_bytes: The longest that is accepted.

        Raises:
            MissingMetadataError: the server has none.
            OversizedError: it sends more.
            ServerUnavailableError, ServerFaultError
        """
        request = content_pb2.ReadMetadataRequest(role=role, version=version)

        def read() -> bytes:
            stream = self._contents.ReadMetadata(request, timeout=CALL_TIMEOUT_S)
            content = bytearray()
            try:
                for answer in stream:
                    content += answer.chunk
                    if len(content) > most_bytes:
                        raise OversizedError(
                            f"expected metadata {role!r} of at most {most_bytes} bytes from "
                            f"{self._server}, found more"
                        )
            finally:
                stream.cancel()
            return bytes(content)

        return self._again(read, missing=MissingMetadataError)

    def _again(
        self, call: Callable[[], Answer], missing: type[EdgeError] = UnknownDeviceError
    ) -> Answer:
        """Make a call that may be repeated without harm."""
        for failures in range(1, self._retry.tries):
            try:
                return self._call(call, missing)
            except ServerUnavailableError:
                self._retry.pause(failures)
        return self._call(call, missing)

    def _call(
        self, call: Callable[[], Answer], missing: type[EdgeError] = UnknownDeviceError
    ) -> Answer:
        try:
            return call()
        except grpc.RpcError as error:
            raise self._translate(error, missing) from error

    def _handshake_failure(self, told: str) -> ServerUnavailableError | None:
        """What is likely wrong where somebody answers, and the handshake fails; None elsewhere."""
        if self._meter.connect_failure is not None or not told.startswith(HANDSHAKE_FAILED):
            return None
        detail = one_line(told.rpartition("last error: ")[2])
        if any(words in told for words in NOT_TRUSTED):
            return UntrustedServerError(
                f"expected the server at {self._server} to have a certificate of the fleet in "
                f"ca.pem, for the name {self._server.host}, found another: {detail}"
            )
        return CertificateRefusedError(
            f"the server at {self._server} ended the handshake: likely this device's certificate "
            f"has ended or is of another fleet, or no server of a fleet listens there: {detail}"
        )

    def _translate(self, error: grpc.RpcError, missing: type[EdgeError]) -> EdgeError:
        """The error of this package for a status of gRPC."""
        code = error.code()
        # Nobody but this process knows the relay; people know the server.
        told = (error.details() or "no reason given").replace(
            self._meter.address, str(self._server)
        )
        detail = one_line(told)
        if code is grpc.StatusCode.UNAVAILABLE:
            refused = self._handshake_failure(told)
            if refused is not None:
                return refused
            reason = self._meter.connect_failure or detail
            return ServerUnavailableError(f"no server answers at {self._server}: {reason}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerUnavailableError(f"no answer from {self._server} in time: {detail}")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return ServerBusyError(f"the server at {self._server} is busy: {detail}")
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return UnknownGenerationError(
                f"the server at {self._server} knows no way on from the generation that this "
                f"device runs: {detail}"
            )
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return AccessDeniedError(f"the server at {self._server} refused: {detail}")
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return UnknownDeviceError(
                f"the server at {self._server} refused: {detail}; run: ota-edge enroll"
            )
        if code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE):
            return missing(f"the server at {self._server} refused: {detail}")
        return ServerFaultError(f"the server at {self._server} failed ({code.name}): {detail}")


HANDSHAKE_FAILED = "failed to connect to all addresses"
"""How gRPC begins to say that there was no connection to make a call on; it has no code for it."""
NOT_TRUSTED = ("Tls handshake failed", "verification check failed")
"""What it says where this side ends the handshake, for what the server has shown."""


def _channel(server: ServerAddress, credential: Credential, meter: Meter) -> grpc.Channel:
    return grpc.secure_channel(
        meter.address,
        grpc.ssl_channel_credentials(credential.authority, credential.key, credential.certificate),
        options=_channel_options(server),
    )


def _channel_options(server: ServerAddress) -> list[tuple[str, str | int]]:
    return [
        # The server's certificate is for its own name, not for the relay's.
        ("grpc.ssl_target_name_override", server.host),
        # The relay is an implementation detail; requests are addressed to the server.
        ("grpc.default_authority", str(server)),
        # A proxy from the environment must not come between the channel and the relay.
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        # Retry, above, decides when to try again; the channel must not be slower than that.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    ]


def _plan(message: device_pb2.Plan) -> Plan:
    return Plan(
        attempt_id=message.attempt_id,
        target=Generation(message.generation, message.digest),
        steps=tuple(
            Step(
                diff=_blob(step.diff),
                target=Generation(step.generation, step.target_digest),
                is_snapshot=step.is_snapshot,
            )
            for step in message.steps
        ),
        graph=_blob(message.graph) if message.HasField("graph") else None,
        card=_blob(message.card) if message.HasField("card") else None,
        rollout_id=message.rollout_id,
    )


def _deferral(message: device_pb2.Deferral) -> Deferral:
    return Deferral(one_line(message.reason), one_line(message.detail))


def _blob(message: content_pb2.Blob) -> Blob:
    return Blob(message.sha256, message.length)

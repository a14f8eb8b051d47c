"""Talk to the server over gRPC; in and out go the values of offer.py.

Every call has a deadline. Calls that may be repeated without harm are, a few times with growing
random waits, when the server is unavailable. The stream of a file that breaks is not repeated
here: download.py resumes it at the byte it has. How to connect, and which error a failure is, says
channel.py.

    >>> with Connection.open(ServerAddress.parse("127.0.0.1:50051"), credential) as server:
    ...     answer = server.check_in(installed=None, held=())
    >>> server.traffic.received_bytes
    512
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import grpc

from diffcodec import Coder
from diffcodec.wire import CODER_NUMBERS
from edge_client.address import ServerAddress
from edge_client.channel import channel_to, meaning_of
from edge_client.errors import (
    BlobError,
    EdgeError,
    MissingMetadataError,
    OversizedError,
    ServerFaultError,
    ServerUnavailableError,
    SlowServerError,
    UnknownDeviceError,
    one_line,
)
from edge_client.identity import Credential
from edge_client.meter import Meter, Traffic
from edge_client.offer import Blob, CheckInAnswer, Deferral, Generation, Plan, Step
from edge_client.pace import Pace
from edge_client.retry import Retry
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
        self._channel = channel_to(server, credential, meter)
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
        self._channel = channel_to(self._server, credential, self._meter)
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
                raise self._meaning_of(error, missing=BlobError) from error
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
            try:
                chunks = (answer.chunk for answer in stream)
                return self._joined(chunks, most_bytes, f"metadata {role!r}")
            finally:
                stream.cancel()

        return self._again(read, missing=MissingMetadataError)

    def read_manifest(self, blob: Blob) -> bytes:
        """Read a blob that is small enough for the memory. It is not verified here.

        Raises:
            BlobError: the server has no such blob.
            OversizedError: it sends more.
            ServerUnavailableError, ServerFaultError
        """
        return self._again(
            lambda: self._joined(self.read_blob(blob, 0), blob.length_bytes, "a manifest")
        )

    def _joined(self, chunks: Iterable[bytes], most_bytes: int, what: str) -> bytes:
        content = bytearray()
        for chunk in chunks:
            content += chunk
            if len(content) > most_bytes:
                raise OversizedError(
                    f"expected {what} of at most {most_bytes} bytes from {self._server}, found more"
                )
        return bytes(content)

    def _again(
        self, call: Callable[[], Answer], missing: type[EdgeError] = UnknownDeviceError
    ) -> Answer:
        """Make a call that may be repeated without harm."""
        for failures in range(1, self._retry.tries):
            try:
                return self._once(call, missing)
            except ServerUnavailableError:
                self._retry.pause(failures)
        return self._once(call, missing)

    def _once(self, call: Callable[[], Answer], missing: type[EdgeError]) -> Answer:
        try:
            return call()
        except grpc.RpcError as error:
            raise self._meaning_of(error, missing) from error

    def _meaning_of(self, error: grpc.RpcError, missing: type[EdgeError]) -> EdgeError:
        return meaning_of(error, self._server, self._meter, missing)


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

"""A real gRPC server over a repository in memory, which can be made to lie.

with FakeServer() as server:
    server.publish(weights(1), snapshot(weights(1)), base=None)
    server.lie.stream = endless           # what ReadBlob sends
    server.lie.plan = wrong_digest        # what CheckIn offers
    ...
    assert server.reads[-1].offset == 100
"""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from diffcodec import ParameterSet
from edge_client.address import ServerAddress
from edge_client.identity import Credential
from edge_client.identity.credential import DEVICE_URI
from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    manifest_pb2,
)
from tests.unit.edge_client.fake_authority import FakeAuthority, key_pem, new_key
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, generation
from tests.unit.edge_client.signed_repository import SignedRepository

CHUNK_BYTES = 512
"""Small, so that a small diff takes several messages."""

ChangePlan = Callable[[device_pb2.Plan], None]
ChangeAnswer = Callable[[device_pb2.CheckInResponse], None]
ChangeStream = Callable[[bytes, Iterator[bytes]], Iterator[bytes]]
"""Takes the blob's SHA-256 and the honest chunks. Raising CutError breaks the stream off."""


ChangeMetadata = Callable[[str, int, bytes | None], bytes | None]
"""Takes role, version and the honest file; None is NOT_FOUND."""
ChangeManifest = Callable[[manifest_pb2.Manifest], None]
"""Changes what the publisher signs."""


class CutError(Exception):
    """The connection is lost here."""


@dataclass
class Lie:
    """What the server does wrong; nothing by default.

    `withdrawn_from` is the sequence from which on reports are answered that nobody wants it any
    more.
    """

    plan: ChangePlan = lambda plan: None
    answer: ChangeAnswer = lambda answer: None
    stream: ChangeStream = lambda sha256, chunks: chunks
    withdrawn_from: int | None = None
    failing_calls: int = 0
    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = "told to fail"
    metadata: ChangeMetadata = lambda role, version, content: content
    manifest: ChangeManifest = lambda manifest: None


@dataclass
class Read:
    """A call of ReadBlob, and how much it sent."""

    sha256: bytes
    offset: int
    length: int
    sent_bytes: int = 0


@dataclass(frozen=True)
class Published:
    digest: bytes
    graph: bytes | None
    card: bytes | None


@dataclass
class FakeServer:
    """Serves on a free port from `with` on. Everything that was asked of it can be read back."""

    lie: Lie = field(default_factory=Lie)
    reads: list[Read] = field(default_factory=list)
    check_ins: list[device_pb2.CheckInRequest] = field(default_factory=list)
    reports: list[device_pb2.ReportRequest] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.blobs: dict[bytes, bytes] = {}
        self.generations: list[Published] = []
        self.routes: dict[int | None, list[tuple[int, bytes]]] = {}
        self.authority = FakeAuthority()
        self.fleet = self.authority.enrolment()
        self.certificate = self.authority.server()
        self.devices: dict[bytes, str] = {}  # device id by public key
        self.asked: list[enrollment_pb2.EnrollRequest] = []
        self.renewals: list[str] = []
        self.answer = enrollment_pb2.ENROLLMENT_STATE_ACCEPTED
        self.callers: list[str] = []  # the device of every check-in and report
        self.forgotten: set[str] = set()
        self.repository = SignedRepository()
        self.manifests: dict[bytes, int] = {}
        self.metadata_reads: list[tuple[str, int]] = []

    @property
    def address(self) -> ServerAddress:
        return ServerAddress("127.0.0.1", self.port)

    def credential(self, device_id: str = "device-1") -> Credential:
        """What a device that was accepted shows."""
        key = new_key()
        der = self.authority.device(device_id, key.public_key())
        pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        return Credential(self.authority.pem, pem, key_pem(key))

    def ca_file(self, folder: Path) -> Path:
        """The fleet's ca.pem, in a folder."""
        path = folder / "ca.pem"
        path.write_bytes(self.fleet.to_pem())
        return path

    @property
    def model(self) -> str:
        """Its only one: whatever devices call it."""
        return (self.asked[-1].model if self.asked else "") or "digits"

    def publish(
        self,
        new: ParameterSet,
        diff: bytes,
        base: int | None,
        graph: bytes | None = GRAPH,
        card: bytes | None = CARD,
    ) -> None:
        """Add a generation, with one way to it."""
        number = len(self.generations)
        kept = (None if content is None else self.add(content) for content in (graph, card))
        self.generations.append(Published(new.digest(), *kept))
        self.add_route(base, number, diff)

    def publish_next(self, graph: bytes | None = GRAPH, card: bytes | None = CARD) -> None:
        """Add the next generation of `models.generation`, as a sparse diff to the newest."""
        number = len(self.generations)
        new, diff = a_little_later(generation(number - 1), number)
        self.publish(new, diff, base=number - 1, graph=graph, card=card)

    def add_route(self, base: int | None, target: int, diff: bytes) -> None:
        self.routes.setdefault(base, []).append((target, self.add(diff)))

    def add(self, content: bytes) -> bytes:
        sha256 = hashlib.sha256(content).digest()
        self.blobs[sha256] = content
        return sha256

    def sign(self) -> None:
        """Sign a manifest of every generation, each with all ways to it."""
        signed: dict[str, bytes] = {}
        previous = None
        for number in range(len(self.generations)):
            manifest = self.manifest(number, previous)
            self.lie.manifest(manifest)
            content = manifest.SerializeToString(deterministic=True)
            signed[f"{self.model}/{number}"] = content
            sha256 = self.add(content)
            self.manifests[sha256] = number
            previous = self.blob(sha256)
        self.repository.list(signed)

    def manifest(
        self, number: int, previous: content_pb2.Blob | None = None
    ) -> manifest_pb2.Manifest:
        made = self.generations[number]
        diffs = []
        for base, ways in self.routes.items():
            for target, sha256 in ways:
                if target == number:
                    diff = manifest_pb2.ManifestDiff(diff=self.blob(sha256))
                    if base is not None:
                        diff.base, diff.base_digest = base, self.generations[base].digest
                    diffs.append(diff)
        return manifest_pb2.Manifest(
            model=self.model,
            generation=number,
            digest=made.digest,
            layout_fingerprint=bytes(32),
            diffs=diffs,
            graph=None if made.graph is None else self.blob(made.graph),
            card=None if made.card is None else self.blob(made.card),
            previous=previous,
        )

    def outcomes(self) -> list[tuple[str, str]]:
        """(outcome, code) of every report so far."""
        return [
            (device_pb2.Outcome.Name(report.outcome).removeprefix("OUTCOME_"), report.code)
            for report in self.reports
        ]

    def __enter__(self) -> "FakeServer":
        self._server = grpc.server(ThreadPoolExecutor(4))
        device_pb2_grpc.add_DeviceServiceServicer_to_server(_Devices(self), self._server)
        content_pb2_grpc.add_ContentServiceServicer_to_server(_Contents(self), self._server)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(
            _Enrollments(self), self._server
        )
        credentials = grpc.ssl_server_credentials(
            [self.certificate], self.authority.pem, require_client_auth=True
        )
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop(grace=None).wait()

    def plan_from(self, installed: int | None) -> device_pb2.Plan | None:
        """The longest steps first: a plan of as many diffs as were published one by one."""
        head = len(self.generations) - 1
        steps, at = [], installed
        while at != head:
            target, sha256 = self.routes[at][0]
            steps.append(
                device_pb2.Step(
                    generation=target,
                    diff=self.blob(sha256),
                    target_digest=self.generations[target].digest,
                    is_snapshot=at is None,
                )
            )
            at = target
        if not steps:
            return None
        goal = self.generations[head]
        return device_pb2.Plan(
            attempt_id=f"attempt-{len(self.check_ins)}",
            generation=head,
            digest=goal.digest,
            steps=steps,
            graph=None if goal.graph is None else self.blob(goal.graph),
            card=None if goal.card is None else self.blob(goal.card),
        )

    def blob(self, sha256: bytes) -> content_pb2.Blob:
        return content_pb2.Blob(sha256=sha256, length=len(self.blobs[sha256]))

    def admit(self, context: grpc.ServicerContext) -> None:
        """Note who calls, by the certificate; refuse who was forgotten."""
        device_id = device_of(context)
        if device_id in self.forgotten:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"no device {device_id!r}")
        self.callers.append(device_id)

    def maybe_fail(self, context: grpc.ServicerContext) -> None:
        if self.lie.failing_calls > 0:
            self.lie.failing_calls -= 1
            context.abort(self.lie.status, self.lie.details)


class _Devices(device_pb2_grpc.DeviceServiceServicer):
    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def CheckIn(self, request, context):  # noqa: N802
        server = self.server
        server.maybe_fail(context)
        server.admit(context)
        server.check_ins.append(request)
        if not server.generations:
            return device_pb2.CheckInResponse()
        installed = None
        if request.HasField("installed"):
            installed = request.installed.number
            known = server.generations[installed : installed + 1]
            if not known or known[0].digest != request.installed.digest:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such generation")
        plan = server.plan_from(installed)
        if plan is not None:
            for kept in ("graph", "card"):
                is_held = getattr(plan, kept).sha256 in request.held
                if is_held and installed is not None:
                    plan.ClearField(kept)
            server.lie.plan(plan)
        answer = device_pb2.CheckInResponse(head=len(server.generations) - 1, plan=plan)
        server.lie.answer(answer)
        return answer

    def Report(self, request, context):  # noqa: N802
        self.server.maybe_fail(context)
        self.server.admit(context)
        self.server.reports.append(request)
        withdrawn_from = self.server.lie.withdrawn_from
        return device_pb2.ReportResponse(
            is_withdrawn=withdrawn_from is not None and request.sequence >= withdrawn_from
        )


class _Enrollments(enrollment_pb2_grpc.EnrollmentServiceServicer):
    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def Enroll(self, request, context):  # noqa: N802
        server = self.server
        server.maybe_fail(context)
        server.asked.append(request)
        key = x509.load_der_x509_csr(request.signing_request).public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        device_id = (
            request.device_id or server.devices.get(der) or f"device-{len(server.devices) + 1}"
        )
        server.devices[der] = device_id
        server.forgotten.discard(device_id)
        answer = enrollment_pb2.EnrollResponse(
            state=server.answer, device_id=device_id, model=request.model or "digits"
        )
        if server.answer == enrollment_pb2.ENROLLMENT_STATE_ACCEPTED:
            answer.certificate = server.authority.device(device_id, key)
        return answer

    def RenewCertificate(self, request, context):  # noqa: N802
        self.server.maybe_fail(context)
        (pem,) = context.auth_context()["x509_pem_cert"]
        device_id = device_of(context)
        self.server.renewals.append(device_id)
        key = x509.load_pem_x509_certificate(pem).public_key()
        return enrollment_pb2.RenewCertificateResponse(
            certificate=self.server.authority.device(device_id, key)
        )


def device_of(context: grpc.ServicerContext) -> str:
    """The device that calls."""
    (name,) = context.auth_context()["x509_subject_alternative_name"]
    return name.decode().removeprefix(DEVICE_URI)


class _Contents(content_pb2_grpc.ContentServiceServicer):
    def __init__(self, server: FakeServer) -> None:
        self.server = server

    def ReadBlob(self, request, context):  # noqa: N802
        self.server.maybe_fail(context)
        if request.sha256 not in self.server.blobs:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
        if request.sha256 in self.server.manifests:
            yield content_pb2.ReadBlobResponse(chunk=self.server.blobs[request.sha256])
            return
        read = Read(request.sha256, request.offset, request.length)
        self.server.reads.append(read)
        content = self.server.blobs[request.sha256][request.offset :]
        chunks = (content[at : at + CHUNK_BYTES] for at in range(0, len(content), CHUNK_BYTES))
        try:
            for chunk in self.server.lie.stream(request.sha256, chunks):
                read.sent_bytes += len(chunk)
                yield content_pb2.ReadBlobResponse(chunk=chunk)
        except CutError:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection is lost")

    def ReadMetadata(self, request, context):  # noqa: N802
        server = self.server
        server.maybe_fail(context)
        server.metadata_reads.append((request.role, request.version))
        if request.role == "timestamp":
            server.sign()
        honest = server.repository.files.get((request.role, request.version))
        content = server.lie.metadata(request.role, request.version, honest)
        if content is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such metadata")
        for at in range(0, len(content), CHUNK_BYTES):
            yield content_pb2.ReadMetadataResponse(chunk=content[at : at + CHUNK_BYTES])


def endless(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """More and more data."""
    yield from chunks
    while True:
        yield b"x" * CHUNK_BYTES


def one_wrong_byte(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The last byte of the first chunk is another one."""
    first = next(chunks)
    yield first[:-1] + bytes([first[-1] ^ 1])
    yield from chunks


@dataclass
class CutAfter:
    """Break off every stream after some chunks, as many streams as there are numbers."""

    chunks_of_streams: list[int]

    def __call__(self, sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        if not self.chunks_of_streams:
            yield from chunks
            return
        left = self.chunks_of_streams.pop(0)
        for chunk in chunks:
            if left == 0:
                raise CutError
            left -= 1
            yield chunk


@dataclass
class EndAfter:
    """Like CutAfter, but the stream ends as if it were complete."""

    chunks_of_streams: list[int]

    def __call__(self, sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from CutAfter(self.chunks_of_streams)(sha256, chunks)
        except CutError:
            return

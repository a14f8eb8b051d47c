"""A real gRPC server over a repository in memory, which can be made to lie.

It serves tests of the device where no server package is installed, and what no honest server says.

with FakeServer() as server:
    server.publish(weights(1), snapshot(weights(1)), base=None)
    server.lie.stream = endless           # what ReadBlob sends
    server.lie.plan = wrong_digest        # what CheckIn offers
    ...
    assert server.reads[-1].offset == 100
"""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from diffcodec import ParameterSet
from edge_client.address import ServerAddress
from edge_client.identity import Credential
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
from tests.unit.edge_client.fake_services import Contents, Devices, Enrollments, Read
from tests.unit.edge_client.lies import Lie
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, generation
from tests.unit.edge_client.signed_repository import SignedRepository


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
        self.manifests: dict[bytes, int] = {}  # generation by SHA-256
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
        device_pb2_grpc.add_DeviceServiceServicer_to_server(Devices(self), self._server)
        content_pb2_grpc.add_ContentServiceServicer_to_server(Contents(self), self._server)
        enrollment_pb2_grpc.add_EnrollmentServiceServicer_to_server(Enrollments(self), self._server)
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

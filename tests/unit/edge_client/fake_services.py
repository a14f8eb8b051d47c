"""The gRPC services of a FakeServer: what it answers, and where it lies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge_client.identity.credential import DEVICE_URI
from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)
from tests.unit.edge_client.lies import CHUNK_BYTES, CutError

if TYPE_CHECKING:
    from tests.unit.edge_client.fake_server import FakeServer


@dataclass
class Read:
    """A call of ReadBlob, and how much it sent."""

    sha256: bytes
    offset: int
    length: int
    sent_bytes: int = 0


class _Service:
    def __init__(self, server: "FakeServer") -> None:
        self.server = server

    def admit(self, context: grpc.ServicerContext) -> None:
        """Note who calls, by the certificate; refuse who was forgotten."""
        device_id = device_of(context)
        if device_id in self.server.forgotten:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"no device {device_id!r}")
        self.server.callers.append(device_id)

    def maybe_fail(self, context: grpc.ServicerContext) -> None:
        lie = self.server.lie
        if lie.failing_calls > 0:
            lie.failing_calls -= 1
            context.abort(lie.status, lie.details)


class Devices(_Service, device_pb2_grpc.DeviceServiceServicer):
    def CheckIn(self, request, context):  # noqa: N802
        server = self.server
        self.maybe_fail(context)
        self.admit(context)
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
        self.maybe_fail(context)
        self.admit(context)
        self.server.reports.append(request)
        withdrawn_from = self.server.lie.withdrawn_from
        return device_pb2.ReportResponse(
            is_withdrawn=withdrawn_from is not None and request.sequence >= withdrawn_from
        )


class Enrollments(_Service, enrollment_pb2_grpc.EnrollmentServiceServicer):
    def Enroll(self, request, context):  # noqa: N802
        server = self.server
        self.maybe_fail(context)
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
        self.maybe_fail(context)
        (pem,) = context.auth_context()["x509_pem_cert"]
        device_id = device_of(context)
        self.server.renewals.append(device_id)
        key = x509.load_pem_x509_certificate(pem).public_key()
        return enrollment_pb2.RenewCertificateResponse(
            certificate=self.server.authority.device(device_id, key)
        )


class Contents(_Service, content_pb2_grpc.ContentServiceServicer):
    def ReadBlob(self, request, context):  # noqa: N802
        self.maybe_fail(context)
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
        self.maybe_fail(context)
        server.metadata_reads.append((request.role, request.version))
        if request.role == "timestamp":
            server.sign()
        honest = server.repository.files.get((request.role, request.version))
        content = server.lie.metadata(request.role, request.version, honest)
        if content is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such metadata")
        for at in range(0, len(content), CHUNK_BYTES):
            yield content_pb2.ReadMetadataResponse(chunk=content[at : at + CHUNK_BYTES])


def device_of(context: grpc.ServicerContext) -> str:
    """The device that calls."""
    (name,) = context.auth_context()["x509_subject_alternative_name"]
    return name.decode().removeprefix(DEVICE_URI)

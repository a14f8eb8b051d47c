"""Every call that there is, by whom a test wants; and the two programs, as people call them."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)
from server.home import ServerHome
from server.identity.certificates import new_key
from tests import fleet
from tests.integration.served_home import home_with
from tests.integration.server_process import ROOT, server_process

TIMEOUT_S = 20
ENDED = grpc.StatusCode.UNAVAILABLE
PENDING = enrollment_pb2.ENROLLMENT_STATE_PENDING
ACCEPTED = enrollment_pb2.ENROLLMENT_STATE_ACCEPTED


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = home_with(tmp_path / "srv", generations=1)
    yield made
    made.close()


@pytest.fixture
def address(home: ServerHome) -> Iterator[str]:
    with server_process(home.folder) as (_, listening):
        yield listening


@contextmanager
def channel(address: str, credential: fleet.Credential) -> Iterator[grpc.Channel]:
    with grpc.secure_channel(address, credential.for_channel()) as opened:
        yield opened


def check_in(opened: grpc.Channel) -> object:
    stub = device_pb2_grpc.DeviceServiceStub(opened)
    return stub.CheckIn(device_pb2.CheckInRequest(), timeout=TIMEOUT_S)


def report(opened: grpc.Channel) -> object:
    request = device_pb2.ReportRequest(attempt_id="x", outcome=device_pb2.OUTCOME_FAILED)
    return device_pb2_grpc.DeviceServiceStub(opened).Report(request, timeout=TIMEOUT_S)


def read_blob(opened: grpc.Channel) -> object:
    request = content_pb2.ReadBlobRequest(sha256=bytes(32))
    return list(content_pb2_grpc.ContentServiceStub(opened).ReadBlob(request, timeout=TIMEOUT_S))


def ask(opened: grpc.Channel, key: ec.EllipticCurvePrivateKey | None = None, **fields: str):
    request = enrollment_pb2.EnrollRequest(
        signing_request=fleet.request_for(key or new_key(), "claims to be admin"), **fields
    )
    stub = enrollment_pb2_grpc.EnrollmentServiceStub(opened)
    return stub.Enroll(request, timeout=TIMEOUT_S)


def renew(opened: grpc.Channel):
    request = enrollment_pb2.RenewCertificateRequest()
    stub = enrollment_pb2_grpc.EnrollmentServiceStub(opened)
    return stub.RenewCertificate(request, timeout=TIMEOUT_S)


def health(opened: grpc.Channel) -> object:
    stub = health_pb2_grpc.HealthStub(opened)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)


def reflection(opened: grpc.Channel) -> object:
    stub = reflection_pb2_grpc.ServerReflectionStub(opened)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    return list(stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT_S))


def refusal(call: Callable[[grpc.Channel], object], opened: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call(opened)
    return refused.value.code()


EVERY_CALL = (check_in, report, read_blob, ask, renew, health, reflection)


def run(program: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    module = {"ota-server": "server.cli", "ota-edge": "edge_client.cli"}[program]
    ended = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=2 * TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == expect, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended

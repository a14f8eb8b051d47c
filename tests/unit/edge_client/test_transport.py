"""Calls over a real channel: retries, deadlines, errors, authority, and what is counted."""

import socket
import ssl
import threading
from pathlib import Path

import grpc
import pytest

from edge_client.address import ServerAddress
from edge_client.errors import (
    AccessDeniedError,
    EdgeError,
    OfferError,
    ServerBusyError,
    ServerFaultError,
    ServerUnavailableError,
    UnknownDeviceError,
    UnknownGenerationError,
)
from edge_client.identity.credential import load_key, new_key, signing_request
from edge_client.offer import Blob
from edge_client.retry import Retry
from edge_client.transport import Connection, Outcome, Report
from protos.ota.v1 import device_pb2
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import generation, snapshot

EMPTY_SETTINGS_FRAME = b"\0\0\0\4\0\0\0\0\0"


def test_requests_are_addressed_to_the_server_and_not_to_the_relay(tmp_path: Path) -> None:
    """Read behind TLS, by a server that speaks just enough HTTP/2 to be sent a request."""
    request = bytearray()
    fleet = FakeServer()
    key, certificate = fleet.certificate
    (tmp_path / "server.pem").write_bytes(key + certificate)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem")
    tls.set_alpn_protocols(["h2"])

    def listen(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with tls.wrap_socket(accepted, server_side=True) as connection:
            connection.settimeout(20)
            connection.sendall(EMPTY_SETTINGS_FRAME)
            while b":authority" not in request:
                request.extend(connection.recv(1 << 16))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = ServerAddress("127.0.0.1", listener.getsockname()[1])
        thread = threading.Thread(target=listen, args=(listener,))
        thread.start()
        with (
            Connection.open(address, fleet.credential(), Retry(tries=1)) as connection,
            pytest.raises(ServerUnavailableError),
        ):
            connection.check_in(None, ())
        thread.join()
    assert f":authority{chr(len(str(address)))}{address}".encode() in request


def test_a_proxy_in_the_environment_is_not_asked(
    server: FakeServer, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Connection.open(server.address, server.credential(), retry) as connection:
        assert connection.check_in(None, ()).head == 0


def test_the_answer_to_a_check_in_is_a_plan_of_values(server: FakeServer) -> None:
    with Connection.open(server.address, server.credential()) as connection:
        plan = connection.check_in(None, ()).plan
    content = snapshot(generation(0))
    assert plan.target.digest == generation(0).digest()
    assert plan.steps[0].is_snapshot
    assert plan.steps[0].diff.length_bytes == len(content)
    assert len(plan.blobs) == 3


def test_all_bytes_of_all_calls_are_counted(server: FakeServer) -> None:
    content = bytes(200_000)
    blob = Blob(server.add(content), len(content))
    with Connection.open(server.address, server.credential()) as connection:
        assert b"".join(connection.read_blob(blob, 0)) == content
        during = connection.traffic
    assert during.received_bytes >= len(content)
    assert during.received_bytes < len(content) * 1.1
    assert connection.traffic.sent_bytes >= during.sent_bytes > 0


def test_a_stream_that_is_left_early_is_cancelled(server: FakeServer) -> None:
    content = bytes(50_000_000)
    blob = Blob(server.add(content), len(content))
    with Connection.open(server.address, server.credential()) as connection:
        for _ in connection.read_blob(blob, 0):
            break
    assert connection.traffic.received_bytes < len(content) / 2


def test_an_unavailable_server_is_tried_a_few_times(server: FakeServer, retry: Retry) -> None:
    server.lie.failing_calls = retry.tries - 1
    with Connection.open(server.address, server.credential(), retry) as connection:
        assert connection.check_in(None, ()).head == 0


def test_tries_are_bounded(server: FakeServer, retry: Retry) -> None:
    server.lie.failing_calls = 1000
    with (
        Connection.open(server.address, server.credential(), retry) as connection,
        pytest.raises(ServerUnavailableError, match="told to fail"),
    ):
        connection.check_in(None, ())
    assert server.lie.failing_calls == 1000 - retry.tries


def test_enrolment_that_is_repeated_is_of_the_same_device(server: FakeServer, retry: Retry) -> None:
    server.lie.failing_calls = 1
    request = signing_request(load_key(new_key()))
    with Connection.open(server.address, server.fleet, retry) as connection:
        answers = [connection.enroll(request, "digits", "test", "") for _ in range(2)]
    assert [answer.device_id for answer in answers] == ["device-1", "device-1"]
    assert len(server.asked) == 2


def test_an_absent_server_is_named_with_the_reason(server: FakeServer, retry: Retry) -> None:
    server.__exit__(None, None, None)
    with (
        Connection.open(server.address, server.credential(), retry) as connection,
        pytest.raises(ServerUnavailableError, match=f"{server.address}: Connection refused"),
    ):
        connection.check_in(None, ())


STATUSES = [
    (grpc.StatusCode.UNAVAILABLE, ServerUnavailableError),
    (grpc.StatusCode.DEADLINE_EXCEEDED, ServerUnavailableError),
    (grpc.StatusCode.FAILED_PRECONDITION, UnknownGenerationError),
    (grpc.StatusCode.NOT_FOUND, UnknownDeviceError),
    (grpc.StatusCode.UNAUTHENTICATED, UnknownDeviceError),
    (grpc.StatusCode.PERMISSION_DENIED, AccessDeniedError),
    (grpc.StatusCode.INVALID_ARGUMENT, ServerFaultError),
    (grpc.StatusCode.INTERNAL, ServerFaultError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerBusyError),
    (grpc.StatusCode.UNIMPLEMENTED, ServerFaultError),
]


@pytest.mark.parametrize(("status", "error"), STATUSES, ids=lambda value: str(value))
def test_every_status_becomes_an_error_of_ours(
    server: FakeServer, retry: Retry, status: grpc.StatusCode, error: type[EdgeError]
) -> None:
    server.lie.failing_calls, server.lie.status = 1000, status
    server.lie.details = "what the\nserver\x1b[31m says " + "x" * 1000
    with (
        Connection.open(server.address, server.credential(), retry) as connection,
        pytest.raises(error, match="what the server") as caught,
    ):
        connection.check_in(None, ())
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 400


def test_a_report_carries_the_bytes_so_far(server: FakeServer) -> None:
    with Connection.open(server.address, server.credential()) as connection:
        connection.check_in(None, ())
        connection.report(Report("a1", 2, Outcome.FAILED, code="DISK_FULL", apply_s=1.25))
    (report,) = server.reports
    assert (report.device_id, report.attempt_id, report.sequence) == ("", "a1", 2)
    assert server.callers == ["device-1", "device-1"]
    assert (report.outcome, report.code) == (device_pb2.OUTCOME_FAILED, "DISK_FULL")
    assert report.apply_ms == 1250
    assert 0 < report.bytes_sent <= connection.traffic.sent_bytes
    assert 0 < report.bytes_received <= connection.traffic.received_bytes


def test_a_blob_without_a_hash_is_no_plan(server: FakeServer) -> None:
    server.lie.plan = lambda plan: plan.graph.Clear()
    with (
        Connection.open(server.address, server.credential()) as connection,
        pytest.raises(OfferError),
    ):
        connection.check_in(None, ())


def test_an_error_names_the_server_and_never_the_relay(server: FakeServer) -> None:
    with Connection.open(server.address, server.credential()) as connection:
        relay = connection._meter.address
        server.lie.failing_calls, server.lie.status = 1, grpc.StatusCode.INTERNAL
        server.lie.details = f"ipv4:{relay}: reset"
        with pytest.raises(ServerFaultError, match=f"ipv4:{server.address}: reset"):
            connection.check_in(None, ())

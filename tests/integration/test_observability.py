"""What an operator sees of real server processes: metrics over HTTP, log lines, readiness."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)
from server.domain import Step
from server.home import ServerHome
from server.identity.certificates import new_key
from server.observability.census import KEEP_S
from tests import fleet
from tests.integration.served_home import home_with
from tests.integration.server_process import server_process
from tests.unit.server.values import generation

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen
    address: str
    http: str
    log: Path

    def metrics(self) -> dict[tuple, float]:
        """Values by name and sorted labels: ("ota_devices", "generation=1", "model=digits")."""
        text = urlopen(f"{self.http}/metrics", timeout=TIMEOUT_S).read().decode()
        return {
            (sample.name, *sorted(f"{label}={value}" for label, value in sample.labels.items())): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def page(self, path: str) -> tuple[int, str]:
        try:
            with urlopen(self.http + path, timeout=TIMEOUT_S) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def served(home: Path, log: Path, *options: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "server.cli", "serve", str(home), "--listen", "127.0.0.1:0"]
    command += ["--metrics", "0", "--log-format", "json", *options]
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=errors
        )
    try:
        listening, metrics = process.stdout.readline(), process.stdout.readline()
        assert metrics.startswith("metrics on http://127.0.0.1:"), log.read_text()
        http = metrics.removeprefix("metrics on ").strip().removesuffix("/metrics")
        yield Served(process, listening.split()[-1], http, log)
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = home_with(tmp_path / "srv", generations=2)
    yield made
    made.close()


def channel(address: str, credential: fleet.Credential) -> grpc.Channel:
    return grpc.secure_channel(address, credential.for_channel())


def check_in(opened: grpc.Channel, installed: int | None = None) -> device_pb2.CheckInResponse:
    request = device_pb2.CheckInRequest()
    if installed is not None:
        request.installed.number = installed
        request.installed.digest = generation(installed).digest
    return device_pb2_grpc.DeviceServiceStub(opened).CheckIn(request, timeout=TIMEOUT_S)


def test_an_update_is_counted_logged_by_its_attempt_and_names_no_secret(
    home: ServerHome, tmp_path: Path
) -> None:
    device_id, credential = fleet.enrolled(home, name="kitchen")
    ca = fleet.of_enrolment(home)
    key = new_key()
    signing_request = fleet.request_for(key)
    with served(home.folder, tmp_path / "log", "--log-level", "debug") as server:
        with channel(server.address, credential) as opened:
            plan = check_in(opened).plan
            blob = plan.steps[0].diff
            content = content_pb2_grpc.ContentServiceStub(opened)
            request = content_pb2.ReadBlobRequest(sha256=blob.sha256)
            list(content.ReadBlob(request, timeout=TIMEOUT_S))
            metadata = content_pb2.ReadMetadataRequest(role="timestamp")
            [timestamp] = content.ReadMetadata(metadata, timeout=TIMEOUT_S)
            report = device_pb2.ReportRequest(
                attempt_id=plan.attempt_id, outcome=device_pb2.OUTCOME_FAILED, code="DISK_FULL"
            )
            device_pb2_grpc.DeviceServiceStub(opened).Report(report, timeout=TIMEOUT_S)
            check_in(opened, installed=1)
            with pytest.raises(grpc.RpcError):
                opened.unary_unary("/made.up/Method")(b"", timeout=TIMEOUT_S)
        with channel(server.address, ca) as opened:
            request = enrollment_pb2.EnrollRequest(signing_request=signing_request)
            enrollment_pb2_grpc.EnrollmentServiceStub(opened).Enroll(request, timeout=TIMEOUT_S)

        values = server.metrics()
        counts = {
            ("ota_check_ins_total", "answer=plan"): 1,
            ("ota_check_ins_total", "answer=nothing"): 1,
            ("ota_attempts", "code=DISK_FULL", "state=failed"): 1,
            ("ota_devices", "generation=1", "model=digits"): 1,
            ("ota_device_keys", "state=accepted"): 1,
            ("ota_device_keys", "state=pending"): 1,
            ("ota_registry_up",): 1,
            ("ota_tick_failures_total",): 0,
            of_calls("/ota.v1.DeviceService/CheckIn", "OK"): 2,
            of_calls("/ota.v1.ContentService/ReadBlob", "OK"): 1,
            of_calls("unknown", "UNIMPLEMENTED"): 1,
            ("ota_calls_under_way", "method=/ota.v1.DeviceService/CheckIn"): 0,
        }
        assert {name: values.get(name) for name in counts} == counts
        assert blob.length < values["ota_sent_bytes_total", "kind=blob"] < blob.length + 20
        assert values["ota_sent_bytes_total", "kind=metadata"] > len(timestamp.chunk)
        assert 0 < values["ota_signing_expiry_seconds", "role=timestamp"] < 40 * 24 * 3600
        assert values["ota_signing_expiry_seconds", "role=root"] > 0
        assert time.time() - values["ota_last_tick_timestamp_seconds",] < TIMEOUT_S
        assert not any(device_id in part for name in values for part in name)

        lines = server.lines()
        calls = [line for line in lines if line["logger"] == "server.access"]
        access = {line["method"].rpartition("/")[2]: line for line in calls}
        assert access["Report"]["attempt_id"] == plan.attempt_id
        assert access["Report"]["device"] == device_id
        assert access["Report"]["peer"].startswith("ipv4:127.0.0.1:")
        assert access["ReadBlob"]["sent_bytes"] > blob.length
        assert access["Enroll"]["caller"] == "enrolment"
        assert [line["code"] for line in calls].count("OK") == len(calls) - 1
        [planned] = [line for line in calls if line.get("answer") == "plan"]
        assert (planned["attempt_id"], planned["generation"]) == (plan.attempt_id, "1")
        ids = [line["request_id"] for line in calls]
        assert len(set(ids)) == len(ids)

        log = server.log.read_bytes()
    for secret in (ca.key, credential.key, ca.certificate, credential.certificate):
        assert secret not in log
        for row in secret.splitlines()[1:-1]:
            assert row not in log
    assert b"BEGIN" not in log
    for shown in (signing_request.hex(), repr(signing_request)[2:40]):
        assert shown.encode() not in log
    for path in home.folder.glob("keys/**/*.pem"):
        assert path.read_bytes().splitlines()[1] not in log


def of_calls(method: str, code: str) -> tuple[str, str, str]:
    return ("ota_call_seconds_count", f"code={code}", f"method={method}")


def test_two_servers_of_one_database_count_the_same_fleet(home: ServerHome, tmp_path: Path) -> None:
    _, credential = fleet.enrolled(home)
    copy = tmp_path / "other"
    shutil.copytree(home.folder, copy)
    database = ("--database", f"sqlite:///{home.folder / 'registry.db'}")
    with (
        served(home.folder, tmp_path / "1") as first,
        served(copy, tmp_path / "2", *database) as second,
    ):
        with channel(second.address, credential) as opened:
            check_in(opened, installed=1)
        time.sleep(KEEP_S / 5)
        now = {name: value for name, value in first.metrics().items() if name[0] == "ota_devices"}
        assert now == {("ota_devices", "generation=1", "model=digits"): 1}
        assert ("ota_check_ins_total", "answer=nothing") not in first.metrics()
        assert second.metrics()["ota_check_ins_total", "answer=nothing"] == 1


def test_readiness_is_lost_with_the_store_and_with_the_signal_to_stop(
    home: ServerHome, tmp_path: Path
) -> None:
    content = bytes(40_000_000)
    blob = home.artifacts.put(content)
    home.registry.add_step("digits", Step(None, 0, generation(0).digest, blob))
    _, credential = fleet.enrolled(home)
    with served(home.folder, tmp_path / "log") as server:
        assert server.page("/healthz") == (200, "ok\n")
        assert server.page("/readyz") == (200, "ready\n")
        assert server.page("/other") == (404, "here are: /metrics, /healthz, /readyz\n")
        store = home.folder / "artifacts"
        store.rename(home.folder / "away")
        _, told = eventually(lambda: server.page("/readyz"), lambda page: page[0] == 503)
        assert re.fullmatch(r"artifacts: .*: cannot be read: No such file or directory\n", told)
        assert server.page("/healthz")[0] == 200
        (home.folder / "away").rename(store)
        eventually(lambda: server.page("/readyz"), lambda page: page[0] == 200)
        with channel(server.address, credential) as opened:
            # Nothing is read of it, so that the server has a call under way for its whole grace.
            stub = content_pb2_grpc.ContentServiceStub(opened)
            download = stub.ReadBlob(content_pb2.ReadBlobRequest(sha256=blob.sha256), timeout=60)
            next(iter(download))
            server.process.send_signal(signal.SIGTERM)
            _, told = eventually(lambda: server.page("/readyz"), lambda page: page[0] == 503)
            assert told == "server: it is stopping\n"
            download.cancel()
        assert server.process.wait(TIMEOUT_S) == 0


def eventually(ask, holds, timeout_s: float = 30.0):
    deadline = time.monotonic() + timeout_s
    while not holds(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_the_log_level_leaves_out_what_is_below(home: ServerHome, tmp_path: Path) -> None:
    _, credential = fleet.enrolled(home)
    with served(home.folder, tmp_path / "log", "--log-level", "warning") as server:
        with channel(server.address, credential) as opened:
            check_in(opened)
        assert server.lines() == []


def failed_start(home: ServerHome, *options: str) -> str:
    """The one line that `serve` ends with."""
    command = [sys.executable, "-m", "server.cli", "serve", str(home.folder), *options]
    ended = subprocess.run(
        [*command, "--listen", "127.0.0.1:0"],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    [line] = ended.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metrics", "nonsense"], "error: expected an address HOST:PORT"),
        (["--metrics", "203.0.113.1:0"], "error: cannot listen on 203.0.113.1:0"),
        (["--limit", "streams=none"], "error: --limit streams: expected a whole number above 0"),
    ],
)
def test_options_that_cannot_be_are_one_line_and_status_1(
    home: ServerHome, options: list[str], message: str
) -> None:
    assert failed_start(home, *options).startswith(message)


def test_a_port_of_metrics_that_is_taken_is_refused(home: ServerHome) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "Address already in use" in failed_start(home, "--metrics", port)


def test_a_server_whose_log_nobody_reads_goes_on(tmp_path: Path) -> None:
    home = home_with(tmp_path / "srv", generations=1)
    _, credential = fleet.enrolled(home, model="digits")
    home.close()
    # A pipe holds 64 KiB, and every call is some lines of more than a hundred bytes.
    with server_process(home.folder, "--limit", "calls-at-once=2000") as (process, address):
        with grpc.secure_channel(address, credential.for_channel()) as channel:
            stub = device_pb2_grpc.DeviceServiceStub(channel)
            for _ in range(1000):
                answer = stub.CheckIn(device_pb2.CheckInRequest(), timeout=TIMEOUT_S)
                assert answer.head == 0
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=TIMEOUT_S)
        assert len(log) > 2**16

"""`ota-server serve` as a process of its own."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from protos.ota.v1 import device_pb2, device_pb2_grpc
from server.home import ServerHome
from tests import fleet
from tests.integration.served_home import home_with

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "server.cli"]
TIMEOUT_S = 30


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home_with(tmp_path / "srv", generations=2).close()
    return tmp_path / "srv"


@contextmanager
def server_process(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*COMMAND, "serve", str(home), "--listen", "127.0.0.1:0", *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        match = re.fullmatch(r"listening on (127\.0\.0\.1:[1-9]\d*)\n", line)
        assert match, line or process.communicate(timeout=TIMEOUT_S)[1]
        yield process, match[1]
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def enroll(home: Path, **options: str) -> tuple[str, fleet.Credential]:
    """A device that was accepted: its id, and what it shows."""
    opened = ServerHome.open(home, **options)
    try:
        return fleet.enrolled(opened, model="digits")
    finally:
        opened.close()


def check_in(address: str, device: fleet.Credential) -> device_pb2.CheckInResponse:
    with grpc.secure_channel(address, device.for_channel()) as channel:
        stub = device_pb2_grpc.DeviceServiceStub(channel)
        request = device_pb2.CheckInRequest()
        return stub.CheckIn(request, timeout=TIMEOUT_S, wait_for_ready=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_and_one_line_was_printed(
    home: Path, number: signal.Signals
) -> None:
    with server_process(home) as (process, address):
        assert check_in(address, enroll(home)[1]).plan.generation == 1
        process.send_signal(number)
        rest_of_stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
        assert rest_of_stdout == ""
        assert "Traceback" not in stderr


def test_what_was_answered_survives_a_kill(home: Path) -> None:
    with server_process(home) as (process, address):
        device = enroll(home)[1]
        assert check_in(address, device).plan.generation == 1
        process.kill()
        process.wait(timeout=TIMEOUT_S)
    with server_process(home) as (_, address):
        assert check_in(address, device).head == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--listen", "203.0.113.1:0"], "error: cannot listen on 203.0.113.1:0"),
        (["--listen", "nowhere.invalid:0"], "error: cannot listen on nowhere.invalid:0"),
        (["--listen", "nonsense"], "error: expected an address HOST:PORT"),
        (["--listen", "127.0.0.1:0", "--database", "mysql://u@h/d"], "error: expected a data"),
        (["--listen", "127.0.0.1:0", "--store", "gs://bucket"], "error: expected a store"),
    ],
)
def test_what_cannot_be_served_is_one_line_and_status_1(
    home: Path, arguments: list[str], message: str
) -> None:
    ended = subprocess.run(
        [*COMMAND, "serve", str(home), *arguments],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(message)
    assert ended.stderr.count("\n") == 1


def test_the_serving_process_imports_no_torch_and_no_onnx() -> None:
    probe = "import server.cli, sys; print({'torch', 'onnx', 'onnxruntime'} & set(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", probe],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert ended.stdout == "set()\n"

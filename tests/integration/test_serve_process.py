"""`ota-server serve` as a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.served_home import home_with
from tests.integration.server_process import (
    COMMAND,
    ROOT,
    TIMEOUT_S,
    check_in,
    enroll,
    server_process,
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home_with(tmp_path / "srv", generations=2).close()
    return tmp_path / "srv"


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

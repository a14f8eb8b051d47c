"""The real programs that a run drives: `ota-server serve` and `ota-edge`, each its own process.

>>> with serving(home, log) as server:
...     device = Device(folder, server.address, "digits-s0-sparse", fleet=home / "ca.pem")
...     device.enroll()
...     device.update().digest
"""

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simulator.errors import ProgramError

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
CALL_TIMEOUT_S = 1800.0
"""Updates take seconds; half an hour is a hang."""
RECORDING_TIMEOUT_S = 20.0
"""What a recording may take in the mean: a sentence by beam search on a busy machine."""

ANNOUNCEMENT = "listening on "


@dataclass(frozen=True)
class ServerProcess:
    """A server that takes calls."""

    pid: int
    address: str


@contextmanager
def serving(home: Path, log: Path) -> Iterator[ServerProcess]:
    """Run `ota-server serve` on a free port of this machine for as long as the block runs.

    Args:
        home: A server home.
        log: Where its stderr goes.

    Raises:
        ProgramError: it ended, or did not say where it listens within a minute.
    """
    command = [*_program("server.cli"), "serve", str(home), "--listen", "127.0.0.1:0"]
    with log.open("ab") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield ServerProcess(process.pid, _wait_for_address(process, log))
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Update:
    """What `ota-edge update` says it did.

    Attributes:
        generation: What the device runs now.
        digest: Hex digest of its weights.
        steps: Diffs that were applied.
        diff_bytes: Their files together.
        peak_bytes: Largest resident memory of the process.
    """

    generation: int
    digest: str
    steps: int
    diff_bytes: int
    bytes_sent: int
    bytes_received: int
    apply_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Device:
    """One edge client: a home folder and the `ota-edge` processes that work on it."""

    home: Path
    server: str
    model: str
    fleet: Path
    """The server's ca.pem, which every device is given."""

    def enroll(self) -> None:
        """Follow the model.

        Raises:
            ProgramError: `ota-edge` failed; so for all methods.
        """
        self._call(
            "enroll", "--server", self.server, "--ca", str(self.fleet), "--model", self.model
        )

    def update(self) -> Update:
        """Install what the server offers."""
        said = self._call_for_json("update")
        return Update(
            generation=int(said["generation"]),
            digest=str(said["digest"]),
            steps=len(said["steps"]),
            diff_bytes=int(said["diff_bytes"]),
            bytes_sent=int(said["bytes_sent"]),
            bytes_received=int(said["bytes_received"]),
            apply_s=float(said["apply_s"]),
            peak_bytes=int(said["peak_rss_bytes"]),
        )

    def recognise(self, recordings: Sequence[Path]) -> tuple[str, ...]:
        """The device's answer to each recording, in their order."""
        listing = self.home.with_name(f"{self.home.name}.files")
        listing.write_text("".join(f"{path.absolute()}\n" for path in recordings))
        timeout_s = CALL_TIMEOUT_S + RECORDING_TIMEOUT_S * len(recordings)
        said = self._call_for_json("infer", "--files-from", str(listing), timeout_s=timeout_s)
        return tuple(str(result["text"]) for result in said["results"])

    def _call_for_json(
        self, command: str, *arguments: str, timeout_s: float = CALL_TIMEOUT_S
    ) -> Any:
        printed = self._call(command, *arguments, "--json", timeout_s=timeout_s)
        try:
            return json.loads(printed)
        except ValueError as error:
            raise ProgramError(
                f"ota-edge {command}: expected JSON, found {printed[:80]!r}"
            ) from error

    def _call(self, command: str, *arguments: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        program = [*_program("edge_client.cli"), command, "--home", str(self.home)]
        try:
            ended = subprocess.run(
                [*program, *arguments],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ProgramError(
                f"ota-edge {command} ({self.home.name}): expected its end within "
                f"{timeout_s:.0f} s, found none"
            ) from error
        if ended.returncode != 0:
            raise ProgramError(f"ota-edge {command} ({self.home.name}): {_last_line(ended.stderr)}")
        return ended.stdout


def _program(module: str) -> list[str]:
    # By the same interpreter: another ota-server may come first on the PATH.
    return [sys.executable, "-c", f"from {module} import main; main()"]


def _wait_for_address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while process.stdout is not None and time.monotonic() < deadline_s:
        line = _read_line(process.stdout, deadline_s)
        if line.startswith(ANNOUNCEMENT):
            return line.removeprefix(ANNOUNCEMENT).strip()
        if not line:  # it closed its output, or the time is up
            break
    words = _last_line(log.read_text(errors="replace"))
    raise ProgramError(f"ota-server serve: expected '{ANNOUNCEMENT}HOST:PORT', found: {words}")


def _read_line(stream: IO[bytes], deadline_s: float) -> str:
    """A line, or "" where none comes in time."""
    ready, _, _ = select.select([stream], [], [], max(0.0, deadline_s - time.monotonic()))
    return stream.readline().decode(errors="replace") if ready else ""


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else "no reason given"

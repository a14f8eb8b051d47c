"""A real PostgreSQL, started and stopped by the tests that need it.

    with running() as server:
        url = server.new_database()

Without its programs on the machine those tests are skipped. Debian: apt-get install postgresql.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psycopg
import pytest

START_S = 30.0
LOG = "postgres.log"
DEBIAN = Path("/usr/lib/postgresql")
ACCOUNT = "postgres"
"""Debian's own user of it."""
OPTIONS_OF_A_NEW_CLUSTER = ("-U", "test", "--auth=trust", "-E", "UTF8")


@dataclass
class PostgresServer:
    """A cluster that listens on loopback alone."""

    programs: Path
    data: Path
    port: int
    process: subprocess.Popen[bytes]
    _numbers: Iterator[int] = field(default_factory=count)

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database: str) -> str:
        """The URL of a database."""
        return f"postgresql://test@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        """End it as `systemctl stop` would: connections are cut, what was committed stays."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=START_S)

    def kill(self) -> None:
        """End it at once."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=START_S)

    def start(self) -> None:
        """Start it again, on the same port and data."""
        self.process = _start(self.programs, self.data, self.port)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it takes connections."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                time.sleep(0.05)
            else:
                return
        log = (self.data.parent / LOG).read_text(errors="replace")
        raise RuntimeError(f"PostgreSQL did not start: {log[-500:]}")


@contextmanager
def running() -> Iterator[PostgresServer]:
    """A new cluster, for as long as the block runs.

    It does not wait for the disk: its processes may be killed, the machine is not.
    """
    programs = programs_or_skip()
    with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, ACCOUNT, ACCOUNT)
        data = Path(folder) / "data"
        subprocess.run(
            [*_as_account(), programs / "initdb", "-D", data, *OPTIONS_OF_A_NEW_CLUSTER],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
        )
        port = _free_port()
        server = PostgresServer(programs, data, port, _start(programs, data, port))
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.kill()


def programs_or_skip() -> Path:
    """The folder of PostgreSQL's programs; the test is skipped where there is none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = DEBIAN.glob("*/bin/initdb")  # Debian does not put them on the path
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    if newest is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return newest.parent


def _start(programs: Path, data: Path, port: int) -> subprocess.Popen[bytes]:
    options = ["-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "", "-F"]
    command = [*_as_account(), programs / "postgres", *options]
    with (data.parent / LOG).open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=data)


def _as_account() -> list[str]:
    """PostgreSQL refuses to run as root, which tests in a container are.

    A command before the command: subprocess itself would fork to change the user, and a process
    with gRPC's threads in it does not live through that.
    """
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--init-groups"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

"""`ota-server serve --page` as a process of its own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "server.cli"]
TIMEOUT_S = 60


@dataclass(frozen=True)
class ServedPage:
    """A server that runs; `port` is that of its page, on 127.0.0.1."""

    process: subprocess.Popen[str]
    grpc_address: str
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def served_page(home: Path, *options: str) -> Iterator[ServedPage]:
    process = subprocess.Popen(
        [*COMMAND, "serve", str(home), "--listen", "127.0.0.1:0", "--page", "0", *options],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        lines = process.stdout.readline() + process.stdout.readline()
        match = re.fullmatch(
            r"listening on (127\.0\.0\.1:\d+)\npage on http://127\.0\.0\.1:(\d+)/\n", lines
        )
        assert match, lines or process.communicate(timeout=TIMEOUT_S)[1]
        yield ServedPage(process, match[1], int(match[2]))
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)

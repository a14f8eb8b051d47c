"""Run the project's programs as a user would: as processes, from the shell."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

PROGRAMS = Path(sys.executable).parent
"""Where the installation put the console scripts."""


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [PROGRAMS / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )


def succeed(program: str, *arguments: object) -> str:
    """Run a program that must succeed; what it printed."""
    ended = run(program, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def fail(program: str, *arguments: object) -> str:
    """Run a program that must fail with one clear line; the line."""
    ended = run(program, *arguments)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    lines = [line for line in ended.stderr.splitlines() if line.strip()]
    assert lines[-1].startswith("error: "), ended.stderr
    assert "Traceback" not in ended.stderr
    return lines[-1]


@contextmanager
def serving(home: Path) -> Iterator[str]:
    """A server process on a free port; its address."""
    command = [PROGRAMS / "ota-server", "serve", home, "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().removeprefix("listening on ").strip()
        finally:
            server.terminate()

"""`rollout status --watch`: in a pipe, on a terminal, and interrupted."""

import os
import pty
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from server.domain import Attempt, AttemptState, Device, Outcome, Report
from server.home import ServerHome
from server.rollouts import operations
from server.rollouts.rollout import Rollout
from server.rollouts.states import State
from server.rollouts.watching import watch
from tests.integration.served_home import home_with
from tests.unit.server.check_ins import record
from tests.unit.server.values import TIME

ROOT = Path(__file__).parents[4]
TIMEOUT_S = 60
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture
def home(tmp_path: Path):
    opened = home_with(tmp_path / "srv", generations=2)
    yield opened
    opened.close()


@pytest.fixture
def made(home: ServerHome) -> Rollout:
    return operations.create(home.registry, "digits", target=1)


def command(home: ServerHome, made: Rollout) -> list[str]:
    return [
        *(sys.executable, "-m", "server.cli", "rollout", "status"),
        *(str(home.folder), made.rollout_id, "--watch"),
    ]


def test_in_a_pipe_there_is_a_line_for_every_change(home: ServerHome, made: Rollout) -> None:
    out = StringIO()
    steps = iter(
        [
            lambda: None,
            lambda: operations.begin_phase(
                home.registry, made, operations.Event.START, 0, "started", TIME
            ),
            lambda: None,
            lambda: operations.abort(
                home.registry, home.registry.rollouts.find(made.rollout_id), TIME
            ),
        ]
    )
    status = watch(
        home.registry, made.rollout_id, Console(file=out), pause=lambda _: next(steps)() and None
    )
    assert status == 0
    lines = out.getvalue().splitlines()
    assert [re.sub(r"^\S+Z ", "", line).split(",")[0] for line in lines] == [
        "draft",
        "running",
        "aborted",
    ]
    assert "\x1b" not in out.getvalue()


def test_what_a_device_says_neither_colours_nor_breaks_lines(
    home: ServerHome, made: Rollout
) -> None:
    home.registry.enroll(Device("one", "digits", "", TIME, TIME))
    home.registry.rollouts.create(replace(made, rollout_id="other", state=State.FINISHED))
    attempt = Attempt("first", "one", 0, 1, AttemptState.PLANNED, TIME, "other")
    record(home.registry, "one", 0, attempt, TIME)
    code = "\x1b[31m[red]\nBAD[/]"
    home.registry.report(Report("one", "first", 1, Outcome.FAILED, code, 0, 0, 0), TIME)
    piped, drawn = StringIO(), StringIO()
    watch(home.registry, "other", Console(file=piped))
    watch(home.registry, "other", Console(file=drawn, force_terminal=True, width=200))
    assert piped.getvalue().count("\n") == 1
    for shown in (piped.getvalue(), drawn.getvalue()):
        assert "�[31m[red]�BAD[/]" in shown
        assert "\x1b[31m" not in shown


def test_ctrl_c_ends_it_without_a_word(home: ServerHome, made: Rollout) -> None:
    process = subprocess.Popen(
        command(home, made),
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts what it does not wait for with Ctrl-C ignored, tests included.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        assert "draft" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out, err) == (130, "", "")
    finally:
        process.kill()


def test_a_terminal_gets_a_table_in_its_place_and_its_cursor_back(
    home: ServerHome, made: Rollout
) -> None:
    outer, inner = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(
        command(home, made), cwd=ROOT, stdout=inner, stderr=inner, env=environment
    )
    os.close(inner)
    try:
        shown = ""
        deadline = time.monotonic() + TIMEOUT_S
        while "waits for" not in shown and time.monotonic() < deadline:
            shown += os.read(outer, 65_536).decode()
        operations.abort(home.registry, made, TIME)
        while True:
            try:
                more = os.read(outer, 65_536).decode(errors="replace")
            except OSError:  # what Linux says at the end of a terminal
                break
            if not more:
                break
            shown += more
        assert process.wait(timeout=TIMEOUT_S) == 0
    finally:
        process.kill()
        os.close(outer)
    assert "an operator who starts it" in shown
    assert "aborted by an operator" in shown
    assert shown.rindex(SHOW_CURSOR) > shown.index(HIDE_CURSOR)

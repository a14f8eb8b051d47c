"""`ota-server rollout status --watch`: follow a rollout until it has ended.

On a terminal a table that is drawn anew in its place; elsewhere one line for every change, with
the time at which it was seen, as logs and pipes want it.
"""

import time
from collections.abc import Callable
from datetime import datetime

from rich.console import Console
from rich.live import Live

from server.clock import utc_now
from server.registry import Registry
from server.rollouts.report import Report, as_line, as_page, report_of

REFRESH_S = 1.0
INTERRUPTED = 130
"""Exit status of a program that was ended by Ctrl-C, so that `--watch && next` does not go on."""


def watch(
    registry: Registry,
    rollout_id: str,
    console: Console,
    pause: Callable[[float], None] = time.sleep,
) -> int:
    """Show how a rollout goes on.

    Args:
        registry: Where it is.
        rollout_id: Its id.
        console: Where to.
        pause: Waits; called between two looks.

    Returns:
        The exit status: 0 when the rollout has ended, 130 after Ctrl-C.

    Raises:
        RegistryError: the database cannot be read any more.
    """
    try:
        if console.is_terminal:
            _draw(registry, rollout_id, console, pause)
        else:
            _print_changes(registry, rollout_id, console, pause)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _draw(
    registry: Registry, rollout_id: str, console: Console, pause: Callable[[float], None]
) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            report = _look(registry, rollout_id)
            live.update(as_page(report, utc_now()), refresh=True)
            if report.rollout.state.is_final:
                return
            pause(REFRESH_S)


def _print_changes(
    registry: Registry, rollout_id: str, console: Console, pause: Callable[[float], None]
) -> None:
    seen = ""
    while True:
        report = _look(registry, rollout_id)
        line = as_line(report)
        if line != seen:
            _print(console, line, utc_now())
            seen = line
        if report.rollout.state.is_final:
            return
        pause(REFRESH_S)


def _look(registry: Registry, rollout_id: str) -> Report:
    return report_of(registry, registry.rollouts.find(rollout_id))


def _print(console: Console, line: str, now: datetime) -> None:
    # Straight to the file: a pipe has no width to wrap at, and codes of devices are no markup.
    console.file.write(f"{now:%Y-%m-%dT%H:%M:%SZ} {line}\n")
    console.file.flush()

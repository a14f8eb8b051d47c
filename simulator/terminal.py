"""What all commands of `ota-sim` do alike: their common options, tables or JSON, Ctrl-C."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, metavar="N", help="Processes at a time; else one a core."),
]


def print_result(as_json: bool, content: Any, print_table: Callable[[], None]) -> None:
    """Print a result as JSON or as its table."""
    if as_json:
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        print_table()


@contextmanager
def interruptible(left: str) -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and say what is left."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted; {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def cores() -> int:
    """How many processes can work at a time."""
    return len(os.sched_getaffinity(0))

"""What every command of `ota-edge` does alike on a terminal: options, errors, progress."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from edge_client.errors import EdgeError
from edge_client.progress import OnProgress, Progress

HomeOption = Annotated[Path, typer.Option("--home", metavar="DIR", help="The device's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End with exit code 1 and one line, whatever fails."""
    try:
        yield
    except EdgeError as error:
        complain(str(error))
        raise typer.Exit(1) from error
    except OSError as error:
        complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(1) from error


def complain(message: str) -> None:
    """Print one line on stderr."""
    print("error:", message.replace("\n", " "), file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[OnProgress]:
    """A bar on stderr while the block runs, if a person is looking."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,}"),
        TimeElapsedColumn(),
    )
    with ProgressBar(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        # What is printed belongs on stdout, also while a bar is shown.
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task("starting", total=1)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.doing,
                completed=progress.done,
                total=progress.total,
            )

        yield show

"""Arguments and options that commands share, each said once; and the home that they name."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from diffcodec.errors import CodecError
from server.errors import InputError
from server.home import ServerHome

Written = TypeVar("Written")
Parsed = TypeVar("Parsed")

HomeArgument = Annotated[Path, typer.Argument(metavar="HOME", help="The server's folder.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="OTA_DATABASE",
        metavar="URL",
        help="sqlite:///PATH or postgresql://..., else HOME/registry.db.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="OTA_STORE",
        metavar="URL",
        help="Folder, file:///PATH or s3://BUCKET/PREFIX, else HOME/artifacts.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def open_home(
    folder: Path, database: str | None, store: str | None
) -> AbstractContextManager[ServerHome]:
    """A home for as long as a command works on it."""
    return closing(ServerHome.open(folder, database=database, store=store))


def parsed(option: str, parse: Callable[[Written], Parsed], written: Written) -> Parsed:
    """What an option means.

    Raises:
        typer.BadParameter: it means nothing: a usage error.
    """
    try:
        return parse(written)
    except (InputError, CodecError) as error:
        raise typer.BadParameter(str(error), param_hint=option) from error

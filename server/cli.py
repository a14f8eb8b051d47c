"""`ota-server`: make a home, publish generations into it, serve them, look at them."""

import asyncio
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from diffcodec import Layout, parse_size
from diffcodec.errors import CodecError
from diffcodec.weights import read_weights
from server.clock import utc_now
from server.commands import device, keys, operator, rollout, tls
from server.commands.audit import audit
from server.commands.collect import collect
from server.commands.options import (
    DatabaseOption,
    HomeArgument,
    JsonOption,
    StoreOption,
    open_home,
    parsed,
)
from server.domain import Generation
from server.errors import PublishError, ServerError
from server.graph import graph_without_weights
from server.home import ServerHome
from server.identity.authority import CREDENTIAL_NAME
from server.identity.keys import Policy
from server.publishing import diff_from_head, layout_after, publish, require_model_name
from server.roll_ups import LEAST_DEVICES
from server.serving import ListenAddress, serve_until_signal
from server.signing.roles import OFFLINE
from server.status import ModelStatus, disk_status_of, status_of
from server.training.cli import train
from server.training.errors import TrainingError
from speech.errors import SpeechError

app = typer.Typer(
    help="Publish generations of a model and bring them to devices.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
progress = Console(stderr=True)


@app.command()
def init(
    home: HomeArgument,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="How devices reach the server: a host name or an address. Repeatable.",
        ),
    ] = None,
    enrolment: Annotated[
        Policy | None,
        typer.Option(
            "--enrolment",
            help="Who decides on devices that ask: you (approve, the default), or nobody (open).",
        ),
    ] = None,
    new_authority: Annotated[
        bool,
        typer.Option("--new-authority", help="HOME/tls is lost: begin anew; all devices re-enrol."),
    ] = False,
    offline_keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="DIR", help="Make the offline keys there."),
    ] = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Make a server home and its keys, or bring the database of an older one up to date.

    Example: ota-server init srv

    Example: ota-server init srv --name ota.example.org --enrolment approve

    Example: ota-server init srv --keys /media/usb/keys
    """
    opened = ServerHome.create(
        home,
        database=database,
        store=store,
        names=names or (),
        enrolment=enrolment,
        new_authority=new_authority,
        offline_keys=offline_keys,
    )
    has_offline_keys = any(opened.keys.files(role) for role in OFFLINE)
    opened.close()
    print(f"server home {home}")
    print(f"for devices {home / CREDENTIAL_NAME}")
    if has_offline_keys:
        print(keys.offline_advice(opened.keys))


@app.command()
def serve(
    home: HomeArgument,
    listen: Annotated[
        str,
        typer.Option(metavar="HOST:PORT", help="0.0.0.0 for all; port 0: any."),
    ],
    roll_ups: Annotated[
        int,
        typer.Option(
            "--roll-ups",
            metavar="N",
            min=0,
            help="Roll chains up where N devices are far behind; 0: never.",
        ),
    ] = LEAST_DEVICES,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Serve devices until SIGTERM or SIGINT; prints the address when it takes calls.

    Example: ota-server serve srv --listen 127.0.0.1:50051
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with open_home(home, database, store) as opened:
        asyncio.run(serve_until_signal(opened, listen, _announce, roll_ups or None))


@app.command("publish")
def publish_command(
    home: HomeArgument,
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help=".safetensors, .onnx, or a finished .ndiff.")
    ],
    model: Annotated[str, typer.Option(metavar="M", help="The line of generations.")],
    graph: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="model.onnx; else of WEIGHTS, or the parent's."),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(metavar="FILE", help="JSON that says what the model is.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Most bytes of the update, such as 40KB; else exact."),
    ] = None,
    bases: Annotated[
        list[int] | None,
        typer.Option(
            "--from",
            metavar="N",
            help="Add one diff from generation N where it saves bytes. Repeatable.",
        ),
    ] = None,
    branch: Annotated[
        bool, typer.Option("--branch", help="Let the diff's base be older than the newest.")
    ] = False,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Publish weights as the next generation; the first one is a snapshot.

    With a budget the generation is what the best diff within the budget leads to, not the
    weights themselves.

    A first generation, then an update within a budget that also serves devices at generation 0:

        ota-server publish srv --model digits model.onnx --card card.json

        ota-server publish srv --model digits better.onnx --budget 40KB --from 0
    """
    budget_bytes = _parse_budget(budget, weights)
    with open_home(home, database, store) as opened:
        require_model_name(model)
        for base in bases or ():
            opened.registry.generation(model, base)  # before a long search for the best diff
        head = opened.registry.head(model)
        with progress.status(f"publishing {weights}"):
            diff = _diff_of(opened, model, weights, budget_bytes)
            layout = layout_after(opened, model, diff)
            generation = publish(
                opened,
                model,
                diff,
                graph=_graph_of(graph, weights, layout),
                card=_read(card) if card is not None else None,
                expected_head=head.number if head is not None else None,
                branch=branch,
                direct_from=bases or (),
            )
    dense_bytes = sum(spec.nbytes for spec in layout.tensors)
    _print_published(generation, len(diff), dense_bytes, as_json)


@app.command()
def status(
    home: HomeArgument,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """List models, generations, bytes, and which devices run what.

    Example: ota-server status srv --json
    """
    with open_home(home, database, store) as opened:
        models = status_of(opened)
        disk = disk_status_of(opened, utc_now())
    if as_json:
        facts = {"models": [asdict(model) for model in models], "artifacts": asdict(disk)}
        print(json.dumps(facts, indent=2))
        return
    console = Console()
    for model in models:
        _print_model(console, model)
    if not models:
        console.print("no models yet")
    if disk.files:
        print(
            f"artifacts: {disk.files} files, {disk.bytes:,} B; "
            f"`collect` would free {disk.collectable_bytes:,} B"
        )


# Imports torch when it runs, not before: a machine that only serves need not have it.
app.command()(train)
app.add_typer(rollout.app, name="rollout")
app.command()(rollout.rollback)
app.add_typer(device.app, name="device")
app.add_typer(operator.app, name="operator")
app.add_typer(tls.app, name="tls")
app.add_typer(keys.app, name="keys")
app.command()(audit)
app.command()(collect)


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit status 1."""
    try:
        app()
    except (ServerError, TrainingError, CodecError, SpeechError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except ModuleNotFoundError as error:
        hint = "pip install 'neuraldiff[train]'"
        print(f"error: expected the package {error.name}, found none: {hint}", file=sys.stderr)
        raise SystemExit(1) from None


def _announce(address: ListenAddress) -> None:
    print(f"listening on {address}", flush=True)


def _parse_budget(budget: str | None, weights: Path) -> int | None:
    if budget is None:
        return None
    if weights.suffix == ".ndiff":
        raise typer.BadParameter("a finished .ndiff has its size already", param_hint="--budget")
    return parsed("--budget", parse_size, budget)


def _diff_of(home: ServerHome, model: str, weights: Path, budget_bytes: int | None) -> bytes:
    if weights.suffix == ".ndiff":
        return _read(weights)
    if budget_bytes is not None and home.registry.head(model) is None:
        progress.print("the first generation is an exact snapshot; the budget is for updates")
    return diff_from_head(home, model, read_weights(weights), budget_bytes)


def _graph_of(graph: Path | None, weights: Path, layout: Layout) -> bytes | None:
    if graph is None and weights.suffix != ".onnx":
        return None
    return graph_without_weights(graph or weights, layout)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(f"{path}: expected a readable file: {error.strerror}") from error


def _print_published(
    generation: Generation, diff_bytes: int, dense_bytes: int, as_json: bool
) -> None:
    ratio = dense_bytes / diff_bytes
    if as_json:
        facts = {
            "model": generation.model,
            "generation": generation.number,
            "digest": generation.digest.hex(),
            "bytes": diff_bytes,
            "ratio": round(ratio, 2),
        }
        print(json.dumps(facts))
        return
    print(f"generation {generation.number} of {generation.model}")
    print(f"digest     {generation.digest.hex()}")
    print(f"bytes      {diff_bytes}")
    print(f"ratio      {ratio:.1f}")


def _print_model(console: Console, model: ModelStatus) -> None:
    update, snapshot = (Column(header, no_wrap=True) for header in ("update", "snapshot"))
    table = Table("generation", "digest", update, snapshot, "devices", "published")
    table.title = f"{model.model}: head {model.head}"
    attempts = ", ".join(f"{n} {state}" for state, n in model.attempts.items())
    table.caption = f"{model.devices_without_model} devices without a model" + (
        f"; attempts: {attempts}" if attempts else ""
    )
    for row in model.generations:
        table.add_row(
            str(row.number),
            row.digest[:8],
            _sizes(row.updates),
            _sizes(row.snapshots),
            str(row.devices),
            row.published_at[:16].replace("T", " "),
        )
    console.print(table)


def _sizes(files: Mapping[str, int]) -> str:
    """One line for each coder."""
    return "\n".join(f"{coder} {length:,} B" for coder, length in files.items()) or "-"


if __name__ == "__main__":
    main()

"""`ota-server`: make a home, publish generations into it, serve them, look at them."""

import asyncio
import json
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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
from server.limits.settings import Limits
from server.observability.logs import LogFormat, LogLevel, configure
from server.overview import overview_of
from server.overview.content import content_of
from server.overview.terminal import print_overview
from server.publishing import diff_from_head, layout_after, publish, require_model_name
from server.roll_ups import LEAST_DEVICES
from server.serving import RunningServer, serve_until_signal
from server.signing.roles import OFFLINE
from server.status import disk_status_of
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
    page: Annotated[
        str | None,
        typer.Option(
            "--page",
            metavar="[HOST:]PORT",
            help="Also serve a read-only page for operators there; a port alone: of 127.0.0.1.",
        ),
    ] = None,
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
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="/metrics, /healthz and /readyz over plain HTTP there; a port alone: loopback.",
        ),
    ] = None,
    log_format: Annotated[LogFormat, typer.Option(help="Lines for people, or JSON.")] = (
        LogFormat.TEXT
    ),
    log_level: Annotated[LogLevel, typer.Option(help="The least that is logged.")] = LogLevel.INFO,
    limit: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="See docs/guides/monitoring.md. Repeatable."),
    ] = None,
) -> None:
    """Serve devices until SIGTERM or SIGINT; prints the address when it takes calls.

    Example: ota-server serve srv --listen 127.0.0.1:50051

    Example: ota-server serve srv --listen 0.0.0.0:50051 --page 8080 --metrics 9464
    """
    limits = Limits.of(limit or ())
    configure(log_format, log_level)
    with open_home(home, database, store) as opened:
        asyncio.run(_serve(opened, listen, page, limits, metrics, roll_ups or None))


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
    """Show how the fleet does: devices, rollouts, bytes, failures, signatures.

    Example: ota-server status srv --json
    """
    with open_home(home, database, store) as opened:
        now = utc_now()
        overview, disk = overview_of(opened, now), disk_status_of(opened, now)
    if as_json:
        print(json.dumps({**content_of(overview), "artifacts": asdict(disk)}, indent=2))
        return
    print_overview(Console(), overview)
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


async def _serve(
    home: ServerHome,
    listen: str,
    page: str | None,
    limits: Limits,
    metrics: str | None,
    roll_ups_for: int | None,
) -> None:
    """The page is there before the first call and after the last one, to see both."""
    async with _page(home, page) as url:

        def announce(server: RunningServer) -> None:
            print(f"listening on {server.address}", flush=True)
            if server.metrics is not None:
                print(f"metrics on http://{server.metrics}/metrics", flush=True)
            if url is not None:
                print(f"page on {url}", flush=True)

        await serve_until_signal(
            home, listen, announce, limits=limits, metrics_at=metrics, roll_ups_for=roll_ups_for
        )


def _page(home: ServerHome, listen: str | None) -> AbstractAsyncContextManager[str | None]:
    if listen is None:
        return nullcontext()
    # What only the page needs is imported where there is one.
    from server.web.serving import serving_page

    return serving_page(home, listen)


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


if __name__ == "__main__":
    main()

"""The command line of a device: `ota-edge`.

Exit codes: 0 it worked (nothing to do included), 1 it failed (one line on stderr for each thing
that did, starting with `error:`), 2 usage.
"""

import hashlib
import json
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diffcodec import available_coders
from edge_client.address import ServerAddress
from edge_client.enrollment import Wanted
from edge_client.enrollment import enroll as enroll_home
from edge_client.errors import CredentialError, NotYetAcceptedError
from edge_client.footprint import peak_rss_bytes
from edge_client.home import EdgeHome
from edge_client.identity.credential import Credential, key_sha256, load_certificate, load_key
from edge_client.inference.cli import infer
from edge_client.slots import Installed
from edge_client.terminal import HomeOption, JsonOption, one_line_errors, progress_bar
from edge_client.trust import pinned_root, trust_status
from edge_client.updater import UpdateResult
from edge_client.updater import update as update_home

app = typer.Typer(
    help="A device that follows a model: enrol it, update it, let it recognise speech.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command()
def enroll(
    home: HomeOption,
    server: Annotated[
        str,
        typer.Option("--server", metavar="HOST:PORT", help="As its certificate names it."),
    ],
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="The fleet's ca.pem; the home keeps a copy."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Which of its models to follow; else its only one.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="A name for people; this machine's by default.")
    ] = "",
    device_id: Annotated[
        str, typer.Option("--device-id", help="The id to ask for; else the server makes one.")
    ] = "",
    is_waiting: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait until an operator has accepted the key."),
    ] = True,
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="FILE", help="The root.json to trust; else the server's."),
    ] = None,
) -> None:
    """Make a folder the home of a device that follows a model.

    The device makes its key and asks for a certificate. Where an operator has to accept the key,
    the command waits; with --no-wait it ends, and the same command goes on later.

    A second time asks the server: where it knows the device, nothing changes, and where it has
    forgotten it, the device asks anew by the same key and id and keeps what it has installed.
    Another address is followed from then on; another model is refused.

    The root of trust is pinned: of --root, or at the first enrolment the one that the server
    gives. Compare what is printed with `ota-server keys status`.

    Example: ota-edge enroll --home device --server 127.0.0.1:50051 --ca ca.pem --model digits
    """
    with one_line_errors():
        address = ServerAddress.parse(server)
        fleet = _read_fleet(ca) if ca is not None else None
        wanted = Wanted(model, name or platform.node(), device_id)
        trusted = None if root is None else root.read_bytes()
        try:
            with _waiting_line() as on_wait:
                config = enroll_home(
                    EdgeHome(home),
                    address,
                    wanted,
                    fleet,
                    on_wait=on_wait if is_waiting else None,
                    root=trusted,
                )
        except NotYetAcceptedError as pending:
            print(f"not enrolled yet: {pending}")
            return
        print(f"{home} is device {config.device_id}, follows {config.model!r} at {config.server}")
        print(f"root of trust, SHA-256 {hashlib.sha256(pinned_root(home)).hexdigest()}")


@app.command()
def key(home: HomeOption) -> None:
    """Print the SHA-256 of this device's public key; the key is made if there is none.

    An operator compares it, or accepts it beforehand with `ota-server device preauthorize`.

    Example: ota-edge key --home device
    """
    with one_line_errors(), EdgeHome(home).locked() as locked:
        print(key_sha256(load_key(locked.identity.make_key())).hex())


@app.command()
def update(
    home: HomeOption,
    is_metered: Annotated[
        bool,
        typer.Option("--metered", help="Say that the link costs money by the byte."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Install what the server offers, once. Nothing to do, or having to wait, is success.

    Example: ota-edge update --home device --json
    """
    with one_line_errors():
        with progress_bar() as show:
            result = update_home(EdgeHome(home), on_progress=show, is_metered=is_metered)
        if as_json:
            print(json.dumps(_update_as_json(result)))
        else:
            print(_update_as_text(result))


@app.command()
def status(home: HomeOption, as_json: JsonOption = False) -> None:
    """Say what the device follows and which generation it holds.

    Example: ota-edge status --home device
    """
    with one_line_errors():
        content = _status(EdgeHome(home))
        if as_json:
            print(json.dumps(content))
        else:
            for key, value in content.items():
                print(f"{key.replace('_', ' '):14} {_shown(value)}")


app.command()(infer)


def main() -> None:
    """Run `ota-edge`."""
    app()


def _read_fleet(path: Path) -> Credential:
    try:
        return Credential.from_pem(path.read_bytes())
    except CredentialError as error:
        raise CredentialError(f"{path}: {error}") from error


@contextmanager
def _waiting_line() -> Iterator[Callable[[str], None]]:
    """Say on stderr that an operator is waited for: a line that moves, or one line in a log."""
    console = Console(stderr=True)
    with console.status("asking") as status:
        is_told = False

        def tell(key_sha256: str) -> None:
            nonlocal is_told
            words = f"waiting for an operator to accept key {key_sha256[:16]}"
            status.update(words)
            if not is_told and not console.is_terminal:
                print(words, file=sys.stderr, flush=True)
            is_told = True

        yield tell


def _update_as_json(result: UpdateResult) -> Mapping[str, object]:
    costs = result.costs
    return {
        "from_generation": result.before.number if result.before else None,
        "generation": result.after.number if result.after else None,
        "head": result.head,
        "digest": result.after.digest.hex() if result.after else None,
        "is_changed": bool(result.steps),
        "steps": [
            {
                "generation": step.target.number,
                "diff_bytes": step.diff.length_bytes,
                "is_snapshot": step.is_snapshot,
            }
            for step in result.steps
        ],
        "diff_bytes": result.diff_bytes,
        "downloaded_bytes": costs.downloaded_bytes,
        "bytes_sent": costs.traffic.sent_bytes,
        "bytes_received": costs.traffic.received_bytes,
        "apply_s": costs.apply_s,
        "apply_peak_rss_bytes": costs.apply_peak_rss_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "is_reported": result.is_reported,
        "is_repair": result.repaired is not None,
        "repaired": result.repaired,
        "deferral": asdict(result.deferral) if result.deferral else None,
        "come_again_s": result.come_again_s,
    }


def _update_as_text(result: UpdateResult) -> str:
    costs, traffic = result.costs, result.costs.traffic
    wire = f"on the wire: {traffic.sent_bytes:,} bytes sent, {traffic.received_bytes:,} received"
    if result.deferral is not None:
        return f"deferred: {result.deferral.reason}: {result.deferral.detail}\n{wire}"
    if result.after is None:
        found = "no generation" if result.head is None else f"generation {result.head}"
        return f"nothing to install: the model has {found}, none is offered\n{wire}"
    if not result.steps:
        return f"up to date: generation {result.after.number}\n{wire}"
    before = f"generation {result.before.number}" if result.before else "nothing"
    repaired = [f"repaired from a snapshot: {result.repaired}"] if result.repaired else []
    lines = [
        *repaired,
        f"updated from {before} to generation {result.after.number}",
        f"steps: {len(result.steps)}, {result.diff_bytes:,} bytes of diffs",
        wire,
        f"applied in {costs.apply_s:.2f} s, peak memory {peak_rss_bytes() / 1e6:.0f} MB",
        f"digest: {result.after.digest.hex()}",
    ]
    if not result.is_reported:
        lines.append("the server could not be told yet; it will learn at the next update")
    return "\n".join(lines)


def _status(home: EdgeHome) -> Mapping[str, object]:
    config = home.config()
    installed = home.slots.installed()
    generation = installed.record.generation if installed else None
    return {
        "home": str(home.path),
        "server": str(config.server),
        "model": config.model,
        "device_id": config.device_id,
        "name": config.name,
        "certificate_until": _certificate_end(home),
        "generation": generation.number if generation else None,
        "digest": generation.digest.hex() if generation else None,
        "slot": installed.slot.name if installed else None,
        "weights_bytes": installed.slot.weights_bytes() if installed else None,
        "coders": sorted(available_coders()),
        **trust_status(home.path, datetime.now(UTC)),
        **_paths_for_other_programs(installed),
    }


def _certificate_end(home: EdgeHome) -> str | None:
    with suppress(CredentialError):
        certificate = load_certificate(home.identity.credential().certificate)
        return certificate.not_valid_after_utc.isoformat()
    return None


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(value)
    return "none" if value is None else value


def _paths_for_other_programs(installed: Installed | None) -> Mapping[str, str | None]:
    """Where the serving model lies; an update moves it to the other slot."""
    if installed is None:
        return dict.fromkeys(("weights", "graph", "card"))
    slot, record = installed.slot, installed.record
    return {
        "weights": str(slot.weights.absolute()),
        "graph": str(slot.graph.absolute()) if record.graph_sha256 else None,
        "card": str(slot.card.absolute()) if record.card_sha256 else None,
    }

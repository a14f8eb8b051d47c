"""`ota-server keys`: look after the keys that sign releases and metadata."""

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from server.clock import time_text, utc_now
from server.commands.options import (
    DatabaseOption,
    HomeArgument,
    JsonOption,
    StoreOption,
    open_home,
)
from server.signing import ceremonies, releasing
from server.signing.keyring import Keyring
from server.signing.roles import OFFLINE, ONLINE, ROOT, model_pattern
from server.signing.status import keys_status

app = typer.Typer(
    help="Keys: who signs what, until when; rotate, renew, revoke.", no_args_is_help=True
)


class Rotated(StrEnum):
    """What can be given new keys; `online` is snapshot, timestamp and routes."""

    ROOT = "root"
    TARGETS = "targets"
    RELEASES = "releases"
    ONLINE = "online"


class Renewed(StrEnum):
    """What a person signs again; the online roles are renewed by a server."""

    ROOT = "root"
    TARGETS = "targets"
    RELEASES = "releases"


OfflineOption = Annotated[
    Path | None,
    typer.Option(
        "--keys", metavar="DIR", help="Where the offline keys are, else HOME/keys/offline."
    ),
]


@app.command()
def status(
    home: HomeArgument,
    keys: OfflineOption = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """List the roles: version, expiry, trusted key, and whether that key is on this machine.

    Example: ota-server keys status srv

    Example: ota-server keys status srv --keys /media/usb/keys --json
    """
    ring = Keyring.of(home, keys)
    with open_home(home, database, store) as opened:
        found = keys_status(opened.registry, ring, utc_now())
    if as_json:
        print(json.dumps(asdict(found), indent=2))
        return
    table = Table("role", "version", "expires", "key", "is here", "unused files")
    for role in found.roles:
        expires = role.expires_at + (" renew it" if role.is_due else "")
        here = "yes" if role.is_key_here else "no"
        table.add_row(
            role.role, str(role.version), expires, role.keyid[:8], here, "\n".join(role.unused)
        )
    Console().print(table)
    print(f"root of trust, SHA-256 {found.root_sha256}")


@app.command()
def rotate(
    home: HomeArgument,
    role: Annotated[Rotated, typer.Argument(help="Whose key to replace.")],
    keys: OfflineOption = None,
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="M", help="Let releases sign these models alone."),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Make a new key for a role and trust it instead of the old one; needs the offline keys.

    Devices learn of it by themselves. After `online`, copy HOME/keys/online to every server, and
    after `releases`, HOME/keys/releases to whoever publishes.

    Example: ota-server keys rotate srv online

    Example: ota-server keys rotate srv releases --keys /media/usb/keys --model digits
    """
    if models and role is not Rotated.RELEASES:
        raise typer.BadParameter("only releases has models", param_hint="--model")
    roles = ONLINE if role is Rotated.ONLINE else (role.value,)
    paths = [model_pattern(model) for model in models] if models else None
    ring = Keyring.of(home, keys)
    with open_home(home, database, store) as opened:
        signed = ceremonies.rotate(opened.registry, ring, roles, utc_now(), paths)
        folders = sorted({str(ring.folder_of(role)) for role in roles})
    if as_json:
        print(json.dumps({"rotated": list(roles), "signed": list(signed), "folders": folders}))
        return
    print(f"new keys for {', '.join(roles)} in {', '.join(folders)}")
    print("the old files there are not trusted any more: `ota-server keys status` lists them")


@app.command()
def renew(
    home: HomeArgument,
    role: Annotated[Renewed, typer.Argument(help="What to sign again.")],
    keys: OfflineOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Sign a role's metadata again by the same key, so that it does not expire.

    Example: ota-server keys renew srv releases
    """
    ring = Keyring.of(home, keys)
    with open_home(home, database, store) as opened:
        ceremonies.renew(opened.registry, ring, [role.value], utc_now())
        expires_at = opened.registry.signing.latest()[role.value].expires_at
    print(f"{role.value} is valid until {time_text(expires_at)}")


@app.command()
def revoke(
    home: HomeArgument,
    generations: Annotated[list[int], typer.Argument(metavar="N...", help="Which ones.")],
    model: Annotated[str, typer.Option(metavar="M", help="Of which model.")],
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Never let generations be installed again, on any device; there is no way back.

    A device that runs one goes on until there is a newer generation: publish one, with the
    weights of an older if need be. Needs the key of releases.

    Example: ota-server keys revoke srv --model digits 7
    """
    with open_home(home, database, store) as opened:
        revoked = releasing.revoke(opened.registry, opened.keys, model, generations, utc_now())
    if as_json:
        print(json.dumps({"model": model, "revoked": list(revoked)}))
        return
    names = ", ".join(map(str, revoked)) or "nothing that was not revoked before"
    print(f"revoked of {model}: {names}")


@app.command()
def root(home: HomeArgument, database: DatabaseOption = None, store: StoreOption = None) -> None:
    """Print the newest root.json, for devices to pin: ota-edge enroll --root.

    Example: ota-server keys root srv > root.json
    """
    with open_home(home, database, store) as opened:
        print(opened.registry.signing.read(ROOT, 0).decode(), end="")


def offline_advice(keys: Keyring) -> str:
    """What whoever makes a home should know."""
    return (
        f"offline keys ({', '.join(OFFLINE)}) in {keys.offline}: they are not needed to serve or "
        "to publish; move them to a place that no network reaches, and keep a copy"
    )

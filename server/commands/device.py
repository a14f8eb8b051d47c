"""`ota-server device`: who asks, who is accepted, who is gone, and what each one follows."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from diffcodec import parse_size
from server.clock import time_text, utc_now
from server.commands.options import (
    DatabaseOption,
    HomeArgument,
    JsonOption,
    StoreOption,
    open_home,
    parsed,
)
from server.domain import LARGEST_COUNT
from server.errors import RequestError
from server.identity.desk import Desk, at_home, at_server, find
from server.identity.keys import DeviceKey, KeyState, Verb, require_device_id
from server.rollouts.conditions import zone_of
from server.rollouts.notation import parse_pair
from server.rollouts.rollout import Channel, Member

NONE = "none"

app = typer.Typer(
    help="Devices and their keys: who asks, who is accepted, who is gone.", no_args_is_help=True
)

PlaceArgument = Annotated[
    str,
    typer.Argument(
        metavar="HOME", help="The server's folder; with --credential, a server as HOST:PORT."
    ),
]
CredentialOption = Annotated[
    Path | None,
    typer.Option("--credential", metavar="FILE", help="Who you are, at a server elsewhere."),
]
KeyArgument = Annotated[
    str,
    typer.Argument(metavar="DEVICE", help="A device id, or the first 8 or more digits of a key."),
]


@app.command("list")
def list_devices(
    place: PlaceArgument,
    state: Annotated[
        KeyState | None, typer.Option("--state", help="Only keys of this state.")
    ] = None,
    as_json: JsonOption = False,
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """List keys by device, oldest request first; an ALERT is a second key for one device.

    Example: ota-server device list srv --state pending
    """
    with _at(place, credential, database, store) as desk:
        keys = desk.all(state)
    if as_json:
        print(json.dumps({"devices": [_key_as_json(key) for key in keys]}, indent=2))
        return
    table = Table("device", "state", "key", "model", "name", "asked", "")
    for key in keys:
        table.add_row(
            key.device_id or "any",
            str(key.state),
            key.short,
            key.model,
            escape(key.name),
            f"{key.requested_at:%Y-%m-%d %H:%M}",
            "ALERT: another key for this device" if key.is_rival else "",
        )
    Console().print(table if keys else "no devices yet")


@app.command("show")
def show_device(
    place: PlaceArgument,
    device: KeyArgument,
    as_json: JsonOption = False,
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Say all about one device.

    Example: ota-server device show srv kitchen
    """
    with _at(place, credential, database, store) as desk:
        content = _key_as_json(find(desk.all(), device))
    if as_json:
        print(json.dumps(content, indent=2))
        return
    for name, value in content.items():
        print(f"{name.replace('_', ' '):18} {'none' if value is None else value}")


@app.command("accept")
def accept_device(
    place: PlaceArgument,
    devices: Annotated[
        list[str] | None,
        typer.Argument(metavar="DEVICE...", help="Device ids, or the first digits of keys."),
    ] = None,
    is_all: Annotated[
        bool, typer.Option("--all", help="Whoever waits, but those with an ALERT.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Revoke the key that the device has until now.")
    ] = False,
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Let devices into the fleet.

    Compare the key with what `ota-edge key` prints on the device:

        ota-server device accept srv 5f0c9a3be1d24477

    From another machine, by the file that `ota-server operator add` wrote:

        ota-server device accept ota.example.org:50051 kitchen --credential alice.pem
    """
    if bool(devices) == is_all:
        raise typer.BadParameter("expected devices, or --all")
    with _at(place, credential, database, store) as desk:
        if is_all:
            waiting = desk.all(KeyState.PENDING)
            keys: Sequence[DeviceKey] = [key for key in waiting if not key.is_rival]
        else:
            known = desk.all()
            keys = [find(known, device) for device in devices or ()]
        for key in keys:
            accepted = desk.decide(key.sha256, Verb.ACCEPT, replace=replace)
            print(f"accepted device {accepted.device_id}, key {accepted.short}")
        if not keys:
            print("nobody waits")


@app.command("reject")
def reject_device(
    place: PlaceArgument,
    device: KeyArgument,
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Refuse a key that asks; it can still be accepted later.

    Example: ota-server device reject srv 5f0c9a3be1d24477
    """
    _decide(place, device, Verb.REJECT, credential, database, store)


@app.command("revoke")
def revoke_device(
    place: PlaceArgument,
    device: KeyArgument,
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """End a key for good, at once and on all servers; the device may ask again by a new one.

    Example: ota-server device revoke srv kitchen
    """
    _decide(place, device, Verb.REVOKE, credential, database, store)


@app.command("decommission")
def decommission_device(
    place: PlaceArgument,
    device: Annotated[str, typer.Argument(metavar="DEVICE", help="A device id.")],
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Take a device out of service for good: it counts no more, and its history stays.

    Example: ota-server device decommission srv kitchen
    """
    with _at(place, credential, database, store) as desk:
        desk.decommission(device)
        print(f"decommissioned device {device}")


@app.command("preauthorize")
def preauthorize_device(
    place: PlaceArgument,
    key: Annotated[
        str, typer.Argument(metavar="SHA256", help="Of the public key; `ota-edge key` prints it.")
    ],
    device_id: Annotated[
        str | None, typer.Option("--device-id", metavar="ID", help="The only id that it may have.")
    ] = None,
    model: Annotated[str, typer.Option("--model", metavar="M", help="The model to follow.")] = "",
    credential: CredentialOption = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Accept a key before its device asks.

    Example: ota-server device preauthorize srv "$(ota-edge key --home kitchen)"
    """
    sha256 = _parse_sha256(key)
    if device_id is not None:
        require_device_id(device_id)
    with _at(place, credential, database, store) as desk:
        known = desk.preauthorize(sha256, device_id, model)
        print(f"preauthorized key {known.short}")


@app.command("set")
def set_device(
    home: HomeArgument,
    device_id: Annotated[str, typer.Argument(metavar="DEVICE", help="Its id.")],
    channel: Annotated[Channel | None, typer.Option(help="What it follows from now on.")] = None,
    attributes: Annotated[
        list[str] | None,
        typer.Option(
            "--attribute",
            metavar="KEY=VALUE",
            help="Such as room=kitchen, or timezone=Europe/Berlin for windows. Repeatable.",
        ),
    ] = None,
    unset: Annotated[
        list[str] | None,
        typer.Option("--unset", metavar="KEY", help="Remove an attribute. Repeatable."),
    ] = None,
    monthly_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE|none", help="Bytes that its updates may take each month."),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Set channel, attributes and monthly budget of a device; what is not named stays.

    Example: ota-server device set srv 8c1d... --channel beta --attribute room=kitchen

    Example: ota-server device set srv 8c1d... --monthly-budget 5MB
    """
    added = dict(parsed("--attribute", parse_pair, text) for text in attributes or [])
    with open_home(home, database, store) as opened:
        rollouts = opened.registry.rollouts
        known, budget_bytes = rollouts.member(device_id)
        kept = {key: value for key, value in known.attributes.items() if key not in (unset or [])}
        member = replace(known, attributes={**kept, **added}, channel=channel or known.channel)
        zone_of(member.attributes)  # a zone that nobody knows would be found at the next window
        if monthly_budget is not None:
            budget_bytes = parsed("--monthly-budget", _parse_budget, monthly_budget)
        rollouts.set_up(member, budget_bytes, utc_now())
    _print_member(member, budget_bytes, as_json)


def _decide(
    place: str,
    device: str,
    verb: Verb,
    credential: Path | None,
    database: str | None,
    store: str | None,
) -> None:
    with _at(place, credential, database, store) as desk:
        key = desk.decide(find(desk.all(), device).sha256, verb)
    print(f"{key.state} device {key.device_id or 'any'}, key {key.short}")


def _at(
    place: str, credential: Path | None, database: str | None, store: str | None
) -> AbstractContextManager[Desk]:
    if credential is not None:
        return at_server(place, credential)
    return at_home(Path(place), database, store)


def _key_as_json(key: DeviceKey) -> dict[str, object]:
    return {
        "device_id": key.device_id,
        "state": str(key.state),
        "key": key.sha256.hex(),
        "model": key.model,
        "name": key.name,
        "requested_at": time_text(key.requested_at),
        "decided_at": time_text(key.decided_at),
        "is_alert": key.is_rival,
    }


def _parse_sha256(text: str) -> bytes:
    try:
        sha256 = bytes.fromhex(text.strip())
    except ValueError:
        sha256 = b""
    if len(sha256) != 32:
        raise RequestError(f"expected a SHA-256 of 64 hex digits, found {text[:80]!r}")
    return sha256


def _parse_budget(text: str) -> int | None:
    if text == NONE:
        return None
    size = parse_size(text)
    if size > LARGEST_COUNT:
        raise RequestError(f"expected less than 2^63 bytes, found {size}")
    return size


def _print_member(member: Member, budget_bytes: int | None, as_json: bool) -> None:
    facts = {
        "device": member.device_id,
        "channel": str(member.channel),
        "attributes": dict(member.attributes),
        "monthly_budget_bytes": budget_bytes,
    }
    if as_json:
        print(json.dumps(facts))
        return
    listed = ", ".join(f"{key}={value}" for key, value in sorted(member.attributes.items()))
    print(f"device     {member.device_id}")
    print(f"channel    {member.channel}")
    print(f"attributes {listed or NONE}")
    print(f"budget     {NONE if budget_bytes is None else f'{budget_bytes:,} B a month'}")

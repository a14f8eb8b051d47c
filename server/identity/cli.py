"""`ota-server device|operator|tls|audit`: who belongs to the fleet, and who changed what."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.x509 import Certificate
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from server.devices import utc_now
from server.errors import HomeError, RequestError
from server.home import ServerHome
from server.identity.authority import CREDENTIAL_NAME, write_secret
from server.identity.certificates import Role, key_sha256, names_of
from server.identity.desk import Desk, at_home, at_server, find
from server.identity.fleet import renew_enrolment
from server.identity.keys import DeviceKey, KeyState, Verb, require_device_id
from server.registry.identities import Identities
from server.registry.operators import Operator, Operators

device_app = typer.Typer(
    help="Devices and their keys: who asks, who is accepted, who is gone.", no_args_is_help=True
)
operator_app = typer.Typer(
    help="People with a credential of their own, and their roles.", no_args_is_help=True
)
tls_app = typer.Typer(help="The certificates of servers and of enrolment.", no_args_is_help=True)

HomeArgument = Annotated[Path, typer.Argument(metavar="HOME", help="The server's folder.")]
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
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="As for `ota-server init`."),
]
StoreOption = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="As for `ota-server init`.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@device_app.command("list")
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


@device_app.command("show")
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


@device_app.command("accept")
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


@device_app.command("reject")
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


@device_app.command("revoke")
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


@device_app.command("decommission")
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


@device_app.command("preauthorize")
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


@operator_app.command("add")
def add_operator(
    home: HomeArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is for.")],
    role: Annotated[Role, typer.Option("--role", help="What they may do.")],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="NAME.pem without it.")
    ] = None,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Write the credential of a person: certificate, key, and whom to trust, in one file.

    Example: ota-server operator add srv alice --role operator
    """
    require_device_id(name)  # it stands in a certificate and in a file's name, as an id does
    path = out or Path(f"{name}.pem")
    if path.exists():
        raise HomeError(f"expected no file {path}, found one; move it away, or name another: --out")
    with _opened(home, database, store) as opened:
        now = utc_now()
        pair, content = opened.authority().new_operator(name, role, now)
        # The file first: a credential that the registry does not know of opens nothing.
        write_secret(path, content)
        key = key_sha256(pair.key.public_key())
        Operators(opened.registry).add(Operator(key, name, str(role), now))
    print(f"{path} is the credential of {name}, {role}, until {_end(pair.certificate)}")


@operator_app.command("list")
def list_operators(
    home: HomeArgument,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """List credentials by person.

    Example: ota-server operator list srv
    """
    with _opened(home, database, store) as opened:
        operators = Operators(opened.registry).all()
    if as_json:
        content = [
            {
                "name": operator.name,
                "role": operator.role,
                "key": operator.key_sha256.hex(),
                "added_at": _time(operator.added_at),
                "removed_at": _time(operator.removed_at),
            }
            for operator in operators
        ]
        print(json.dumps({"operators": content}, indent=2))
        return
    table = Table("operator", "role", "key", "added", "removed")
    for operator in operators:
        removed = f"{operator.removed_at:%Y-%m-%d %H:%M}" if operator.removed_at else ""
        added = f"{operator.added_at:%Y-%m-%d %H:%M}"
        table.add_row(operator.name, operator.role, operator.key_sha256.hex()[:16], added, removed)
    Console().print(table if operators else "no operators yet")


@operator_app.command("remove")
def remove_operator(
    home: HomeArgument,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """End all credentials of a person at once.

    Example: ota-server operator remove srv alice
    """
    with _opened(home, database, store) as opened:
        count = Operators(opened.registry).remove(name, utc_now())
    print(f"removed {name}: {count} {'credential' if count == 1 else 'credentials'}")


@tls_app.command("renew")
def renew(
    home: HomeArgument,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="How devices reach the server, beside loopback; as before without it. Repeatable.",
        ),
    ] = None,
    is_enrolment: Annotated[
        bool,
        typer.Option("--enrolment", help="Renew HOME/ca.pem instead; the older one ends."),
    ] = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Make a new certificate; a server that runs takes it up with its next connection.

    Example: ota-server tls renew srv --name ota.example.org
    """
    with _opened(home, database, store) as opened:
        authority, now = opened.authority(), utc_now()
        if is_enrolment:
            renew_enrolment(authority, opened.registry, now)
            print(f"{home / CREDENTIAL_NAME} is new; devices that are enrolled need it no more")
            return
        chosen = authority.renew_server(names or (), now)
        certificate = authority.server_certificate()
        details = {"names": list(chosen)}
        Identities(opened.registry).record("tls.renew", _end(certificate), details, now)
    print(f"the server is {', '.join(chosen)}, until {_end(certificate)}")


@tls_app.command("show")
def show_tls(
    home: HomeArgument, database: DatabaseOption = None, store: StoreOption = None
) -> None:
    """Say which names the server's certificate has, and when certificates end.

    Example: ota-server tls show srv
    """
    with _opened(home, database, store) as opened:
        authority = opened.authority()
    certificate = authority.server_certificate()
    print(f"authority          {authority.sha256.hex()}")
    print(f"authority ends     {_end(authority.devices.certificate)}")
    print(f"server             {', '.join(names_of(certificate))}")
    print(f"server ends        {_end(certificate)}")


def audit(
    home: HomeArgument,
    since: Annotated[
        datetime | None,
        typer.Option(
            "--since",
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"],
            help="From this time (UTC) on.",
        ),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Print who changed what, and when: publications, rollouts, devices, keys.

    Example: ota-server audit srv --since 2026-01-31 --json
    """
    with _opened(home, database, store) as opened:
        start = since.replace(tzinfo=UTC) if since is not None else None
        entries = Identities(opened.registry).audit(start)
    if as_json:
        content = [
            {
                "number": entry.number,
                "at": _time(entry.at),
                "actor": entry.actor,
                "action": entry.action,
                "subject": entry.subject,
                "details": entry.details,
            }
            for entry in entries
        ]
        print(json.dumps({"entries": content}, indent=2))
        return
    for entry in entries:
        details = " ".join(f"{k}={v}" for k, v in entry.details.items() if v not in (None, ""))
        # A line each, whole: what an audit log is for is being searched.
        print(f"{_time(entry.at)} {entry.actor} {entry.action} {entry.subject} {details}".rstrip())


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


@contextmanager
def _opened(home: Path, database: str | None, store: str | None) -> Iterator[ServerHome]:
    opened = ServerHome.open(home, database=database, store=store)
    try:
        yield opened
    finally:
        opened.close()


def _key_as_json(key: DeviceKey) -> dict[str, object]:
    return {
        "device_id": key.device_id,
        "state": str(key.state),
        "key": key.sha256.hex(),
        "model": key.model,
        "name": key.name,
        "requested_at": _time(key.requested_at),
        "decided_at": _time(key.decided_at),
        "is_alert": key.is_rival,
    }


def _time(time: datetime | None) -> str | None:
    return time.isoformat(timespec="seconds") if time is not None else None


def _end(certificate: Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"


def _parse_sha256(text: str) -> bytes:
    try:
        sha256 = bytes.fromhex(text.strip())
    except ValueError:
        sha256 = b""
    if len(sha256) != 32:
        raise RequestError(f"expected a SHA-256 of 64 hex digits, found {text[:80]!r}")
    return sha256

"""`ota-server operator`: people with a credential of their own."""

import json
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
from server.durable import write_secret
from server.errors import HomeError
from server.identity.certificates import Role, key_sha256
from server.identity.keys import require_device_id
from server.registry.operators import Operator, Operators

app = typer.Typer(
    help="People with a credential of their own, and their roles.", no_args_is_help=True
)


@app.command("add")
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
    with open_home(home, database, store) as opened:
        now = utc_now()
        pair, content = opened.authority().new_operator(name, role, now)
        # The file first: a credential that the registry does not know of opens nothing.
        write_secret(path, content)
        key = key_sha256(pair.key.public_key())
        Operators(opened.registry).add(Operator(key, name, str(role), now))
    end = f"{pair.certificate.not_valid_after_utc:%Y-%m-%d}"
    print(f"{path} is the credential of {name}, {role}, until {end}")


@app.command("list")
def list_operators(
    home: HomeArgument,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """List credentials by person.

    Example: ota-server operator list srv
    """
    with open_home(home, database, store) as opened:
        operators = Operators(opened.registry).all()
    if as_json:
        content = [
            {
                "name": operator.name,
                "role": operator.role,
                "key": operator.key_sha256.hex(),
                "added_at": time_text(operator.added_at),
                "removed_at": time_text(operator.removed_at),
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


@app.command("remove")
def remove_operator(
    home: HomeArgument,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """End all credentials of a person at once.

    Example: ota-server operator remove srv alice
    """
    with open_home(home, database, store) as opened:
        count = Operators(opened.registry).remove(name, utc_now())
    print(f"removed {name}: {count} {'credential' if count == 1 else 'credentials'}")

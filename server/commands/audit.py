"""`ota-server audit`: who changed what."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from server.clock import time_text
from server.commands.options import (
    DatabaseOption,
    HomeArgument,
    JsonOption,
    StoreOption,
    open_home,
)
from server.registry.identities import Identities


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
    with open_home(home, database, store) as opened:
        start = since.replace(tzinfo=UTC) if since is not None else None
        entries = Identities(opened.registry).audit(start)
    if as_json:
        content = [
            {
                "number": entry.number,
                "at": time_text(entry.at),
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
        print(
            f"{time_text(entry.at)} {entry.actor} {entry.action} {entry.subject} {details}".rstrip()
        )

"""`ota-server device set`: what an operator says of a device."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from diffcodec import parse_size
from diffcodec.errors import CodecError
from server.devices import utc_now
from server.errors import RolloutError
from server.home import ServerHome
from server.rollouts.conditions import zone_of
from server.rollouts.notation import parse_pair
from server.rollouts.rollout import LARGEST_POINT, Channel, Member

NONE = "none"


def set_device(
    home: Annotated[Path, typer.Argument(metavar="HOME", help="The server's folder.")],
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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    database: Annotated[
        str | None, typer.Option("--database", metavar="URL", help="As of `ota-server serve`.")
    ] = None,
    store: Annotated[
        str | None, typer.Option("--store", metavar="URL", help="As of `ota-server serve`.")
    ] = None,
) -> None:
    """Set channel, attributes and monthly budget of a device; what is not named stays.

    Example: ota-server device set srv 8c1d... --channel beta --attribute room=kitchen

    Example: ota-server device set srv 8c1d... --monthly-budget 5MB
    """
    added = dict(_pair(text) for text in attributes or [])
    opened = ServerHome.open(home, database=database, store=store)
    try:
        rollouts = opened.registry.rollouts
        known, budget_bytes = rollouts.member(device_id)
        kept = {key: value for key, value in known.attributes.items() if key not in (unset or [])}
        member = replace(known, attributes={**kept, **added}, channel=channel or known.channel)
        zone_of(member.attributes)  # a zone that nobody knows would be found at the next window
        if monthly_budget is not None:
            budget_bytes = _budget(monthly_budget)
        rollouts.set_up(member, budget_bytes, utc_now())
    finally:
        opened.close()
    _print(member, budget_bytes, as_json)


def _pair(text: str) -> tuple[str, str]:
    try:
        return parse_pair(text)
    except RolloutError as error:
        raise typer.BadParameter(str(error), param_hint="--attribute") from error


def _budget(text: str) -> int | None:
    if text == NONE:
        return None
    try:
        size = parse_size(text)
    except CodecError as error:
        raise typer.BadParameter(str(error), param_hint="--monthly-budget") from error
    if size > LARGEST_POINT:
        raise typer.BadParameter("expected less than 2^63 bytes", param_hint="--monthly-budget")
    return size


def _print(member: Member, budget_bytes: int | None, as_json: bool) -> None:
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

"""`ota-server rollout ...`, and `ota-server rollback`."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diffcodec import parse_size
from server.clock import utc_now
from server.commands.options import (
    DatabaseOption,
    HomeArgument,
    JsonOption,
    StoreOption,
    open_home,
    parsed,
)
from server.registry import Registry
from server.rollouts import operations
from server.rollouts.notation import (
    parse_duration,
    parse_pair,
    parse_phases,
    parse_share,
    parse_windows,
)
from server.rollouts.report import Report, as_json, as_page, as_table, report_of
from server.rollouts.rollout import LARGEST_NUMBER, Channel, OnFailure, Policy, Rollout
from server.rollouts.undoing import roll_back
from server.rollouts.watching import watch

ANY, NEVER = "any", "never"

app = typer.Typer(
    help="Bring a generation to a fleet in phases.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

RolloutArgument = Annotated[
    str, typer.Argument(metavar="ROLLOUT", help="Its id, or the first digits of it.")
]


@app.command()
def create(
    home: HomeArgument,
    model: Annotated[str, typer.Option("--model", metavar="M", help="The line of generations.")],
    target: Annotated[
        int, typer.Option("--to", metavar="N", min=0, max=LARGEST_NUMBER, help="The generation.")
    ],
    channel: Annotated[Channel, typer.Option(help="Devices that follow it.")] = Channel.STABLE,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="KEY=VALUE",
            help="Only devices with this attribute. Repeatable: one of the values of each key.",
        ),
    ] = None,
    phases: Annotated[
        list[str] | None,
        typer.Option(
            "--phase",
            metavar="SIZE",
            help="Such as 10% or 25 (devices), those before included. Repeatable; else 100%.",
        ),
    ] = None,
    success: Annotated[
        str,
        typer.Option(metavar="SHARE", help="Devices of a phase that must run it to end the phase."),
    ] = "80%",
    failure: Annotated[
        str, typer.Option(metavar="SHARE", help="Pause where more than this share fails.")
    ] = "10%",
    minimum_sample: Annotated[
        int, typer.Option(min=1, help="Devices that must have answered before that is judged.")
    ] = 5,
    soak: Annotated[
        str, typer.Option(metavar="TIME", help="Wait after each phase, such as 90s, 15m, 6h, 2d.")
    ] = "0",
    attempt_timeout: Annotated[
        str, typer.Option(metavar="TIME", help="An attempt that is silent for longer has failed.")
    ] = "6h",
    max_attempts: Annotated[int, typer.Option(min=1, help="Of one device.")] = 3,
    max_in_flight: Annotated[
        int | None, typer.Option(min=1, help="Devices that are updated at a time; else any.")
    ] = None,
    windows: Annotated[
        list[str] | None,
        typer.Option(
            "--window",
            metavar="HH:MM-HH:MM",
            help="Update only then: the device's hours if it has the attribute timezone, else UTC."
            " Repeatable.",
        ),
    ] = None,
    metered: Annotated[
        str, typer.Option(metavar="any|never|SIZE", help="Most bytes of a plan on a metered link.")
    ] = ANY,
    monthly_budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Of each device that has no budget of its own."),
    ] = None,
    on_failure: Annotated[
        OnFailure,
        typer.Option(help="rollback: bring the base's weights back to devices that took it."),
    ] = OnFailure.PAUSE,
    base: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=LARGEST_NUMBER, help="What devices ran before; else found out."
        ),
    ] = None,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Draft a rollout. From a model's first one on, devices get what rollouts give them.

    Example: ota-server rollout create srv --model digits --to 5 --phase 10% --phase 100% --soak 6h

    Example: ota-server rollout create srv --model digits --to 5 --channel beta
    --group room=kitchen --on-failure rollback
    """
    policy = Policy(
        success_threshold=parsed("--success", parse_share, success),
        failure_threshold=parsed("--failure", parse_share, failure),
        minimum_sample=minimum_sample,
        soak=parsed("--soak", parse_duration, soak),
        attempt_timeout=parsed("--attempt-timeout", parse_duration, attempt_timeout),
        maximum_attempts=max_attempts,
        maximum_in_flight=max_in_flight,
        windows=parsed("--window", parse_windows, windows or []),
        metered_bytes=parsed("--metered", _metered, metered),
        monthly_bytes=parsed("--monthly-budget", parse_size, monthly_budget)
        if monthly_budget is not None
        else None,
        on_failure=on_failure,
    )
    with open_home(home, database, store) as opened:
        rollout = operations.create(
            opened.registry,
            model,
            target,
            parsed("--phase", parse_phases, phases or ["100%"]),
            policy,
            channel=channel,
            groups=[parsed("--group", parse_pair, group) for group in groups or []],
            base=base if base is not None else ...,
        )
        _print(report_of(opened.registry, rollout), as_json_)


@app.command()
def start(
    home: HomeArgument,
    rollout: RolloutArgument,
    at: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"],
            help="Start then, in UTC, instead of now.",
        ),
    ] = None,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Begin the first phase, once every blob of the generation was read and verified.

    Example: ota-server rollout start srv 3f9a

    Example: ota-server rollout start srv 3f9a --at 2026-03-01T02:00
    """
    with open_home(home, database, store) as opened:
        found = opened.registry.rollouts.find(rollout)
        starts_at = at.replace(tzinfo=UTC) if at is not None else None
        with Console(stderr=True).status("reading every blob, and rolling chains up"):
            changed = operations.start(opened, found, utc_now(), starts_at)
        _print(report_of(opened.registry, changed), as_json_)


@app.command()
def pause(
    home: HomeArgument,
    rollout: RolloutArgument,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Offer it to no further device; devices under way stop where they still can.

    Example: ota-server rollout pause srv 3f9a
    """
    _change(operations.pause, home, rollout, as_json_, database, store)


@app.command()
def resume(
    home: HomeArgument,
    rollout: RolloutArgument,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Go on with a paused rollout; failures until now count no more.

    Example: ota-server rollout resume srv 3f9a
    """
    _change(operations.resume, home, rollout, as_json_, database, store)


@app.command()
def abort(
    home: HomeArgument,
    rollout: RolloutArgument,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """End a rollout for good; devices keep what they run (see `ota-server rollback`).

    Example: ota-server rollout abort srv 3f9a
    """
    _change(operations.abort, home, rollout, as_json_, database, store)


@app.command()
def status(
    home: HomeArgument,
    rollout: RolloutArgument,
    is_watched: Annotated[
        bool, typer.Option("--watch", help="Follow it until it has ended, or Ctrl-C.")
    ] = False,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Show how far a rollout is, and what failed.

    Example: ota-server rollout status srv 3f9a --watch
    """
    if is_watched and as_json_:
        raise typer.BadParameter("expected --watch or --json, found both")
    with open_home(home, database, store) as opened:
        found = opened.registry.rollouts.find(rollout)
        if is_watched:
            raise typer.Exit(watch(opened.registry, found.rollout_id, Console()))
        _print(report_of(opened.registry, found), as_json_)


@app.command("list")
def list_(
    home: HomeArgument,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="Of one model; else of all.")
    ] = None,
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """List rollouts, oldest first.

    Example: ota-server rollout list srv --json
    """
    with open_home(home, database, store) as opened:
        found = opened.registry.rollouts.all(model)
        reports = [report_of(opened.registry, rollout) for rollout in found]
    if as_json_:
        print(json.dumps({"rollouts": [as_json(report) for report in reports]}, indent=2))
    elif reports:
        Console().print(as_table(reports))
    else:
        print("no rollouts yet")


def rollback(
    home: HomeArgument,
    model: Annotated[str, typer.Option("--model", metavar="M", help="The line of generations.")],
    to: Annotated[
        int,
        typer.Option("--to", metavar="N", min=0, max=LARGEST_NUMBER, help="The older generation."),
    ],
    as_json_: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Publish an older generation's weights as the newest one, for a rollout to bring back.

    Example: ota-server rollback srv --model digits --to 4
    """
    with open_home(home, database, store) as opened:
        generation = roll_back(opened, model, to)
    if as_json_:
        facts = {"model": model, "generation": generation.number, "weights_of": to}
        print(json.dumps({**facts, "digest": generation.digest.hex()}))
        return
    print(f"generation {generation.number} of {model} has the weights of generation {to}")


def _change(
    operation: Callable[[Registry, Rollout, datetime], Rollout],
    home: Path,
    rollout: str,
    is_json: bool,
    database: str | None,
    store: str | None,
) -> None:
    with open_home(home, database, store) as opened:
        found = opened.registry.rollouts.find(rollout)
        changed = operation(opened.registry, found, utc_now())
        _print(report_of(opened.registry, changed), is_json)


def _metered(text: str) -> int | None:
    if text == ANY:
        return None
    return 0 if text == NEVER else parse_size(text)


def _print(report: Report, is_json: bool) -> None:
    if is_json:
        print(json.dumps(as_json(report), indent=2))
    else:
        Console().print(as_page(report, utc_now()))

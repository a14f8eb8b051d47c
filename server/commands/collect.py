"""`ota-server collect`: delete what nobody needs."""

import json
from datetime import timedelta
from typing import Annotated

import typer

from server.clock import utc_now
from server.collecting.collection import OLDER_THAN
from server.collecting.collection import collect as collect_files
from server.collecting.verdict import Verdict
from server.commands.options import (
    DatabaseOption,
    HomeArgument,
    JsonOption,
    StoreOption,
    open_home,
    parsed,
)
from server.rollouts.notation import parse_duration
from server.signing.roles import LISTED_GENERATIONS


def collect(
    home: HomeArgument,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be deleted, and why.")
    ] = False,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Younger files stay.")
    ] = f"{OLDER_THAN.days}d",
    newest: Annotated[
        int,
        typer.Option(
            "--keep", metavar="N", min=1, help="Newest generations that stay, whoever uses them."
        ),
    ] = LISTED_GENERATIONS,
    history: Annotated[
        str | None,
        typer.Option(
            "--history-older-than",
            metavar="AGE",
            help="Forget attempts and reports that ended before, but for open rollouts'.",
        ),
    ] = None,
    as_json: JsonOption = False,
    database: DatabaseOption = None,
    store: StoreOption = None,
) -> None:
    """Delete the files that no rollout and no device needs.

    What devices run stays, and whatever leads from there to where rollouts bring them. Servers
    may serve and publish meanwhile.

    Example: ota-server collect srv --dry-run

    Example: ota-server collect srv --older-than 2d --history-older-than 90d --json
    """
    age = parsed("--older-than", parse_duration, older_than)
    history_age = parsed("--history-older-than", parse_duration, history) if history else None
    now = utc_now()
    with open_home(home, database, store) as opened:
        verdict = collect_files(opened, now, older_than=age, newest=newest, dry_run=dry_run)
        forgotten = 0
        if history_age is not None and not dry_run:
            forgotten = opened.registry.collecting.forget_attempts(now - history_age, now)
    if as_json:
        print(json.dumps(_facts(verdict, dry_run, forgotten), indent=2))
        return
    for one in verdict.files:
        print(f"{one.file.length:>12,} B  {one.what}: {one.reason}")
    done = "would be deleted" if dry_run else "deleted"
    print(f"{done}: {len(verdict.files)} files, {verdict.freed_bytes:,} B")
    print(f"kept: {verdict.kept_files} files, {verdict.kept_bytes:,} B")
    if history_age is not None and not dry_run:
        print(f"forgotten: {forgotten} attempts older than {_days(history_age)}")


def _facts(verdict: Verdict, dry_run: bool, forgotten: int) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "files": [
            {
                "name": one.file.name,
                "bytes": one.file.length,
                "what": one.what,
                "reason": one.reason,
            }
            for one in verdict.files
        ],
        "freed_bytes": verdict.freed_bytes,
        "kept_files": verdict.kept_files,
        "kept_bytes": verdict.kept_bytes,
        "forgotten_attempts": forgotten,
    }


def _days(age: timedelta) -> str:
    return f"{age.days} d" if age.days else str(age)

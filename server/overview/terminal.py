"""`ota-server status`: an overview on a terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from server.overview.values import (
    DeviceState,
    Level,
    ModelOverview,
    Overview,
    SignatureLine,
    Spending,
)
from server.rollouts.report import Report, phase_of, waits_for
from server.status import GenerationStatus
from server.wording import about, minute, number_of, percent, printable, size

SHOWN_ROLLOUTS = 10
SHOWN_FAILURES = 10
MARKS = {Level.BAD: "[bold red]✗[/]", Level.LOOK: "[yellow]![/]"}


def print_overview(console: Console, overview: Overview) -> None:
    """Print what an operator wants to know first, then everything else in short."""
    for notice in overview.notices:
        console.print(f"{MARKS[notice.level]} {_text(notice.text)}")
    if not overview.models:
        console.print("no models yet")
        return
    console.print(_fleet(overview))
    console.print(_spending(overview.spending))
    console.print(_signing(overview))
    for model in overview.models:
        console.print(_model(model))
    if overview.rollouts.items:
        console.print(_rollouts(overview))
    if overview.failures:
        console.print(_failures(overview))


def _fleet(overview: Overview) -> str:
    fleet = overview.fleet
    found = [(fleet.states[state], state) for state in reversed(DeviceState)]
    states = ", ".join(f"{count:,} {state}" for count, state in found if count)
    parts = [number_of(fleet.devices, "device") + (f": {states}" if states else "")]
    if fleet.waiting.total:
        parts.append(f"{fleet.waiting.total:,} waiting to be accepted")
    if fleet.decommissioned:
        parts.append(f"{fleet.decommissioned:,} decommissioned")
    return "[bold]fleet[/]    " + "; ".join(parts)


def _spending(spending: Spending) -> str:
    text = f"{size(spending.spent_bytes)} in {spending.month:%Y-%m}"
    if spending.share is not None:
        text += (
            f"; {size(spending.limited_spent_bytes)} of the {size(spending.budget_bytes)} that "
            f"{number_of(spending.limited, 'device')} may ({percent(spending.share)})"
        )
    if spending.over:
        text += f"; {number_of(spending.over, 'device')} at or over the budget"
    return f"[bold]bytes[/]    {text}"


def _signing(overview: Overview) -> str:
    def line(signature: SignatureLine) -> str:
        distance = about(signature.expires_at - overview.at)
        return f"{signature.role} " + (
            f"expired {distance} ago" if signature.is_expired else distance
        )

    people, servers = (
        ", ".join(line(one) for one in overview.signatures if one.renews_itself is by_itself)
        for by_itself in (False, True)
    )
    return f"[bold]signed[/]   {people}; renewed by servers: {servers}"


def _model(model: ModelOverview) -> Table:
    status = model.status
    update, snapshot = (Column(header, no_wrap=True) for header in ("update", "snapshot"))
    table = Table("generation", "digest", update, snapshot, "devices", "published")
    table.title = f"{_text(status.model)}: head {status.head}"
    attempts = ", ".join(f"{n} {state}" for state, n in status.attempts.items())
    table.caption = f"{status.devices_without_model} devices without a model" + (
        f"; attempts: {attempts}" if attempts else ""
    )
    for row in status.generations:
        is_revoked = row.number in model.revoked
        table.add_row(
            f"{row.number}" + (" revoked" if is_revoked else ""),
            row.digest[:8],
            _sizes(row.updates),
            _sizes(row.snapshots),
            _devices(row, model.states.get(row.number, {})),
            row.published_at[:16].replace("T", " "),
        )
    return table


def _devices(row: GenerationStatus, states: Mapping[DeviceState, int]) -> str:
    lines = [f"{row.devices:,}"]
    lines += [
        f"{states[state]:,} {state}"
        for state in DeviceState
        if state in states and state is not DeviceState.STEADY
    ]
    return "\n".join(lines)


def _sizes(files: Mapping[str, int]) -> str:
    """One line for each coder."""
    return "\n".join(f"{coder} {length:,} B" for coder, length in files.items()) or "-"


def _rollouts(overview: Overview) -> Table:
    table = Table("rollout", "brings", "state", "phase", "on target", "failed", "waits for")
    reports = overview.rollouts.items[:SHOWN_ROLLOUTS]
    table.title = "rollouts"
    if overview.rollouts.total > len(reports):
        table.caption = f"{len(reports)} of {overview.rollouts.total:,}: `ota-server rollout list`"
    for report in reports:
        table.add_row(*_rollout(report, overview))
    return table


def _rollout(report: Report, overview: Overview) -> tuple[str, ...]:
    rollout = report.rollout
    return (
        rollout.rollout_id[:6],
        _text(f"{rollout.model} {rollout.target}"),
        str(rollout.state),
        phase_of(rollout),
        f"{report.on_target} of {rollout.progress.devices}",
        str(report.counts.failed),
        _text(waits_for(report, overview.at)),
    )


def _failures(overview: Overview) -> Table:
    table = Table("code", "model", "attempts", "devices", "since", "last")
    table.title = f"failures since {overview.failures_since:%Y-%m-%d}"
    for line in overview.failures[:SHOWN_FAILURES]:
        table.add_row(
            _text(line.code or "without a code"),
            _text(line.model),
            f"{line.attempts:,}",
            f"{line.devices:,}",
            minute(line.first_at),
            minute(line.last_at),
        )
    return table


def _text(text: str) -> str:
    """Whatever somebody else wrote: neither markup nor control characters."""
    return escape(printable(text))

"""A rollout as people and programs want to see it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from rich.markup import escape
from rich.table import Table

from server.clock import time_text
from server.registry import Registry
from server.rollouts.outlook import Outlook, outlook_of
from server.rollouts.rollout import Counts, OnFailure, Rollout
from server.rollouts.states import State
from server.wording import duration, minute, number_of, printable, size


@dataclass(frozen=True)
class Report:
    """A rollout, what its devices did, how their attempts failed, and who takes it back."""

    rollout: Rollout
    counts: Counts
    failures: dict[str, int]
    undone_by: str | None

    @property
    def outlook(self) -> Outlook:
        """What it waits for next."""
        return outlook_of(self.rollout, self.counts, self.undone_by)

    @property
    def on_target(self) -> int:
        """Devices of the phases so far that run the target, or a newer generation."""
        return self.rollout.progress.already + self.counts.on_target


def report_of(registry: Registry, rollout: Rollout) -> Report:
    """Look at a rollout."""
    undo = registry.rollouts.undoing(rollout.rollout_id)
    return Report(
        rollout,
        registry.rollouts.counts(rollout),
        registry.rollouts.failures(rollout.rollout_id),
        undo.rollout_id if undo is not None else None,
    )


def as_json(report: Report) -> dict[str, object]:
    """The fields of `rollout status --json`; times are ISO 8601, durations are seconds."""
    rollout, counts, progress = report.rollout, report.counts, report.rollout.progress
    policy = rollout.policy
    return {
        "rollout": rollout.rollout_id,
        "model": rollout.model,
        "channel": str(rollout.channel),
        "target": rollout.target,
        "base": rollout.base,
        "state": str(rollout.state),
        "reason": progress.reason,
        "phase": progress.phase + 1 if _has_begun(rollout) else None,
        "phases": [str(phase) for phase in rollout.phases],
        "phase_devices": progress.devices,
        "on_target": report.on_target,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "in_flight": counts.in_flight,
        "failures": report.failures,
        "groups": [f"{key}={value}" for key, value in rollout.groups],
        "only_from": rollout.only_from,
        "undoes": rollout.undoes,
        "undone_by": report.undone_by,
        "waits_for": {
            "text": report.outlook.text,
            "until": time_text(report.outlook.until),
            "devices_to_go": report.outlook.devices_to_go,
            "failures_to_pause": report.outlook.failures_to_pause,
            "needs_operator": report.outlook.needs_operator,
        },
        "starts_at": time_text(progress.starts_at),
        "entered_at": time_text(progress.entered_at),
        "created_at": time_text(rollout.created_at),
        "policy": {
            "success_threshold": policy.success_threshold,
            "failure_threshold": policy.failure_threshold,
            "minimum_sample": policy.minimum_sample,
            "soak_s": policy.soak.total_seconds(),
            "attempt_timeout_s": policy.attempt_timeout.total_seconds(),
            "maximum_attempts": policy.maximum_attempts,
            "maximum_in_flight": policy.maximum_in_flight,
            "windows": [str(window) for window in policy.windows],
            "metered_bytes": policy.metered_bytes,
            "monthly_bytes": policy.monthly_bytes,
            "on_failure": str(policy.on_failure),
        },
    }


def as_table(reports: Iterable[Report]) -> Table:
    """One line a rollout."""
    table = Table()
    for header in ("rollout", "model", "to", "state"):
        table.add_column(header, no_wrap=True)
    for header in ("phase", "on target", "failed"):
        table.add_column(header)
    for report in reports:
        rollout = report.rollout
        table.add_row(
            rollout.rollout_id,
            rollout.model,
            str(rollout.target),
            str(rollout.state),
            phase_of(rollout),
            _on_target(report),
            str(report.counts.failed),
        )
    return table


def as_page(report: Report, now: datetime | None = None) -> Table:
    """One rollout, one line a fact.

    Args:
        report: What to show.
        now: The time, to say how long it still takes until something; None: the time of it alone.
    """
    rollout = report.rollout
    coming_from = "nothing" if rollout.base is None else f"generation {rollout.base}"
    table = Table(show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in (
        ("rollout", rollout.rollout_id),
        ("brings", f"generation {rollout.target} of {rollout.model}, from {coming_from}"),
        ("to", ", ".join([str(rollout.channel), *(f"{k}={v}" for k, v in rollout.groups)])),
        ("state", str(rollout.state)),
        ("why", _why(report)),
        ("phase", phase_of(rollout)),
        ("on target", _on_target(report)),
        ("failed", str(report.counts.failed)),
        ("in flight", str(report.counts.in_flight)),
        ("rules", ", ".join(rules_of(rollout))),
        ("waits for", waits_for(report, now)),
    ):
        table.add_row(name, escape(value))
    return table


def as_line(report: Report) -> str:
    """One rollout in one line, which changes when something happens."""
    counts, text = report.counts, report.outlook.text
    parts = [
        f"{report.rollout.state}, phase {phase_of(report.rollout)}",
        f"{_on_target(report)} on target, {counts.failed} failed, {counts.in_flight} in flight",
        _why(report),
        f"waits for {text}" if text else "",
    ]
    return "; ".join(part for part in parts if part)


def rules_of(rollout: Rollout) -> list[str]:
    """The rules that a rollout is judged and held back by, each in a few words."""
    policy = rollout.policy
    rules = [
        f"{policy.success_threshold * 100:g} % must run it",
        f"pauses at over {policy.failure_threshold * 100:g} % failed",
        f"judged from {number_of(policy.minimum_sample, 'device')} on",
    ]
    if policy.soak:
        rules.append(f"soaks for {duration(policy.soak)}")
    if policy.maximum_in_flight is not None:
        rules.append(f"at most {policy.maximum_in_flight:,} at a time")
    if policy.windows:
        rules.append(f"only {', '.join(map(str, policy.windows))}")
    if policy.metered_bytes is not None:
        rules.append(f"on metered links {size(policy.metered_bytes)} at most")
    if policy.monthly_bytes is not None:
        rules.append(f"{size(policy.monthly_bytes)} a device and month")
    if policy.on_failure is OnFailure.ROLLBACK:
        rules.append("taken back if it fails")
    return rules


def waits_for(report: Report, now: datetime | None = None) -> str:
    """What comes next and when, for people; empty where nothing does."""
    outlook = report.outlook
    text = outlook.text
    if outlook.until is not None:
        text += f", {minute(outlook.until)} UTC"
        if now is not None:
            left = outlook.until - now
            text += f" (in {duration(left)})" if left.total_seconds() > 0 else " (now)"
    if outlook.failures_to_pause is not None:
        text += f"; {number_of(outlook.failures_to_pause, 'more failure')} would pause it"
    return text


def _on_target(report: Report) -> str:
    return f"{report.on_target} of {report.rollout.progress.devices}"


def _why(report: Report) -> str:
    codes = ", ".join(f"{n} {code or 'without a code'}" for code, n in report.failures.items())
    undone = f"taken back by {report.undone_by}" if report.undone_by else ""
    # Codes come from devices.
    parts = (report.rollout.progress.reason, printable(codes), undone)
    return "; ".join(part for part in parts if part)


def phase_of(rollout: Rollout) -> str:
    """The current phase among all of them; all, before the first has begun."""
    if not _has_begun(rollout):
        return " ".join(map(str, rollout.phases))
    return f"{rollout.progress.phase + 1}/{len(rollout.phases)} ({rollout.phase})"


def _has_begun(rollout: Rollout) -> bool:
    return rollout.progress.judged_since is not None and rollout.state is not State.DRAFT

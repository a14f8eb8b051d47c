"""An overview as HTML. Whatever somebody wrote is escaped by the template, always."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import accumulate

from jinja2 import Environment, PackageLoader, StrictUndefined

from server import wording
from server.overview.judgement import SILENT_AFTER
from server.overview.values import DeviceState, Level, ModelOverview, Overview
from server.registry.audit import AuditEntry
from server.rollouts.report import Report, rules_of, waits_for
from server.rollouts.states import State
from server.status import GenerationStatus
from server.web.paging import Places

PAGE, TROUBLE = "page.html", "trouble.html"
SHOWN_GENERATIONS = 8
LONGEST_DETAILS = 160
LONG_HEX = re.compile(r"\b([0-9a-f]{16})[0-9a-f]{16,}\b")
"""Keys and digests, of which people compare the beginning."""

STATE_CLASSES = {
    State.DRAFT: "quiet",
    State.SCHEDULED: "busy",
    State.RUNNING: "busy",
    State.PAUSED_MANUAL: "warn",
    State.PAUSED_THRESHOLD: "bad",
    State.PAUSED_SOAK: "busy",
    State.FINISHED: "good",
    State.ABORTED: "quiet",
}


@dataclass(frozen=True)
class Segment:
    """A piece of a bar, in percent of its width."""

    kind: str
    start: float
    width: float


def render(overview: Overview, places: Places) -> bytes:
    """The page.

    Args:
        overview: What to show.
        places: Which parts of long lists.
    """
    reports = overview.rollouts.items
    active = [report for report in reports if not report.rollout.state.is_final]
    ended = [report for report in reports if report.rollout.state.is_final]
    fleet, nearest = overview.fleet, overview.spending.nearest
    unseen = overview.rollouts.total - len(reports)
    return _page(
        PAGE,
        overview=overview,
        now=overview.at,
        fleet=fleet,
        spending=overview.spending,
        running=sum(report.rollout.state is State.RUNNING for report in reports),
        states=[(state, fleet.states[state]) for state in reversed(DeviceState)],
        active=places.cut("rollouts", active),
        ended=places.cut("ended", ended, len(ended) + unseen),
        look=places.cut("look", fleet.worth_a_look.items, fleet.worth_a_look.total),
        waiting=places.cut("waiting", fleet.waiting.items, fleet.waiting.total),
        nearest=places.cut("bytes", nearest.items, nearest.total),
        failures=places.cut("failures", overview.failures),
        most_failures=max((line.attempts for line in overview.failures), default=1),
        audit=places.cut("audit", overview.audit),
    )


def render_trouble(message: str) -> bytes:
    """The page when there is nothing to show."""
    return _page(TROUBLE, message=message)


def _page(name: str, **values: object) -> bytes:
    return _environment().get_template(name).render(**values).encode()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("server.web", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": wording.size,
        "minute": wording.minute,
        "percent": wording.percent,
        "printable": wording.printable,
        "about": wording.about,
        "details": details,
    }
    environment.filters["short"] = lambda text: LONG_HEX.sub(r"\1…", wording.printable(text))
    environment.globals |= {
        "number_of": wording.number_of,
        "segments_of": segments_of,
        "rollout_bar": rollout_bar,
        "state_class": STATE_CLASSES.__getitem__,
        "rules_of": rules_of,
        "waits_for": waits_for,
        "generations": generations,
        "devices_of": devices_of,
        "ago": ago,
        "has_begun": has_begun,
        "Level": Level,
        "DeviceState": DeviceState,
        "silent_after": wording.about(SILENT_AFTER),
    }
    return environment


def segments_of(parts: Iterable[tuple[str, float]], whole: float) -> list[Segment]:
    """Pieces of a bar, one after the other; nothing leaves it.

    Args:
        parts: (kind, amount).
        whole: The amount that fills the bar.
    """
    named = [(kind, max(0.0, amount)) for kind, amount in parts]
    scale = 100 / max(whole, sum(amount for _, amount in named), 1e-9)
    ends = accumulate(amount * scale for _, amount in named)
    return [
        Segment(kind, round(end - amount * scale, 2), round(amount * scale, 2))
        for (kind, amount), end in zip(named, ends, strict=True)
        if amount
    ]


def rollout_bar(report: Report) -> list[Segment]:
    """What became of the devices that the phases so far reach."""
    counts = report.counts
    parts = [
        ("steady", report.on_target),
        ("failed", counts.failed),
        ("updating", counts.in_flight),
    ]
    return segments_of(parts, report.rollout.progress.devices)


def has_begun(report: Report) -> bool:
    """Whether its first phase began."""
    return report.rollout.progress.judged_since is not None


def generations(
    model: ModelOverview,
) -> tuple[list[tuple[GenerationStatus | None, Mapping[DeviceState, int]]], int]:
    """The generations of a model to show, the newest first, and how many others there are.

    None stands for devices without any. Shown are the newest ones, and whichever devices run.
    """
    newest = list(reversed(model.status.generations))
    shown = newest[:SHOWN_GENERATIONS]
    shown += [one for one in newest[SHOWN_GENERATIONS:] if model.states.get(one.number)]
    shown = shown[: 3 * SHOWN_GENERATIONS]
    rows: list[tuple[GenerationStatus | None, Mapping[DeviceState, int]]] = [
        (one, model.states.get(one.number, {})) for one in shown
    ]
    if model.states.get(None):
        rows.append((None, model.states[None]))
    return rows, len(newest) - len(shown)


def devices_of(model: ModelOverview) -> int:
    """How many devices follow a model."""
    return sum(sum(found.values()) for found in model.states.values())


def ago(time: datetime, now: datetime) -> str:
    """How long ago a time was, or how far ahead it is."""
    distance = wording.about(now - time)
    return f"{distance} ago" if time <= now else f"in {distance}"


def details(entry: AuditEntry) -> str:
    """The details of an entry in one line, cut where they are long."""
    pairs = (f"{key} {value}" for key, value in entry.details.items() if value not in (None, ""))
    text = LONG_HEX.sub(r"\1…", wording.printable(", ".join(pairs)))
    return text if len(text) <= LONGEST_DETAILS else text[: LONGEST_DETAILS - 1] + "…"

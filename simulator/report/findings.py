"""What a run shows, in sentences with a number. Pure.

Where there is a target, a finding says whether it is met; a target that is missed is printed as
such, not left out. Distances are points (percentage points of the score) in the mean over seeds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from simulator.lines import Line, Variant
from simulator.report.rows import Row
from simulator.report.summary import Cell, Spread, Summary
from simulator.scores import Metric

AGREEMENT_POINTS = 0.2
"""How far device and server may lie apart for the same weights."""

PAIRS = (
    (Variant.BLC_SPARSE, Variant.PAPER_SPARSE),
    (Variant.BLC_HASH, Variant.PAPER_HASH),
    (Variant.BLC_SPARSE, Variant.SPARSE),
    (Variant.BLC_HASH, Variant.HASH),
)
"""A compressed model, and the diff that the paper's pattern puts above it."""


@dataclass(frozen=True)
class Finding:
    """What the run shows; `holds` is None where there is no target."""

    text: str
    holds: bool | None = None


def find(summary: Summary) -> tuple[Finding, ...]:
    """All findings of a run."""
    return (
        *_distances(summary),
        *_patterns(summary),
        *_notes(summary),
        *_agreement(summary),
        *_catch_ups(summary),
    )


def _distances(summary: Summary) -> Iterator[Finding]:
    """How far each line lies below BL where it is worst, and there below FT."""
    metric = summary.facts.metric
    for line in summary.lines:
        if line.variant in (Variant.BL, Variant.BL_INF):
            continue
        updates = [
            (cell, cell.below_bl)
            for cell in summary.cells
            if cell.line == line and cell.generation and cell.below_bl is not None
        ]
        if not updates:
            continue
        worst, below = max(updates, key=lambda update: update[1].mean)
        distance = _from(below, "BL", metric)
        text = f"{line.title}: {distance} at worst (generation {worst.generation})"
        if worst.below_ft is not None:
            text += f", there {_from(worst.below_ft, 'FT', metric)}"
        target = summary.facts.targets.get(str(line))
        if target is None:
            yield Finding(text)
        else:
            # Binary fractions must not decide at the target itself.
            yield Finding(f"{text}; target {target:g}", round(below.mean, 6) <= target)


def _from(points: Spread, of: str, metric: Metric) -> str:
    """0.8 points below BL (-0.3 to 1.2 by seed), or above; positive is worse."""
    side = metric.worse if points.mean >= 0 else metric.better
    text = f"{abs(points.mean):.1f} points {side} {of}"
    if points.min < points.max:
        text += f" ({points.min:+.1f} to {points.max:+.1f} by seed)"
    return text


def _patterns(summary: Summary) -> Iterator[Finding]:
    """The paper's pattern: a diff is better than a compressed model of its size."""
    for compressed, diff in PAIRS:
        sizes = [line.size for line in summary.lines if line.variant is diff]
        for size in sizes:
            gains = [
                (other.below_bl.mean - own.below_bl.mean, own.generation)
                for own, other in _paired(summary, Line(diff, size), Line(compressed, size))
                if own.below_bl is not None and other.below_bl is not None and own.generation
            ]
            if not gains:
                continue
            least, generation = min(gains)
            text = f"{Line(diff, size).title} against {Line(compressed, size).title}: "
            text += f"{least:+.1f} points at least (generation {generation})"
            yield Finding(f"{text}; the paper's pattern is more than 0", round(least, 6) > 0)


def _paired(summary: Summary, one: Line, other: Line) -> Iterator[tuple[Cell, Cell]]:
    for cell in summary.cells:
        beside = summary.cell(other, cell.generation)
        if cell.line == one and beside is not None:
            yield cell, beside


def _notes(summary: Summary) -> Iterator[Finding]:
    """What recipes say of themselves, once a line."""
    said = {(row.line, row.note): None for row in summary.rows if row.note}
    for line, note in said:
        yield Finding(f"{line.title} chose {note}")


def _agreement(summary: Summary) -> Iterator[Finding]:
    in_int8 = [row for row in summary.rows if row.line.variant.traits.is_quantised]
    in_float = [row for row in summary.rows if row not in in_int8]
    if in_int8:
        text = f"in int8 device and server differ by at most {_apart(in_int8):.2f} points"
        yield Finding(f"{text}: the device rounds activations, too")
    apart = _apart(in_float)
    text = f"device and server differ by at most {apart:.2f} points for the same weights"
    if summary.facts.metric is Metric.WER:
        yield Finding(f"{text}: beam search there, greedy search here")
    else:
        holds = round(apart, 6) <= AGREEMENT_POINTS
        yield Finding(f"{text}; target {AGREEMENT_POINTS}", holds)
    equal = sum(row.digest_ok for row in summary.rows)
    yield Finding(
        f"{equal} of {len(summary.rows)} rebuilt weights have the server's digest",
        equal == len(summary.rows),
    )


def _apart(rows: list[Row]) -> float:
    return max((100 * abs(row.device_score - row.server_score) for row in rows), default=0.0)


def _catch_ups(summary: Summary) -> Iterator[Finding]:
    for catch_up in summary.catch_ups:
        missed = catch_up.to_generation - catch_up.from_generation - 1
        yield Finding(
            f"seed {catch_up.seed}: a device that missed {_count(missed, 'generation')} caught up "
            f"from {catch_up.from_generation} to {catch_up.to_generation} in one update "
            f"({_count(catch_up.steps, 'diff')}, {catch_up.wire_bytes:,} bytes on the wire), "
            + ("to the same digest" if catch_up.digest_ok else "to ANOTHER digest"),
            catch_up.digest_ok,
        )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"

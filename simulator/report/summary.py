"""Reduce the rows of a run: spread over seeds, and what the run shows. Pure.

A finding is a sentence with a number and, where there is a target, whether it is met; a target
that is missed is printed as such, not left out.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from simulator.errors import RunFolderError
from simulator.report.rows import Row
from simulator.scenario import TITLES, Variant

SUMMARY = "summary.json"

SPARSE_GAP_POINTS = 2.5
"""How far below BL a sparse diff may lie."""
AGREEMENT_POINTS = 0.2
"""How far device and server may lie apart for the same weights."""


@dataclass(frozen=True)
class RunFacts:
    """Where the numbers of a run come from.

    Attributes:
        test_speech_is_real: Recordings of people, not synthesis.
        environment: Commit, machine and versions, by name.
    """

    scenario: str
    description: str
    test_speech_is_real: bool
    corpus: str
    corpus_digest: str
    test_speakers_unheard: bool
    seeds: tuple[int, ...]
    budget: str
    budget_bytes: int
    model: str
    parameters: int
    steps: Mapping[str, int]
    command: str
    started_at: str
    seconds: float
    environment: Mapping[str, str]

    @property
    def speech_title(self) -> str:
        """REAL or SYNTHETIC, as every table says it."""
        return "REAL recordings" if self.test_speech_is_real else "SYNTHETIC"


@dataclass(frozen=True)
class CatchUp:
    """A device that missed generations and came back.

    Attributes:
        steps: Diffs that its one update consisted of.
        other_digest: Of the device that took every update.
    """

    seed: int
    variant: Variant
    from_generation: int
    to_generation: int
    steps: int
    wire_bytes: int
    digest: str
    other_digest: str
    accuracy: float

    @property
    def digest_ok(self) -> bool:
        """It holds the same weights as the device that missed nothing."""
        return self.digest == self.other_digest


@dataclass(frozen=True)
class Spread:
    """Mean and range over seeds."""

    mean: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Over one value or more."""
        return cls(statistics.fmean(values), min(values), max(values))


@dataclass(frozen=True)
class Cell:
    """One variant at one generation, over all seeds; None where nothing was sent."""

    generation: int
    variant: Variant
    added: tuple[str, ...]
    seeds: int
    device_accuracy: Spread
    server_accuracy: Spread
    file_bytes: Spread | None
    file_ratio: Spread | None
    bytes_sent: Spread | None
    bytes_received: Spread | None
    wire_bytes: Spread | None
    nominal_ratio: Spread | None
    apply_s: Spread | None
    peak_bytes: Spread | None
    digest_ok: bool


@dataclass(frozen=True)
class Finding:
    """What the run shows; `holds` is None where there is no target."""

    text: str
    holds: bool | None = None


@dataclass(frozen=True)
class Summary:
    """All that the report says."""

    facts: RunFacts
    cells: tuple[Cell, ...]
    catch_ups: tuple[CatchUp, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """As summary.json holds it."""
        test_speech = "real" if self.facts.test_speech_is_real else "synthetic"
        return {"test_speech": test_speech} | asdict(self)


def summarise(facts: RunFacts, rows: Iterable[Row], catch_ups: Iterable[CatchUp]) -> Summary:
    """Reduce the rows: generations in order, variants in the order of the paper's table."""
    rows, catch_ups = tuple(rows), tuple(catch_ups)
    order = list(Variant)
    keys = sorted({(r.generation, order.index(r.variant)) for r in rows})
    cells = tuple(
        _cell([r for r in rows if (r.generation, order.index(r.variant)) == key]) for key in keys
    )
    return Summary(facts, cells, catch_ups, tuple(_findings(rows, cells, catch_ups)))


def write_summary(folder: Path, summary: Summary) -> None:
    """Write summary.json, whole or not at all."""
    unfinished = folder / (SUMMARY + ".new")
    text = json.dumps(summary.to_json(), indent=1, ensure_ascii=False)
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.rename(folder / SUMMARY)


def read_facts(folder: Path) -> tuple[RunFacts, tuple[CatchUp, ...]]:
    """Read from summary.json what does not follow from the rows.

    Raises:
        RunFolderError: there is none, or it cannot be read.
    """
    path = folder / SUMMARY
    if not path.is_file():
        raise RunFolderError(f"{folder}: expected a run's folder with {SUMMARY}, found none")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        facts = RunFacts(**content["facts"] | {"seeds": tuple(content["facts"]["seeds"])})
        catch_ups = tuple(
            CatchUp(**entry | {"variant": Variant(entry["variant"])})
            for entry in content["catch_ups"]
        )
    except (KeyError, ValueError, TypeError) as error:
        raise RunFolderError(f"{path}: expected the summary of a run") from error
    return facts, catch_ups


def _cell(rows: Sequence[Row]) -> Cell:
    def spread(value: Callable[[Row], float | None]) -> Spread | None:
        values = [value(row) for row in rows]
        present = [number for number in values if number is not None]
        return Spread.of(present) if present else None

    return Cell(
        generation=rows[0].generation,
        variant=rows[0].variant,
        added=rows[0].added,
        seeds=len(rows),
        device_accuracy=Spread.of([row.device_accuracy for row in rows]),
        server_accuracy=Spread.of([row.server_accuracy for row in rows]),
        file_bytes=spread(lambda row: row.file_bytes),
        file_ratio=spread(lambda row: row.file_ratio),
        bytes_sent=spread(lambda row: row.bytes_sent),
        bytes_received=spread(lambda row: row.bytes_received),
        wire_bytes=spread(lambda row: row.wire_bytes),
        nominal_ratio=spread(lambda row: row.nominal_ratio),
        apply_s=spread(lambda row: row.apply_s),
        peak_bytes=spread(lambda row: row.peak_bytes),
        digest_ok=all(row.digest_ok for row in rows),
    )


def _findings(
    rows: Sequence[Row], cells: Sequence[Cell], catch_ups: Sequence[CatchUp]
) -> Iterable[Finding]:
    for variant in (Variant.SPARSE, Variant.HASH, Variant.BLC):
        points = {
            generation: 100 * (own.mean - best.mean)
            for generation, best, own in _pairs(cells, Variant.BL, variant)
            if generation > 0
        }
        if points:
            worst = min(points, key=lambda generation: points[generation])
            text = f"{TITLES[variant]} against BL on the device: {points[worst]:+.1f} points"
            text += f" at worst (generation {worst})"
            if variant is Variant.SPARSE:
                # Binary fractions must not decide at the target itself.
                holds = round(points[worst], 6) >= -SPARSE_GAP_POINTS
                yield Finding(f"{text}; target {-SPARSE_GAP_POINTS}", holds)
            else:
                yield Finding(text)
    apart = max(100 * abs(row.device_accuracy - row.server_accuracy) for row in rows)
    yield Finding(
        f"device and server differ by at most {apart:.2f} points for the same weights; "
        f"target {AGREEMENT_POINTS}",
        round(apart, 6) <= AGREEMENT_POINTS,
    )
    equal = sum(row.digest_ok for row in rows)
    yield Finding(
        f"{equal} of {len(rows)} rebuilt weights have the server's digest", equal == len(rows)
    )
    for catch_up in catch_ups:
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


def _pairs(
    cells: Sequence[Cell], one: Variant, other: Variant
) -> Iterable[tuple[int, Spread, Spread]]:
    """(generation, accuracy of one, accuracy of the other) where both were measured."""
    by_key = {(cell.generation, cell.variant): cell.device_accuracy for cell in cells}
    for generation in sorted({cell.generation for cell in cells}):
        if (generation, one) in by_key and (generation, other) in by_key:
            yield generation, by_key[generation, one], by_key[generation, other]

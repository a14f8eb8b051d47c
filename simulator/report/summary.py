"""Reduce the rows of a run over its seeds. Pure.

A score's distance from BL and from FT is taken seed by seed, and then averaged: the same seed
begins with the same generation 0.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from simulator.lines import Line, Variant
from simulator.report.facts import CatchUp, RunFacts
from simulator.report.rows import Row


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

    @classmethod
    def of_known(cls, values: Iterable[float | None]) -> "Spread | None":
        """Over the values that are known; None where none is."""
        known = [value for value in values if value is not None]
        return cls.of(known) if known else None


@dataclass(frozen=True)
class Cell:
    """One line at one generation, over all seeds; None where nothing was sent.

    Attributes:
        below_bl: Points below BL of the same seed and generation; negative: above.
        below_ft: The same, below FT.
    """

    generation: int
    variant: Variant
    size: str | None
    added: tuple[str, ...]
    seeds: int
    device_score: Spread
    server_score: Spread
    below_bl: Spread | None
    below_ft: Spread | None
    file_bytes: Spread | None
    file_ratio: Spread | None
    paper_bytes: Spread | None
    bytes_sent: Spread | None
    bytes_received: Spread | None
    wire_bytes: Spread | None
    nominal_ratio: Spread | None
    apply_s: Spread | None
    peak_bytes: Spread | None
    digest_ok: bool

    @property
    def line(self) -> Line:
        """What was measured."""
        return Line.named(self.variant, self.size)


@dataclass(frozen=True)
class Summary:
    """The numbers of a report.

    Attributes:
        cells: Generations in order, lines in the order of tables.
    """

    facts: RunFacts
    cells: tuple[Cell, ...]
    rows: tuple[Row, ...]
    catch_ups: tuple[CatchUp, ...]

    @property
    def lines(self) -> tuple[Line, ...]:
        """Every line once, in the order of tables."""
        return tuple(sorted({cell.line for cell in self.cells}, key=lambda line: line.order))

    def cell(self, line: Line, generation: int) -> Cell | None:
        """A line at a generation; None where it was not measured."""
        found = (c for c in self.cells if (c.line, c.generation) == (line, generation))
        return next(found, None)

    @property
    def wrong_digests(self) -> int:
        """Devices that hold other weights than they should."""
        wrong = sum(not row.digest_ok for row in self.rows)
        return wrong + sum(not catch_up.digest_ok for catch_up in self.catch_ups)


def summarise(facts: RunFacts, rows: Iterable[Row], catch_ups: Iterable[CatchUp]) -> Summary:
    """Reduce the rows."""
    rows = tuple(rows)
    groups: dict[tuple[int, Line], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.generation, row.line), []).append(row)
    scores = {(row.line, row.generation, row.seed): row.device_score for row in rows}
    cells = (
        _cell(groups[key], scores) for key in sorted(groups, key=lambda key: (key[0], key[1].order))
    )
    return Summary(facts, tuple(cells), rows, tuple(catch_ups))


def _cell(rows: Sequence[Row], scores: Mapping[tuple[Line, int, int], float]) -> Cell:
    def spread(value: Callable[[Row], float | None]) -> Spread | None:
        return Spread.of_known(value(row) for row in rows)

    def below(variant: Variant) -> Spread | None:
        if rows[0].variant is variant:
            return None
        best = (scores.get((Line(variant), row.generation, row.seed)) for row in rows)
        return Spread.of_known(
            None if score is None else row.metric.points_below(score, row.device_score)
            for row, score in zip(rows, best, strict=True)
        )

    return Cell(
        generation=rows[0].generation,
        variant=rows[0].variant,
        size=rows[0].size,
        added=rows[0].added,
        seeds=len(rows),
        device_score=Spread.of([row.device_score for row in rows]),
        server_score=Spread.of([row.server_score for row in rows]),
        below_bl=below(Variant.BL),
        below_ft=below(Variant.FT),
        file_bytes=spread(lambda row: row.file_bytes),
        file_ratio=spread(lambda row: row.file_ratio),
        paper_bytes=spread(lambda row: row.paper_bytes),
        bytes_sent=spread(lambda row: row.bytes_sent),
        bytes_received=spread(lambda row: row.bytes_received),
        wire_bytes=spread(lambda row: row.wire_bytes),
        nominal_ratio=spread(lambda row: row.nominal_ratio),
        apply_s=spread(lambda row: row.apply_s),
        peak_bytes=spread(lambda row: row.peak_bytes),
        digest_ok=all(row.digest_ok for row in rows),
    )

"""Score against bytes: a curve for each variant, and the best method of each size. Pure.

A point is a line over all its updates (generations 1 and later): the mean of each seed, then mean
and range over seeds. The paper's sparse diffs have a second curve, with the bytes of the paper's
own format (float32 value and int32 index). LoRA's bytes are counted as factors in float16.
"""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from simulator.lines import Line, Size, Variant
from simulator.report.rows import Row
from simulator.report.summary import Spread, Summary

CHOICES = (Variant.SPARSE, Variant.HASH, Variant.LOWRANK)
"""What `auto` chooses among."""


@dataclass(frozen=True)
class Point:
    """A line over all its updates.

    Attributes:
        bytes: Of a file.
        score: On the device.
        below_bl: Points below BL; None where BL was not run.
    """

    size: str | None
    bytes: Spread
    score: Spread
    below_bl: Spread | None


@dataclass(frozen=True)
class Curve:
    """The points of a variant, the largest first.

    Attributes:
        is_counted: The bytes are not those of our file: they are counted, at 8 a non-zero as in
            the paper's format, or for LoRA as factors in float16.
    """

    variant: Variant
    is_counted: bool
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        """For a legend."""
        form = "factors in float16" if self.variant is Variant.LORA else "in the paper's format"
        return self.variant.traits.title + (f", {form}" if self.is_counted else "")


@dataclass(frozen=True)
class Ranked:
    """A method at a size, and how good it was there."""

    variant: Variant
    score: float
    below_bl: float
    bytes: float


@dataclass(frozen=True)
class BestAtSize:
    """The methods of one size, the best first; of equal ones, the smaller file."""

    size: str
    share: float
    ranking: tuple[Ranked, ...]


def curves(summary: Summary) -> tuple[Curve, ...]:
    """Of every variant that sent something, in the order of tables."""
    return tuple(_curves(summary))


def _curves(summary: Summary) -> Iterator[Curve]:
    for variant in Variant:
        lines = [line for line in summary.lines if line.variant is variant]
        files = _points(summary, lines, lambda row: row.file_bytes)
        if files and variant is not Variant.LORA:
            yield Curve(variant, False, files)
        if files and variant in (Variant.BLC_SPARSE, Variant.PAPER_SPARSE, Variant.LORA):
            yield Curve(variant, True, _points(summary, lines, lambda row: row.paper_bytes))


def _points(
    summary: Summary, lines: list[Line], size: Callable[[Row], int | None]
) -> tuple[Point, ...]:
    points = []
    for line in lines:
        updates = [row for row in summary.rows if row.line == line and row.generation]
        weights = [sent for row in updates if (sent := size(row)) is not None]
        if len(weights) < len(updates) or not updates:
            continue
        points.append(
            Point(
                size=None if line.size is None else str(line.size),
                bytes=_over_seeds(updates, size),
                score=_over_seeds(updates, lambda row: row.device_score),
                below_bl=_below_bl(summary, updates),
            )
        )
    return tuple(sorted(points, key=lambda point: -point.bytes.mean))


def _over_seeds(rows: list[Row], value: Callable[[Row], float | None]) -> Spread:
    """Mean and range over seeds of the mean over generations."""
    by_seed: dict[int, list[float]] = {}
    for row in rows:
        by_seed.setdefault(row.seed, []).append(value(row) or 0.0)
    return Spread.of([statistics.fmean(values) for values in by_seed.values()])


def _below_bl(summary: Summary, updates: list[Row]) -> Spread | None:
    best = {
        (row.seed, row.generation): row.device_score
        for row in summary.rows
        if row.variant is Variant.BL
    }
    if any((row.seed, row.generation) not in best for row in updates):
        return None
    return _over_seeds(
        updates,
        lambda row: row.metric.points_below(best[row.seed, row.generation], row.device_score),
    )


def best_at_sizes(summary: Summary) -> tuple[BestAtSize, ...]:
    """Which of the methods that `auto` chooses among was best, for every size in bytes.

    Sizes at which fewer than two of them ran are left out, and so is a run without BL.
    """
    ranked: dict[str, list[Ranked]] = {}
    for curve in curves(summary):
        if curve.variant not in CHOICES:
            continue
        for point in curve.points:
            if point.below_bl is not None:
                mean = point.below_bl.mean
                method = Ranked(curve.variant, point.score.mean, mean, point.bytes.mean)
                ranked.setdefault(str(point.size), []).append(method)
    best = [
        BestAtSize(
            size=size,
            share=float(Size.parse(size).share),
            ranking=tuple(sorted(methods, key=lambda m: (round(m.below_bl, 6), m.bytes))),
        )
        for size, methods in ranked.items()
        if len(methods) > 1 and not Size.parse(size).is_nominal
    ]
    return tuple(sorted(best, key=lambda one: -one.share))

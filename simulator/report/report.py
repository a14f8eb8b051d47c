"""All that a report says, from the rows of a run. Pure."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from simulator.report.curves import BestAtSize, Curve, best_at_sizes, curves
from simulator.report.facts import CatchUp, RunFacts
from simulator.report.findings import Finding, find
from simulator.report.rows import Row
from simulator.report.summary import Summary, summarise


@dataclass(frozen=True)
class Report:
    """What tables, page and JSON are made of."""

    summary: Summary
    findings: tuple[Finding, ...]
    curves: tuple[Curve, ...]
    best_at_sizes: tuple[BestAtSize, ...]

    @property
    def facts(self) -> RunFacts:
        """Where the numbers come from."""
        return self.summary.facts

    def to_json(self) -> dict[str, Any]:
        """As summary.json holds it; the rows have a file of their own."""
        return {
            "test_speech": "real" if self.facts.test_speech_is_real else "synthetic",
            "facts": asdict(self.facts),
            "cells": [asdict(cell) for cell in self.summary.cells],
            "catch_ups": [asdict(catch_up) for catch_up in self.summary.catch_ups],
            "findings": [asdict(finding) for finding in self.findings],
            "curves": [asdict(curve) for curve in self.curves],
            "best_at_sizes": [asdict(one) for one in self.best_at_sizes],
        }

    def measured(self) -> dict[str, Any]:
        """What recipe `auto` chooses by, in the form of server/training/measured.json."""
        facts = self.facts
        seeds = ", ".join(map(str, facts.seeds))
        speech = "real" if facts.test_speech_is_real else "synthetic"
        return {
            "source": f"{facts.scenario}, {speech} test speech, seeds {seeds}, "
            f"commit {facts.environment.get('commit', 'unknown')}",
            "rows": [
                {
                    "task": facts.task,
                    "ratio": round(one.share, 7),
                    "points_below_bl": {m.variant: round(m.below_bl, 3) for m in one.ranking},
                }
                for one in self.best_at_sizes
            ],
        }


def make_report(facts: RunFacts, rows: Iterable[Row], catch_ups: Iterable[CatchUp]) -> Report:
    """Reduce the rows of a run, and find what they show."""
    summary = summarise(facts, rows, catch_ups)
    return Report(summary, find(summary), curves(summary), best_at_sizes(summary))

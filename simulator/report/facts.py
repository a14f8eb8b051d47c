"""Where the numbers of a run come from, and what its late devices did."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from simulator.errors import RunFolderError, ScenarioError
from simulator.lines import Line, Variant
from simulator.scores import Metric

SUMMARY = "summary.json"


@dataclass(frozen=True)
class RunFacts:
    """Where the numbers of a run come from.

    Attributes:
        test_speech_is_real: Recordings of people, not synthesis.
        known: What each generation knows, as the paper's table says it: "4" domains, "60 %".
        known_title: What `known` counts: "# domains".
        targets: Most points below BL, by line ("sparse 1/100").
        environment: Commit, machine and versions, by name.
    """

    scenario: str
    description: str
    task: str
    metric: Metric
    test_speech_is_real: bool
    corpus: str
    corpus_digest: str
    test_speakers_unheard: bool
    known: tuple[str, ...]
    known_title: str
    seeds: tuple[int, ...]
    sizes: tuple[str, ...]
    targets: Mapping[str, float]
    model: str
    parameters: int
    batch_size: int
    steps: Mapping[str, int]
    command: str
    started_at: str
    seconds: float
    environment: Mapping[str, str]

    @property
    def speech_title(self) -> str:
        """REAL or SYNTHETIC, as every table says it."""
        return "REAL recordings" if self.test_speech_is_real else "SYNTHETIC"

    @property
    def title(self) -> str:
        """What was run, on which speech, over how many seeds."""
        seeds = f"{len(self.seeds)} seed" + ("s" if len(self.seeds) > 1 else "")
        return (
            f"{self.scenario} · test speech: {self.speech_title} · "
            f"{self.parameters:,} parameters · {seeds}"
        )


@dataclass(frozen=True)
class CatchUp:
    """A device that missed generations and came back.

    Attributes:
        steps: Diffs that its one update consisted of.
        other_digest: Of the device that took every update.
    """

    seed: int
    variant: Variant
    size: str | None
    from_generation: int
    to_generation: int
    steps: int
    wire_bytes: int
    digest: str
    other_digest: str
    score: float

    @property
    def digest_ok(self) -> bool:
        """It holds the same weights as the device that missed nothing."""
        return self.digest == self.other_digest


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
        facts = content["facts"]
        tuples = {name: tuple(facts[name]) for name in ("known", "seeds", "sizes")}
        read = RunFacts(**facts | tuples | {"metric": Metric(facts["metric"])})
        catch_ups = tuple(_catch_up(entry) for entry in content["catch_ups"])
    except (KeyError, ValueError, TypeError, ScenarioError) as error:
        raise RunFolderError(f"{path}: expected the summary of a run") from error
    return read, catch_ups


def _catch_up(entry: Mapping[str, object]) -> CatchUp:
    known = {field.name: entry[field.name] for field in fields(CatchUp)}
    line = Line.named(str(entry["variant"]), None)
    return CatchUp(**known | {"variant": line.variant})  # type: ignore[arg-type]

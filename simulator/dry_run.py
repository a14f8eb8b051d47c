"""What a run would do, without doing any of it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from simulator.corpora import made_corpus, synthetic_folder, synthetic_plan
from simulator.jobs import is_finished
from simulator.plan import RunPlan, jobs_of, make_plan
from simulator.run import RunOptions
from simulator.scenario import Scenario
from simulator.synthesis.corpus import CorpusPlan, assign_splits
from simulator.synthesis.speakers import draw_speakers
from speech.corpus import Corpus, Utterance


@dataclass(frozen=True)
class PlannedGeneration:
    """What a generation learns and is measured on."""

    generation: int
    added: tuple[str, ...]
    phrases: int
    train_recordings: int
    test_recordings: int


@dataclass(frozen=True)
class DryRun:
    """What a run would do.

    Attributes:
        lines: The most bytes of a file for each; None where bytes are not limited.
        jobs: By name, whether they are finished already.
    """

    scenario: str
    test_speech: str
    corpus: str
    model: str
    parameters: int
    seeds: tuple[int, ...]
    lines: dict[str, int | None]
    generations: tuple[PlannedGeneration, ...]
    jobs: dict[str, bool]

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def dry_run(scenario: Scenario, options: RunOptions) -> DryRun:
    """Look, and write nothing.

    Raises:
        ScenarioError, CorpusError: the run could not be done.
    """
    corpus = made_corpus(scenario, options.corpus, options.corpora)
    if corpus is not None:
        plan = make_plan(scenario, corpus)
    else:
        folder = synthetic_folder(scenario, options.corpora)
        plan = make_plan(scenario, intended_corpus(folder, synthetic_plan(scenario)), is_made=False)
    return DryRun(
        scenario=scenario.name,
        test_speech="real" if plan.corpus.is_real else "synthetic",
        corpus=str(plan.corpus.folder),
        model=scenario.model,
        parameters=plan.size.parameters,
        seeds=scenario.seeds,
        lines={str(line): line.budget_bytes(plan.size.float32_bytes) for line in scenario.lines},
        generations=tuple(_generations(plan)),
        jobs={job.name: is_finished(options.jobs, job.key) for job in jobs_of(plan.lines)},
    )


def intended_corpus(folder: Path, plan: CorpusPlan) -> Corpus:
    """A synthetic corpus as it will be; its files are not there yet."""
    speakers = draw_speakers(plan.speakers, plan.seed)
    splits = assign_splits(plan.speakers, plan.seed)
    utterances = (
        Utterance(folder / speaker.name, speaker.name, phrase.text, 0.0, split, phrase.domain)
        for index, (speaker, split) in enumerate(zip(speakers, splits, strict=True))
        for phrase in plan.texts(index)
    )
    return Corpus(folder, tuple(utterances), is_real=False)


def print_dry_run(planned: DryRun, console: Console) -> None:
    """Print the generations and the jobs."""
    table = Table(
        title=f"{planned.scenario} · test speech: {planned.test_speech.upper()} · "
        f"{planned.parameters:,} parameters · seeds {', '.join(map(str, planned.seeds))}",
        title_justify="left",
    )
    for heading in ("gen", "added", "phrases", "train recordings", "test recordings"):
        table.add_column(heading, justify="left" if heading == "added" else "right")
    for g in planned.generations:
        numbers = (f"{n:,}" for n in (g.phrases, g.train_recordings, g.test_recordings))
        table.add_row(str(g.generation), ", ".join(g.added), *numbers)
    console.print(table)
    lines = (
        name if budget is None else f"{name} ({budget:,} bytes)"
        for name, budget in planned.lines.items()
    )
    console.print(f"lines: {', '.join(lines)}", highlight=False)
    to_do = sum(not is_done for is_done in planned.jobs.values())
    console.print(f"corpus {planned.corpus}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{to_do} of {len(planned.jobs)} training jobs to do:", highlight=False)
    for name, is_done in planned.jobs.items():
        console.print(f"  {'finished' if is_done else 'to do   '}  {name}", highlight=False)


def _generations(plan: RunPlan) -> Iterator[PlannedGeneration]:
    for generation in range(plan.scenario.generations):
        part = plan.scenario.restrict(plan.corpus, generation)
        yield PlannedGeneration(
            generation,
            plan.scenario.evolution.added(generation),
            phrases=len(part.phrases()),
            train_recordings=len(part.split("train").utterances),
            test_recordings=len(part.split("test").utterances),
        )

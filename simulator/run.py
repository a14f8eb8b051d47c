"""A run: train, publish, update, recognise, measure, report.

    prepare the corpus -> train what is missing -> start the server -> for each model line:
    publish generation t, update the devices, let them recognise the test recordings

The server and the devices are processes of their own (`programs`); publishing goes through the
server's library, into the home that the server process serves.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulator.corpora import prepare_corpus
from simulator.environment import describe_environment
from simulator.job_runner import run_jobs
from simulator.jobs import Job, is_finished
from simulator.measure import Folders, measure_lines
from simulator.plan import CODE_OF_RESULTS, RunPlan, jobs_of, make_plan
from simulator.progress import Display
from simulator.report.facts import RunFacts
from simulator.report.page import write_report
from simulator.report.report import Report
from simulator.run_folder import ANSWERS, CORPORA, JOBS, begin_record, locked
from simulator.scenario import Scenario
from simulator.sources import source_digest


@dataclass(frozen=True)
class RunOptions:
    """How to run a scenario.

    Attributes:
        corpus: A given corpus folder; None where the scenario makes its own.
        out: Where everything goes.
        cache: Where trained generations, synthetic corpora and the answers of devices are kept,
            which other runs may share; None: in `out`.
        resume: Go on with what is in `out`.
        workers: Processes at a time.
        command: The command line, for the record.
    """

    corpus: Path | None
    out: Path
    cache: Path | None
    resume: bool
    workers: int
    command: str

    @property
    def jobs(self) -> Path:
        """The folders of the training jobs."""
        return (self.cache or self.out) / JOBS

    @property
    def answers(self) -> Path:
        """What devices answered."""
        return (self.cache or self.out) / ANSWERS

    @property
    def corpora(self) -> Path:
        """The synthetic corpora."""
        return (self.cache or self.out) / CORPORA


def run(scenario: Scenario, options: RunOptions, display: Display) -> Report:
    """Run a scenario from its corpus to its report.

    Raises:
        SimulatorError, CorpusError, AudioError, ServerError: one line says what to mend; finished
            jobs are kept.
    """
    started_at = datetime.now(UTC)
    with locked(options.out, options.resume):
        corpus = prepare_corpus(scenario, options.corpus, options.corpora, options.workers, display)
        plan = make_plan(scenario, corpus)
        jobs = jobs_of(plan.lines)
        _say_what_changed(plan, jobs, options, display)
        run_jobs(jobs, options.jobs, options.workers, display.watch_jobs(jobs))
        folders = Folders(options.jobs, options.answers, options.out)
        measured = measure_lines(plan, folders, options.workers, display)
        facts = describe_run(plan, options, started_at)
        return write_report(options.out, facts, measured.rows, measured.catch_ups)


def _say_what_changed(
    plan: RunPlan, jobs: Sequence[Job], options: RunOptions, display: Display
) -> None:
    """Compare with the run before, if there was one, and say what it means for its jobs."""
    now = plan.scenario.to_json() | {
        "corpus digest": plan.corpus.digest(),
        "code of training": source_digest(CODE_OF_RESULTS)[:12],
    }
    changes = begin_record(options.out, now)
    if not changes:
        return
    display.say(f"this run differs from the one before in {options.out}:")
    for change in changes:
        display.say(f"  {change}")
    fitting = sum(is_finished(options.jobs, job.key) for job in jobs)
    display.say(
        f"  {fitting} of {len(jobs)} jobs are finished and still fit; all others of before stay in "
        f"{options.jobs}"
    )


def describe_run(plan: RunPlan, options: RunOptions, started_at: datetime) -> RunFacts:
    """Where the numbers come from."""
    scenario, corpus = plan.scenario, plan.corpus
    heard = {u.speaker for u in corpus.split("train").utterances}
    targets = {str(line): scenario.target(line) for line in scenario.lines}
    return RunFacts(
        scenario=scenario.name,
        description=scenario.description,
        task=scenario.task,
        metric=scenario.metric,
        test_speech_is_real=corpus.is_real,
        corpus=str(corpus.folder),
        corpus_digest=corpus.digest(),
        test_speakers_unheard=heard.isdisjoint(u.speaker for u in corpus.split("test").utterances),
        known=tuple(scenario.evolution.known(number) for number in range(scenario.generations)),
        known_title=scenario.evolution.by.heading,
        seeds=scenario.seeds,
        sizes=tuple(str(size) for size in scenario.sizes),
        targets={name: points for name, points in targets.items() if points is not None},
        model=scenario.model,
        parameters=plan.size.parameters,
        batch_size=scenario.batch_size,
        steps={"default": scenario.steps.default, **scenario.steps.exceptions},
        command=options.command,
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=(datetime.now(UTC) - started_at).total_seconds(),
        environment=describe_environment(),
    )

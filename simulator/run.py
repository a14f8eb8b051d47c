"""A run: train, publish, update, recognise, measure, report.

    prepare the corpus -> train what is missing -> start the server -> for each model line:
    publish generation t, update the devices, let them recognise the test recordings

The server and the devices are processes of their own (`programs`); publishing goes through the
server's library, into the home that the server process serves.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from simulator.environment import describe_environment
from simulator.errors import RunFolderError, ScenarioError
from simulator.jobs import run_jobs
from simulator.measure import JOBS, measure_lines
from simulator.plan import RunPlan, jobs_of, make_plan
from simulator.progress import Display
from simulator.report.page import write_report
from simulator.report.rows import RESULTS
from simulator.report.summary import RunFacts, Summary
from simulator.scenario import Scenario, SyntheticSpeech
from simulator.synthesis.corpus import CorpusPlan, write_corpus
from simulator.synthesis.phrases import BUILTIN, Phrase, read_phrases, take_per_domain
from speech.corpus import MANIFEST, Corpus

CORPUS = "corpus"
LOCK = ".lock"


@dataclass(frozen=True)
class RunOptions:
    """How to run a scenario.

    Attributes:
        corpus: A given corpus folder; None where the scenario makes its own.
        out: Where everything goes.
        resume: Go on with what is in `out`.
        workers: Processes at a time.
        command: The command line, for the record.
    """

    corpus: Path | None
    out: Path
    resume: bool
    workers: int
    command: str


def run(scenario: Scenario, options: RunOptions, display: Display) -> Summary:
    """Run a scenario from its corpus to its report.

    Raises:
        SimulatorError, CorpusError, AudioError, ServerError: one line says what to mend; finished
            jobs are kept.
    """
    started_at = datetime.now(UTC)
    with locked(options.out, options.resume):
        plan = make_plan(scenario, prepare_corpus(scenario, options, display))
        jobs = jobs_of(plan.lines)
        run_jobs(jobs, options.out / JOBS, options.workers, display.watch_jobs(jobs))
        measured = measure_lines(plan, options.out, options.workers, display)
        facts = describe_run(plan, options, started_at)
        return write_report(options.out, facts, measured.rows, measured.catch_ups)


@contextmanager
def locked(out: Path, resume: bool) -> Iterator[None]:
    """Be the only run in a folder.

    Raises:
        RunFolderError: another run is at work there, or an earlier one was and `resume` is not
            asked for, or it holds something else, or it cannot be made.
    """
    try:
        if out.is_dir() and any(out.iterdir()) and not _is_run(out):
            raise RunFolderError(
                f"{out}: expected a new folder, an empty one or an earlier run's, "
                f"found other things: --out DIR chooses another"
            )
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as error:
        raise RunFolderError(f"{out}: expected a folder to write to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(f"{out}: another run is at work there") from error
        if not resume and ((out / JOBS).exists() or (out / RESULTS).exists()):
            raise RunFolderError(
                f"{out}: holds an earlier run; --resume goes on with it, --out DIR starts another"
            )
        yield


def _is_run(out: Path) -> bool:
    return any((out / name).exists() for name in (LOCK, JOBS, RESULTS))


def prepare_corpus(scenario: Scenario, options: RunOptions, display: Display) -> Corpus:
    """The given corpus, or the scenario's own, made where it is not there yet.

    Raises:
        ScenarioError: the scenario needs a corpus and none is given.
        CorpusError, SynthesisError
    """
    corpus = made_corpus(scenario, options)
    if corpus is not None:
        return corpus
    plan, folder = synthetic_plan(scenario), synthetic_folder(scenario, options)
    shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
    work = display.begin("synthetic speakers", plan.speakers)
    write_corpus(folder, plan, options.workers, lambda done, _count: work.advance(done))
    return Corpus.read(folder)


def made_corpus(scenario: Scenario, options: RunOptions) -> Corpus | None:
    """The corpus of a run, None where it is still to be made."""
    if options.corpus is not None:
        return Corpus.read(options.corpus)
    folder = synthetic_folder(scenario, options)
    return Corpus.read(folder) if (folder / MANIFEST).exists() else None


def synthetic_folder(scenario: Scenario, options: RunOptions) -> Path:
    """Where a run keeps the corpus that it makes."""
    return options.out / CORPUS / synthetic_plan(scenario).key()


def synthetic_plan(scenario: Scenario) -> CorpusPlan:
    """The corpus that a scenario makes by itself.

    Raises:
        ScenarioError: it makes none.
    """
    if scenario.speech is None:
        raise ScenarioError(f"scenario {scenario.name}: expected a corpus folder: --corpus DIR")
    return CorpusPlan(_phrases(scenario.speech), scenario.speech.speakers, scenario.speech.seed)


def describe_run(plan: RunPlan, options: RunOptions, started_at: datetime) -> RunFacts:
    """Where the numbers come from."""
    scenario, corpus = plan.scenario, plan.corpus
    heard = {u.speaker for u in corpus.split("train").utterances}
    return RunFacts(
        scenario=scenario.name,
        description=scenario.description,
        test_speech_is_real=corpus.is_real,
        corpus=str(corpus.folder),
        corpus_digest=corpus.digest(),
        test_speakers_unheard=heard.isdisjoint(u.speaker for u in corpus.split("test").utterances),
        seeds=scenario.seeds,
        budget=str(scenario.budget_ratio),
        budget_bytes=plan.budget_bytes,
        model=scenario.model,
        parameters=plan.size.parameters,
        steps=asdict(scenario.steps),
        command=options.command,
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=(datetime.now(UTC) - started_at).total_seconds(),
        environment=describe_environment(),
    )


def _phrases(speech: SyntheticSpeech) -> tuple[Phrase, ...]:
    phrases = read_phrases(BUILTIN)
    if speech.phrases_per_domain == 0:
        return phrases
    return take_per_domain(phrases, speech.phrases_per_domain)

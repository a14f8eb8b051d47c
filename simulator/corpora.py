"""The corpus of a run: given, or made by it and kept for the next run.

A synthetic corpus lies in a folder that is named by all that it depends on, so that runs that share
the place share the corpus.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from simulator.errors import RunFolderError, ScenarioError
from simulator.progress import Display
from simulator.scenario import Scenario, SyntheticSpeech
from simulator.synthesis.corpus import CorpusPlan, write_corpus
from simulator.synthesis.phrases import BUILTIN, Phrase, read_phrases, take_per_domain
from speech.corpus import MANIFEST, Corpus


def prepare_corpus(
    scenario: Scenario, given: Path | None, corpora: Path, workers: int, display: Display
) -> Corpus:
    """The given corpus, or the scenario's own, made where it is not there yet.

    Args:
        scenario: What it is for.
        given: A corpus folder; None where the scenario makes its own.
        corpora: Where those that are made are kept.
        workers: Speakers at a time.
        display: Told how far it is.

    Raises:
        ScenarioError: the scenario needs a corpus and none is given.
        CorpusError, SynthesisError, RunFolderError
    """
    if given is not None:
        return Corpus.read(given)
    plan, folder = synthetic_plan(scenario), synthetic_folder(scenario, corpora)
    with _only_maker(folder):
        if not (folder / MANIFEST).exists():
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted run left
            work = display.begin("synthetic speakers", plan.speakers)
            write_corpus(folder, plan, workers, lambda done, _count: work.advance(done))
    return Corpus.read(folder)


def made_corpus(scenario: Scenario, given: Path | None, corpora: Path) -> Corpus | None:
    """The corpus of a run, None where it is still to be made."""
    if given is not None:
        return Corpus.read(given)
    folder = synthetic_folder(scenario, corpora)
    return Corpus.read(folder) if (folder / MANIFEST).exists() else None


def synthetic_folder(scenario: Scenario, corpora: Path) -> Path:
    """Where the corpus is kept that a scenario makes."""
    return corpora / synthetic_plan(scenario).key()


def synthetic_plan(scenario: Scenario) -> CorpusPlan:
    """The corpus that a scenario makes by itself.

    Raises:
        ScenarioError: it makes none.
    """
    speech = scenario.speech
    if speech is None:
        raise ScenarioError(f"scenario {scenario.name}: expected a corpus folder: --corpus DIR")
    return CorpusPlan(
        _phrases(speech),
        speech.speakers,
        speech.seed,
        speech.sentences_per_speaker,
        speech.topics,
    )


def _phrases(speech: SyntheticSpeech) -> tuple[Phrase, ...]:
    if speech.phrases_per_domain is None:
        return ()
    phrases = read_phrases(BUILTIN)
    if speech.phrases_per_domain == 0:
        return phrases
    return take_per_domain(phrases, speech.phrases_per_domain)


@contextmanager
def _only_maker(folder: Path) -> Iterator[None]:
    """Wait until no other run makes this corpus."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.with_name(f"{folder.name}.lock").open("w")
    except OSError as error:
        raise RunFolderError(
            f"{folder.parent}: expected a folder to write to: {error.strerror}"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

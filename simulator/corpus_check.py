"""Look at a corpus folder: is every recording readable, and how many are there of what?"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speech.audio import read_audio
from speech.corpus import Corpus
from speech.errors import AudioError, CorpusError
from speech.utterances import Reading, Utterance

MOST_SPEAKERS_PRINTED = 30


@dataclass(frozen=True)
class Count:
    """How much there is of a split, a domain or a speaker."""

    recordings: int
    hours: float
    speakers: int


@dataclass(frozen=True)
class CorpusCheck:
    """What a corpus holds, and what is wrong with it, a line for each recording.

    Attributes:
        test_texts_in_train: Share of the test recordings whose text is also said in training.
        notes: What looks unusual and may be meant.
    """

    folder: str
    layout: str
    is_real: bool
    recordings: int
    hours: float
    texts: int
    speakers: int
    by_split: dict[str, Count]
    by_domain: dict[str, Count]
    by_speaker: dict[str, Count]
    speakers_in_train_and_test: tuple[str, ...]
    test_texts_in_train: float
    notes: tuple[str, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For --json: by_split and its like are recordings, hours_by_split ... beside them."""
        content = asdict(self)
        for column in ("split", "domain", "speaker"):
            counts: dict[str, Count] = getattr(self, f"by_{column}")
            content[f"by_{column}"] = {name: c.recordings for name, c in counts.items()}
            content[f"hours_by_{column}"] = {name: c.hours for name, c in counts.items()}
        content["speakers_by_split"] = {name: c.speakers for name, c in self.by_split.items()}
        return content


def check_corpus(folder: Path, reading: Reading, advance: Callable[[int], None]) -> CorpusCheck:
    """Open every recording.

    Args:
        folder: Where it was read.
        reading: What was found there, sound or not.
        advance: Told after each recording how many are done.
    """
    problems = list(reading.problems)
    try:
        corpus = Corpus.of(folder, reading)
    except CorpusError as error:
        corpus = Corpus(folder, reading.utterances, is_real=True, layout=reading.layout)
        problems.append(str(error))
    with ThreadPoolExecutor() as pool:
        for number, problem in enumerate(pool.map(_problem, corpus.utterances), start=1):
            if problem:
                problems.append(problem)
            advance(number)
    train, test = (corpus.split(split).utterances for split in ("train", "test"))
    both = {u.speaker for u in train} & {u.speaker for u in test}
    heard = {u.text for u in train}
    whole = _count(corpus.utterances)
    return CorpusCheck(
        folder=str(folder),
        layout=corpus.layout,
        is_real=corpus.is_real,
        recordings=whole.recordings,
        hours=whole.hours,
        texts=len(corpus.phrases()),
        speakers=whole.speakers,
        by_split=_counts(corpus, lambda u: u.split),
        by_domain=_counts(corpus, lambda u: u.domain),
        by_speaker=_counts(corpus, lambda u: u.speaker),
        speakers_in_train_and_test=tuple(sorted(both)),
        test_texts_in_train=sum(u.text in heard for u in test) / max(1, len(test)),
        notes=reading.notes,
        problems=tuple(problems),
    )


def print_check(check: CorpusCheck, console: Console) -> None:
    """Print the counts."""
    speech = "REAL recordings" if check.is_real else "SYNTHETIC"
    table = Table(
        title=escape(f"{check.folder} · layout: {check.layout} · speech: {speech}"),
        title_justify="left",
    )
    for heading in ("by", "value", "recordings", "hours", "speakers"):
        table.add_column(heading, justify="left" if heading in ("by", "value") else "right")
    counts = {"split": check.by_split, "domain": check.by_domain}
    if len(check.by_speaker) <= MOST_SPEAKERS_PRINTED:
        counts["speaker"] = check.by_speaker
    for column, values in counts.items():
        table.add_section()
        for number, (value, count) in enumerate(values.items()):
            numbers = (f"{count.recordings:,}", f"{count.hours:.2f}", f"{count.speakers:,}")
            table.add_row(column if number == 0 else "", escape(value) or "–", *numbers)
    console.print(table)
    both = len(check.speakers_in_train_and_test)
    overlap = (
        f"{both} speakers are in both train and test" if both else "no test speaker is in train"
    )
    lines = (
        f"{check.recordings:,} recordings, {check.hours:.2f} h, {check.speakers:,} speakers, "
        f"{check.texts:,} texts",
        f"{overlap}; {check.test_texts_in_train:.0%} of the test recordings have a text of train",
        *(f"note: {note}" for note in check.notes),
    )
    for line in lines:
        console.print(line, markup=False, highlight=False)


def _problem(utterance: Utterance) -> str:
    try:
        read_audio(utterance.path)
    except AudioError as error:
        return str(error)
    return ""


def _counts(corpus: Corpus, value: Callable[[Utterance], str]) -> dict[str, Count]:
    groups: dict[str, list[Utterance]] = {}
    for utterance in corpus.utterances:
        groups.setdefault(value(utterance), []).append(utterance)
    return {name: _count(groups[name]) for name in sorted(groups)}


def _count(utterances: Iterable[Utterance]) -> Count:
    chosen = tuple(utterances)
    hours = sum(u.seconds for u in chosen) / 3600
    return Count(len(chosen), hours, len({u.speaker for u in chosen}))

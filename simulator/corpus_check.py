"""Look at a corpus folder: is every recording readable, and how many are there of what?"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from speech.audio import read_audio
from speech.corpus import Corpus, Utterance
from speech.errors import AudioError


@dataclass(frozen=True)
class CorpusCheck:
    """What a corpus holds, and what is wrong with it, a line for each recording."""

    folder: str
    is_real: bool
    recordings: int
    hours: float
    texts: int
    by_split: dict[str, int]
    by_domain: dict[str, int]
    by_speaker: dict[str, int]
    speakers_in_train_and_test: tuple[str, ...]
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def check_corpus(corpus: Corpus, advance: Callable[[int], None]) -> CorpusCheck:
    """Open every recording.

    Args:
        corpus: Its manifest was read already, and found sound.
        advance: Told after each recording how many are done.
    """
    problems = []
    with ThreadPoolExecutor() as pool:
        for number, problem in enumerate(pool.map(_problem, corpus.utterances), start=1):
            if problem:
                problems.append(problem)
            advance(number)
    speakers = [{u.speaker for u in corpus.split(split).utterances} for split in ("train", "test")]
    return CorpusCheck(
        folder=str(corpus.folder),
        is_real=corpus.is_real,
        recordings=len(corpus.utterances),
        hours=sum(u.seconds for u in corpus.utterances) / 3600,
        texts=len(corpus.phrases()),
        by_split=_count(corpus, lambda u: u.split),
        by_domain=_count(corpus, lambda u: u.domain),
        by_speaker=_count(corpus, lambda u: u.speaker),
        speakers_in_train_and_test=tuple(sorted(set.intersection(*speakers))),
        problems=tuple(problems),
    )


def print_check(check: CorpusCheck, console: Console) -> None:
    """Print the counts."""
    speech = "REAL recordings" if check.is_real else "SYNTHETIC"
    table = Table(title=f"{check.folder} · speech: {speech}", title_justify="left")
    for heading in ("by", "value", "recordings"):
        table.add_column(heading, justify="right" if heading == "recordings" else "left")
    counts = {"split": check.by_split, "domain": check.by_domain, "speaker": check.by_speaker}
    for column, values in counts.items():
        table.add_section()
        for number, (value, count) in enumerate(values.items()):
            table.add_row(column if number == 0 else "", value or "–", f"{count:,}")
    console.print(table)
    both = len(check.speakers_in_train_and_test)
    console.print(
        f"{check.recordings:,} recordings, {check.hours:.2f} h, {check.texts:,} texts; "
        + (
            f"{both} speakers are in both train and test" if both else "no test speaker is in train"
        ),
        highlight=False,
    )


def _problem(utterance: Utterance) -> str:
    try:
        read_audio(utterance.path)
    except AudioError as error:
        return str(error)
    return ""


def _count(corpus: Corpus, value: Callable[[Utterance], str]) -> dict[str, int]:
    return dict(sorted(Counter(value(u) for u in corpus.utterances).items()))

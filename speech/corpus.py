"""Corpora: a folder with manifest.csv and audio, real or synthetic.

manifest.csv has the columns path, speaker, text, seconds and may have sample_rate, split,
domain, intent, timestamp. A split is train, val or test. Without test rows the val rows are
the test set; without a split column one is drawn by speaker, so that no test speaker was
heard in training. A folder is real speech unless its corpus.json says {"synthetic": true}.

    >>> corpus = Corpus.read(Path("fsdd"))
    >>> corpus.restrict(texts=["zero", "one"]).split("train").utterances[0].text
    'zero'
"""

import csv
import hashlib
import json
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from speech.errors import CorpusError

MANIFEST = "manifest.csv"
MARKER = "corpus.json"
NEEDED_COLUMNS = ("path", "speaker", "text", "seconds")
SPLITS = {
    "train": "train",
    "test": "test",
    "val": "val",
    # Names that public corpora use for the same thing.
    "valid": "val",
    "validation": "val",
    "dev": "val",
}
TEST_SHARE = 0.2
"""Share of the speakers that a drawn split keeps for testing."""


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it."""

    path: Path
    speaker: str
    text: str
    seconds: float
    split: str
    domain: str = ""
    intent: str = ""
    timestamp: str = ""


@dataclass(frozen=True)
class Corpus:
    """Utterances in the order of their manifest."""

    folder: Path
    utterances: tuple[Utterance, ...]
    is_real: bool

    @classmethod
    def read(cls, folder: Path) -> "Corpus":
        """Read a corpus folder; audio files are looked for, but not opened.

        Raises:
            CorpusError: no manifest, a needed column is missing, a row is broken or its file is
                missing, or there is nothing to train or to test on. The message names it.
        """
        manifest = folder / MANIFEST
        if not manifest.is_file():
            raise CorpusError(f"{folder}: expected a corpus folder with {MANIFEST}, found none")
        utterances = tuple(_read_manifest(manifest))
        if utterances and not utterances[0].split:
            utterances = draw_split(utterances)
        if not any(u.split == "test" for u in utterances):
            utterances = tuple(
                replace(u, split="test") if u.split == "val" else u for u in utterances
            )
        corpus = cls(folder, utterances, is_real=not _is_marked_synthetic(folder))
        for split in ("train", "test"):
            if not corpus.split(split).utterances:
                raise CorpusError(f"{manifest}: expected {split} rows, found none")
        return corpus

    def split(self, name: str) -> "Corpus":
        """The utterances of one split: train, val or test."""
        return self._where(lambda u: u.split == name)

    def restrict(
        self, *, texts: Collection[str] | None = None, domains: Collection[str] | None = None
    ) -> "Corpus":
        """The utterances with one of these texts and of one of these domains.

        Raises:
            CorpusError: a text or domain that is asked for does not occur in the corpus.
        """
        self._require("text", texts, {u.text for u in self.utterances})
        self._require("domain", domains, {u.domain for u in self.utterances})
        return self._where(
            lambda u: (
                (texts is None or u.text in texts) and (domains is None or u.domain in domains)
            )
        )

    def phrases(self) -> tuple[str, ...]:
        """Every text once, sorted."""
        return tuple(sorted({u.text for u in self.utterances}))

    def digest(self) -> str:
        """Hex SHA-256 over what a training job depends on: rows, splits and file sizes."""
        content = hashlib.sha256()
        for u in self.utterances:
            name = u.path.relative_to(self.folder).as_posix()
            row = [name, u.speaker, u.text, u.split, u.domain, u.path.stat().st_size]
            content.update(json.dumps(row).encode())
        return content.hexdigest()

    def _where(self, keep: Callable[[Utterance], bool]) -> "Corpus":
        return replace(self, utterances=tuple(u for u in self.utterances if keep(u)))

    def _require(self, column: str, wanted: Collection[str] | None, found: set[str]) -> None:
        missing = sorted(set(wanted or ()) - found)
        if missing:
            listing = ", ".join(repr(name) for name in sorted(found - {""})[:12]) or "none"
            more = ", ..." if len(found) > 12 else ""
            raise CorpusError(
                f"{self.folder}: expected the {column} {', '.join(map(repr, missing))}, "
                f"found {listing}{more}"
            )


def draw_split(utterances: tuple[Utterance, ...]) -> tuple[Utterance, ...]:
    """Assign splits by speaker: a fifth of the speakers, drawn by a stable hash, are for testing.

    A single speaker cannot be split; then every fifth recording of each text is for testing.
    """
    speakers = sorted({u.speaker for u in utterances}, key=_stable_hash)
    if len(speakers) > 1:
        held_out = set(speakers[: max(1, math.floor(TEST_SHARE * len(speakers)))])
        return tuple(
            replace(u, split="test" if u.speaker in held_out else "train") for u in utterances
        )
    seen: dict[str, int] = {}
    drawn = []
    for u in utterances:
        seen[u.text] = seen.get(u.text, 0) + 1
        drawn.append(
            replace(u, split="test" if seen[u.text] % round(1 / TEST_SHARE) == 0 else "train")
        )
    return tuple(drawn)


def _read_manifest(manifest: Path) -> Iterable[Utterance]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            for column in NEEDED_COLUMNS:
                if column not in columns:
                    found = ", ".join(columns) or "an empty file"
                    raise CorpusError(f"{manifest}: expected a column {column!r}, found {found}")
            has_splits = "split" in columns
            for row in reader:
                yield _read_row(manifest, reader.line_num, row, has_splits)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{manifest}: expected UTF-8 text with comma-separated rows") from error
    except OSError as error:
        raise CorpusError(f"{manifest}: expected a readable file: {error.strerror}") from error


def _read_row(manifest: Path, line: int, row: dict[str, str | None], has_splits: bool) -> Utterance:
    def refuse(expected: str, found: object) -> CorpusError:
        return CorpusError(f"{manifest}, line {line}: expected {expected}, found {found!r}")

    name = row["path"] or ""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise refuse("a path inside the corpus folder", name)
    path = manifest.parent / name
    if not path.is_file():
        raise refuse("an audio file", name)
    text = (row["text"] or "").strip()
    if not text:
        raise refuse("a text", row["text"])
    try:
        seconds = float(row["seconds"] or "")
    except ValueError as error:
        raise refuse("a number of seconds", row["seconds"]) from error
    split = ""
    if has_splits:
        split = SPLITS.get((row["split"] or "").strip().lower(), "")
        if not split:
            raise refuse("a split of train, val or test", row["split"])
    optional = {name: (row.get(name) or "").strip() for name in ("domain", "intent", "timestamp")}
    return Utterance(path, (row["speaker"] or "").strip(), text, seconds, split, **optional)


def _is_marked_synthetic(folder: Path) -> bool:
    marker = folder / MARKER
    if not marker.is_file():
        return False
    try:
        return bool(json.loads(marker.read_text())["synthetic"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{marker}: expected JSON with 'synthetic': true or false") from error


def _stable_hash(speaker: str) -> bytes:
    return hashlib.sha256(speaker.encode()).digest()

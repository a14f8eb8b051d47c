"""Corpora: folders of recordings with what is said in them, real or synthetic.

A folder has a manifest.csv (`manifest`: the columns path, speaker, text, seconds, and perhaps
sample_rate, split, domain, intent, timestamp) or the layout that a well-known corpus is published
in (`layouts`). A split is train, val or test. Without test rows the val rows are the test set;
without splits they are drawn by speaker, so that no test speaker was heard in training. A folder
is real speech unless its corpus.json says {"synthetic": true}.

    >>> corpus = Corpus.read(Path("fsdd"))
    >>> corpus.restrict(texts=["zero", "one"]).split("train").utterances[0].text
    'zero'
"""

import hashlib
import json
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path

from speech.errors import CorpusError
from speech.layouts import read_folder
from speech.manifest import MANIFEST
from speech.utterances import Reading, Utterance

__all__ = ["MANIFEST", "MARKER", "Corpus", "Utterance", "draw_split"]

MARKER = "corpus.json"
TEST_SHARE = 0.2
"""Share of the speakers that a drawn split keeps for testing."""


@dataclass(frozen=True)
class Corpus:
    """Utterances in the order of their manifest.

    Law: for a <= b, `train_share(a)` holds only utterances of `train_share(b)`, and all of them
    but train utterances.
    """

    folder: Path
    utterances: tuple[Utterance, ...]
    is_real: bool
    layout: str = MANIFEST

    @classmethod
    def read(cls, folder: Path) -> "Corpus":
        """Read a corpus folder of any known layout; no recording is decoded.

        Raises:
            CorpusError: no known layout, something in it is broken or missing, or there is
                nothing to train or to test on. The message names the first, and how many more.
        """
        reading = read_folder(folder)
        if reading.problems:
            more = len(reading.problems) - 1
            others = f" (and {more} more: ota-sim corpus check lists them)" if more else ""
            raise CorpusError(reading.problems[0] + others)
        return cls.of(folder, reading)

    @classmethod
    def of(cls, folder: Path, reading: Reading) -> "Corpus":
        """What could be read of a folder, with its splits.

        Raises:
            CorpusError: there is nothing to train or to test on, or corpus.json is damaged.
        """
        utterances = reading.utterances
        if utterances and not utterances[0].split:
            utterances = draw_split(utterances)
        if not any(u.split == "test" for u in utterances):
            utterances = tuple(
                replace(u, split="test") if u.split == "val" else u for u in utterances
            )
        is_real = not _is_marked_synthetic(folder)
        corpus = cls(folder, utterances, is_real, reading.layout)
        for split in ("train", "test"):
            if not corpus.split(split).utterances:
                raise CorpusError(f"{reading.source}: expected {split} recordings, found none")
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

    def train_share(self, share: float) -> "Corpus":
        """The corpus as it was when only a share of its train split was there.

        The share is drawn by a stable hash of each recording's path: it depends neither on the
        order of the manifest nor on what else is in it, and larger shares hold smaller ones
        (D_1 in D_2 in ..., neural diff paper, 2). Val and test stay whole.

        Args:
            share: Of the train split's utterances, to the nearest one; 0 < share <= 1.

        Raises:
            CorpusError: share is out of range, or would leave nothing to train on.
        """
        if not 0 < share <= 1:
            raise CorpusError(f"{self.folder}: expected a share above 0 and up to 1, found {share}")
        train = [n for n, u in enumerate(self.utterances) if u.split == "train"]
        count = round(share * len(train))
        if count == 0:
            raise CorpusError(
                f"{self.folder}: expected at least one train recording, "
                f"found {share} of {len(train)}"
            )
        drawn = sorted(train, key=lambda n: (_stable_hash(self._name(self.utterances[n])), n))
        left_out = set(drawn[count:])
        kept = (u for n, u in enumerate(self.utterances) if n not in left_out)
        return replace(self, utterances=tuple(kept))

    def phrases(self) -> tuple[str, ...]:
        """Every text once, sorted."""
        return tuple(sorted({u.text for u in self.utterances}))

    def digest(self) -> str:
        """Hex SHA-256 over what a training job depends on: rows, splits and file sizes."""
        content = hashlib.sha256()
        for u in self.utterances:
            row = [self._name(u), u.speaker, u.text, u.split, u.domain, u.path.stat().st_size]
            content.update(json.dumps(row).encode())
        return content.hexdigest()

    def _name(self, utterance: Utterance) -> str:
        return utterance.path.relative_to(self.folder).as_posix()

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


def _is_marked_synthetic(folder: Path) -> bool:
    marker = folder / MARKER
    if not marker.is_file():
        return False
    try:
        return bool(json.loads(marker.read_text())["synthetic"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{marker}: expected JSON with 'synthetic': true or false") from error


def _stable_hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()

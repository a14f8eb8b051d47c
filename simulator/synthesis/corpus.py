"""Make a corpus folder of synthetic speech.

>>> plan = CorpusPlan(phrases, speakers=20, seed=0)               # everybody says the same, or
>>> plan = CorpusPlan((), 20, seed=0, sentences_per_speaker=40)   # each says sentences of his own
>>> write_corpus(Path("corpus"), plan, workers=2)                 # wav/, manifest.csv, corpus.json

The manifest is written last, and a folder that is interrupted or fails is removed.
"""

import csv
import hashlib
import importlib.util
import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from simulator.errors import RunFolderError, SynthesisError
from simulator.synthesis import room, worker
from simulator.synthesis.phrases import Phrase
from simulator.synthesis.sentences import (
    Grammar,
    draw_sentences,
    most_sentences,
    read_grammar,
)
from simulator.synthesis.speakers import (
    MOST_SPEAKERS,
    STREAM_ROOMS,
    STREAM_SENTENCES,
    STREAM_SPLIT,
    Speaker,
    draw_speakers,
)
from speech.corpus import MANIFEST, MARKER

ENGINE = "espeak-ng 1.52"
TEST_SHARE, VAL_SHARE = 0.2, 0.1
FEWEST_SPEAKERS = 2
"""One to train on and one to test on."""

SpeakerDone = Callable[[int, int], None]
"""Called with the number of speakers that are done, and of all."""


@dataclass(frozen=True)
class CorpusPlan:
    """All that a synthetic corpus depends on.

    Attributes:
        phrases: What every speaker says; kept in canonical order.
        speakers: How many speak.
        seed: Of speakers, rooms, splits and sentences.
        sentences_per_speaker: What each speaker says besides, drawn for him alone (`sentences`).
        topics: What the sentences are about; empty: everything. Fewer topics have fewer words.
    """

    phrases: tuple[Phrase, ...]
    speakers: int
    seed: int
    sentences_per_speaker: int = 0
    topics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Sort the phrases and refuse a corpus that could not be split or made."""
        object.__setattr__(self, "phrases", tuple(sorted(self.phrases)))
        if not FEWEST_SPEAKERS <= self.speakers <= MOST_SPEAKERS:
            raise SynthesisError(
                f"expected {FEWEST_SPEAKERS} to {MOST_SPEAKERS} speakers, found {self.speakers}"
            )
        if self.seed < 0:
            raise SynthesisError(f"expected a seed of 0 or more, found {self.seed}")
        if not self.phrases and not self.sentences_per_speaker:
            raise SynthesisError("expected phrases or sentences to say, found neither")
        most = most_sentences(self.grammar)
        if not 0 <= self.sentences_per_speaker <= most:
            raise SynthesisError(
                f"expected at most {most} sentences a speaker, found {self.sentences_per_speaker}"
            )

    def texts(self, speaker: int) -> tuple[Phrase, ...]:
        """What the speaker with this index says, in canonical order.

        It depends on the seed and the index alone, so more speakers extend fewer.
        """
        if self.sentences_per_speaker == 0:
            return self.phrases
        random = np.random.default_rng([self.seed, STREAM_SENTENCES, speaker])
        known = {phrase.text for phrase in self.phrases}
        own = draw_sentences(self.grammar, self.sentences_per_speaker, random, known)
        return tuple(sorted((*self.phrases, *own)))

    @property
    def grammar(self) -> Grammar:
        """What the sentences are drawn from."""
        return read_grammar().about(self.topics)

    @property
    def recordings(self) -> int:
        """How many recordings all speakers make together."""
        return self.speakers * (len(self.phrases) + self.sentences_per_speaker)

    def key(self) -> str:
        """Short hex digest of the plan, for the name of a folder."""
        content = asdict(self)
        if not self.topics:
            del content["topics"]  # corpora from before there were topics keep their names
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def write_corpus(
    folder: Path, plan: CorpusPlan, workers: int = 1, done: SpeakerDone = lambda _n, _of: None
) -> str:
    """Let every speaker say his texts.

    The same plan gives the same audio, whatever the number of workers.

    Args:
        folder: Must not exist, or be empty.
        plan: What to say, by how many speakers, and the seed.
        workers: Speakers at a time.
        done: Told after each speaker.

    Returns:
        Hex SHA-256 over the engine's int16 samples at 22.05 kHz, before the room: the same on
        every machine.

    Raises:
        RunFolderError: the folder holds something, or cannot be written to.
        SynthesisError: the engine is not installed or refuses.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RunFolderError(f"{folder}: expected a new or an empty folder")
    was_there = folder.exists()
    try:
        (folder / "wav").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"{folder}: expected a folder to write to: {error.strerror}"
        ) from error
    try:
        return _write_all(folder, plan, workers, done)
    except BaseException:  # Ctrl-C too: half a corpus is of no use to anybody
        shutil.rmtree(folder, ignore_errors=True)
        if was_there:
            folder.mkdir(exist_ok=True)
        raise


def _write_all(folder: Path, plan: CorpusPlan, workers: int, done: SpeakerDone) -> str:
    speakers = draw_speakers(plan.speakers, plan.seed)
    splits = assign_splits(plan.speakers, plan.seed)
    digests, rows = [], []
    with ThreadPoolExecutor(workers) as pool:
        spoken = pool.map(
            lambda i: _write_speaker(folder, plan, i, speakers[i]), range(len(speakers))
        )
        try:
            for index, (digest, seconds) in enumerate(spoken):
                digests.append(digest)
                rows += list(_rows(plan.texts(index), speakers[index], splits[index], seconds))
                done(index + 1, len(speakers))
        except BaseException:
            # Else the pool would first let every speaker speak who still waits for a thread.
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    speech_sha256 = hashlib.sha256(b"".join(digests)).hexdigest()
    _write_manifest(folder, rows, _marker(plan, speakers, speech_sha256))
    return speech_sha256


def speak(speaker: Speaker, phrases: tuple[Phrase, ...]) -> Iterator[NDArray[np.int16]]:
    """What the engine says, int16 (N,) at 22.05 kHz for each phrase, from one fresh process.

    Raises:
        SynthesisError: the engine is not installed or refuses.
    """
    request = {
        "voice": speaker.voice,
        "rate_wpm": speaker.rate_wpm,
        "pitch": speaker.pitch,
        "pitch_range": speaker.pitch_range,
        "phrases": [phrase.text for phrase in phrases],
    }
    # -P: the worker's own folder must not shadow modules of the standard library.
    command = [sys.executable, "-P", str(Path(worker.__file__))]
    ended = subprocess.run(
        command, input=json.dumps(request).encode(), capture_output=True, check=False
    )
    if ended.returncode == worker.EXIT_NO_ENGINE:
        raise SynthesisError(
            "synthetic speech needs espeak-ng: pip install 'neuraldiff[speech]' "
            "(GPLv3; it runs in a process of its own)"
        )
    if ended.returncode != 0:
        reason = ended.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise SynthesisError(f"speaker {speaker.name} ({speaker.voice}): {reason[-1]}")
    offset = 0
    for phrase in phrases:
        (count,) = struct.unpack_from("<I", ended.stdout, offset)
        if count == 0:
            raise SynthesisError(
                f"expected something to say, the engine is silent at {phrase.text!r}"
            )
        yield np.frombuffer(ended.stdout, dtype="<i2", count=count, offset=offset + 4)
        offset += 4 + 2 * count


def engine_is_missing() -> bool:
    """Whether the extra with the engine is not installed; looks without importing it."""
    return importlib.util.find_spec("espeakng_loader") is None


def assign_splits(count: int, seed: int) -> tuple[str, ...]:
    """A split for each speaker: a fifth is for testing, a tenth for validation, the rest trains."""
    order = np.random.default_rng([seed, STREAM_SPLIT]).permutation(count)
    tests = max(1, round(TEST_SHARE * count))
    vals = min(round(VAL_SHARE * count), count - tests - 1)
    splits = ["train"] * count
    for place, speaker in enumerate(order[: tests + vals]):
        splits[speaker] = "test" if place < tests else "val"
    return tuple(splits)


def _write_speaker(
    folder: Path, plan: CorpusPlan, index: int, speaker: Speaker
) -> tuple[bytes, list[float]]:
    """Speak and record one speaker; returns the digest of the dry samples and the lengths in s."""
    dry_digest = hashlib.sha256()
    place = room.draw_room(plan.seed, index)
    seconds = []
    (folder / "wav" / speaker.name).mkdir()
    for number, dry in enumerate(speak(speaker, plan.texts(index))):
        dry_digest.update(dry.tobytes())
        random = np.random.default_rng([plan.seed, STREAM_ROOMS, index, number])
        samples = room.record(dry, place, worker.SAMPLE_RATE_HZ, random)
        path = folder / _audio_path(speaker, number)
        soundfile.write(path, samples, worker.SAMPLE_RATE_HZ, subtype="PCM_16")
        seconds.append(len(samples) / worker.SAMPLE_RATE_HZ)
    return dry_digest.digest(), seconds


def _rows(
    texts: tuple[Phrase, ...], speaker: Speaker, split: str, seconds: list[float]
) -> Iterator[tuple[str | int, ...]]:
    for number, (phrase, length) in enumerate(zip(texts, seconds, strict=True)):
        path = _audio_path(speaker, number).as_posix()
        yield (
            *(path, speaker.name, phrase.text, f"{length:.3f}"),
            *(worker.SAMPLE_RATE_HZ, split, phrase.domain),
        )


def _audio_path(speaker: Speaker, number: int) -> Path:
    return Path("wav", speaker.name, f"{number:04d}.wav")


def _marker(plan: CorpusPlan, speakers: tuple[Speaker, ...], speech_sha256: str) -> str:
    content = {
        "synthetic": True,
        "engine": ENGINE,
        "seed": plan.seed,
        "plan": plan.key(),
        "speech_sha256": speech_sha256,
        "speakers": [asdict(speaker) for speaker in speakers],
    }
    return json.dumps(content, indent=1) + "\n"


def _write_manifest(folder: Path, rows: list[tuple[str | int, ...]], marker: str) -> None:
    (folder / MARKER).write_text(marker)
    unfinished = folder / (MANIFEST + ".new")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "speaker", "text", "seconds", "sample_rate", "split", "domain"])
        writer.writerows(rows)
    unfinished.rename(folder / MANIFEST)

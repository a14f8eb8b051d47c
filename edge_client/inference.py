"""Recognise spoken commands with the installed generation, by ONNX Runtime on one CPU thread.

The answer to a recording is the phrase of the card whose text embedding is nearest to the speech
embedding (L2; neural diff paper, section 4.2). The phrases are embedded once, at load.

A recogniser keeps the generation that it was opened with: an update fills the other slot, and
the files that a session maps are never overwritten. Open another one to follow.

    >>> recognizer = Recognizer.open(EdgeHome(Path("home")))
    >>> recognizer.transcribe("seven.wav")
    Transcript(phrase='seven', distance=0.41)

Letters: N samples, T frames, L tokens, E embedding size, P phrases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_client.errors import (
    EdgeError,
    NoCardError,
    NoGenerationError,
    UnhealthyError,
    one_line,
)
from edge_client.home import EdgeHome
from edge_client.slots import Installed, Slot, SlotRecord
from speech.audio import SAMPLE_RATE_HZ, read_audio
from speech.card import Card
from speech.errors import CardError
from speech.features import extract
from speech.tokens import encode_text

# Our own errors say what is wrong; ONNX Runtime must not print beside them.
SILENT = 4


@dataclass(frozen=True)
class Transcript:
    """The nearest phrase and its distance: 0 for the same direction, 2 for the opposite one."""

    phrase: str
    distance: float


class Recognizer:
    """One generation in memory. Use `Recognizer.open` or `Recognizer.load`."""

    def __init__(self, session: onnxruntime.InferenceSession, record: SlotRecord, card: Card):
        self.generation = record.generation
        self.phrases = card.phrases
        self._session = session
        # float32 (P, E)
        self._phrase_embeddings = _stacked([self._text(phrase) for phrase in card.phrases])

    @classmethod
    def open(cls, home: EdgeHome) -> "Recognizer":
        """Load the generation that the home holds.

        Raises:
            NotEnrolledError, NoGenerationError: nothing is installed.
            NoCardError: what is installed is a model for another program.
            UnhealthyError: it does not load or does not answer.
            HomeError, StorageError: a file is damaged or missing.
        """
        while True:
            installed = _installed(home)
            try:
                recognizer = cls.load(installed.slot)
            except EdgeError:
                if _installed(home) == installed:
                    raise
                continue
            # Two updates in a row may have filled this slot anew while it was being read.
            if _installed(home) == installed:
                return recognizer

    @classmethod
    def load(cls, slot: Slot) -> "Recognizer":
        """Load what a slot holds, serving or not.

        Raises:
            NoCardError: the model has no card, so its phrases are not known.
            UnhealthyError: it does not load, or an encoder gives no usable embedding.
            HomeError, StorageError: a file is damaged or missing.
        """
        record = slot.record()
        if record.graph_sha256 is None or record.card_sha256 is None:
            raise NoCardError(
                f"generation {record.generation.number} in {slot.path}: expected a graph and a "
                f"card to recognise speech with, found no "
                f"{'graph' if record.graph_sha256 is None else 'card'}; the model is for another "
                f"program, which finds it by: ota-edge status --json"
            )
        try:
            card = Card.from_json(slot.card.read_text(encoding="utf-8"))
        except (CardError, OSError, UnicodeDecodeError) as error:
            raise UnhealthyError(f"{slot.card}: {error}") from error
        return cls(_session(slot.graph), record, card)

    def transcribe(self, path: Path | str) -> Transcript:
        """Recognise a recording, wav or flac, of any rate.

        Raises:
            speech.errors.AudioError: the recording cannot be read or is empty.
            UnhealthyError: the model gives no usable answer.
        """
        return self.nearest(read_audio(path))

    def nearest(self, samples: NDArray[np.float32]) -> Transcript:
        """The phrase nearest to a recording.

        Args:
            samples: float32, shape (N,), N >= 1, mono at 16 kHz.

        Raises:
            UnhealthyError: the model gives no usable answer.
        """
        frames = extract(samples)[:, np.newaxis, :]
        embedding = self._run("speech_embedding", {"features": frames})
        width = self._phrase_embeddings.shape[1]
        # Numpy would stretch a width of 1 over any other, and the answer would mean nothing.
        if embedding.shape[1] != width:
            raise UnhealthyError(
                f"expected a speech_embedding as wide as text_embedding, {width}, "
                f"found {embedding.shape[1]}"
            )
        distances = np.linalg.norm(self._phrase_embeddings - embedding, axis=1)
        if not np.isfinite(distances).all():
            raise UnhealthyError("expected finite distances to the phrases, found an overflow")
        best = int(np.argmin(distances))
        return Transcript(self.phrases[best], float(distances[best]))

    def _text(self, phrase: str) -> NDArray[np.float32]:
        tokens = encode_text(phrase)[:, np.newaxis]
        return self._run("text_embedding", {"tokens": tokens})

    def _run(self, output: str, inputs: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Run one encoder: float32 (1, E)."""
        try:
            (embedding,) = self._session.run([output], inputs)
            found: NDArray[np.float32] = np.asarray(embedding, dtype=np.float32)
        # ONNX Runtime's exceptions share no base but Exception.
        except Exception as error:
            raise UnhealthyError(f"no {output} from the model: {one_line(str(error))}") from error
        if found.ndim != 2 or len(found) != 1 or found.size == 0 or not np.isfinite(found).all():
            raise UnhealthyError(
                f"expected {output} of shape (1, E) with finite values, "
                f"found shape {found.shape} {'' if np.isfinite(found).all() else 'with NaN'}"
            )
        return found


def check_health(slot: Slot) -> None:
    """Let a slot's model answer once, before it may serve.

    Without a card nobody knows what to ask it: then it has to load. Weights without a graph
    cannot be tried at all; their digest has to be enough.

    Raises:
        UnhealthyError: it does not load, or its answer is not usable.
        HomeError, StorageError: a file is damaged or missing.
    """
    record = slot.record()
    if record.graph_sha256 is None:
        return
    if record.card_sha256 is None:
        _session(slot.graph)
        return
    noise = np.random.default_rng(0).normal(0, 0.05, SAMPLE_RATE_HZ).astype(np.float32)
    Recognizer.load(slot).nearest(noise)


def _installed(home: EdgeHome) -> Installed:
    installed = home.slots.installed()
    if installed is None:
        home.config()  # a mistyped folder is better called not enrolled
        raise NoGenerationError(f"{home.path} holds no generation yet; run: ota-edge update")
    return installed


def _stacked(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Text embeddings of one width, (1, E) each, as one float32 (P, E)."""
    widths = sorted({embedding.shape[1] for embedding in embeddings})
    if len(widths) != 1:
        raise UnhealthyError(
            f"expected text_embedding of one width for all phrases, found {widths}"
        )
    return np.concatenate(embeddings)


def _session(graph: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above: no common base
        raise UnhealthyError(f"{graph} does not load: {one_line(str(error))}") from error

"""Open an installed generation to recognise speech with it, whichever kind its card names.

A recogniser keeps the generation that it was opened with: an update fills the other slot, and
the files that a session maps are never overwritten. Open another one to follow.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_client.errors import EdgeError, NoCardError, NoGenerationError, UnhealthyError
from edge_client.home import EdgeHome
from edge_client.inference.answers import Listener, Transcript
from edge_client.inference.commands import CommandModel
from edge_client.inference.search import BEAM_WIDTH
from edge_client.inference.session import Session
from edge_client.inference.transducer import Transducer
from edge_client.offer import Generation
from edge_client.slots import Installed, Slot, SlotRecord
from speech.audio import SAMPLE_RATE_HZ, read_audio
from speech.card import Card, TransducerCard, read_card
from speech.errors import CardError

# Two hypotheses are enough to see that every network takes several at once.
TRIAL_BEAM_WIDTH = 2


class Model(Protocol):
    """A loaded model of some kind."""

    def listen(self) -> Listener:
        """Begin to hear a recording."""


class Recognizer:
    """One generation in memory. Use `Recognizer.open` or `Recognizer.load`.

    Attributes:
        generation: The one that answers.
        card: Says what kind of model it is.
    """

    def __init__(self, generation: Generation, card: Card | TransducerCard, model: Model) -> None:
        self.generation = generation
        self.card = card
        self._model = model

    @classmethod
    def open(cls, home: EdgeHome, beam_width: int = BEAM_WIDTH) -> "Recognizer":
        """Load the generation that the home holds.

        Args:
            home: The device's folder.
            beam_width: Hypotheses that a transducer follows; 1 is greedy search.

        Raises:
            NotEnrolledError, NoGenerationError: nothing is installed.
            NoCardError: what is installed is a model for another program.
            UnhealthyError: it does not load or does not answer.
            HomeError, StorageError: a file is damaged or missing.
        """
        while True:
            installed = _installed(home)
            try:
                recognizer = cls.load(installed.slot, beam_width)
            except EdgeError:
                if _installed(home) == installed:
                    raise
                continue
            # Two updates in a row may have filled this slot anew while it was being read.
            if _installed(home) == installed:
                return recognizer

    @classmethod
    def load(cls, slot: Slot, beam_width: int = BEAM_WIDTH) -> "Recognizer":
        """Load what a slot holds, serving or not.

        Raises:
            NoCardError: the model has no card, so nobody knows what to ask it.
            UnhealthyError: it does not load, or gives no usable answer.
            HomeError, StorageError: a file is damaged or missing.
        """
        record = slot.record()
        _require_card(slot, record)
        try:
            card = read_card(slot.card.read_text(encoding="utf-8"))
        except (CardError, OSError, UnicodeDecodeError) as error:
            raise UnhealthyError(f"{slot.card}: {error}") from error
        session = Session.open(slot.graph)
        if isinstance(card, Card):
            return cls(record.generation, card, CommandModel(session, card))
        return cls(record.generation, card, Transducer(session, card, beam_width))

    def transcribe(self, path: Path | str) -> Transcript:
        """Recognise a recording, wav or flac, of any rate.

        Raises:
            speech.errors.AudioError: the recording cannot be read or is empty.
            UnhealthyError: the model gives no usable answer.
        """
        return self.recognise(read_audio(path))

    def recognise(self, samples: NDArray[np.float32]) -> Transcript:
        """Recognise a whole recording.

        Args:
            samples: float32, shape (N,), N >= 1, mono at 16 kHz.

        Raises:
            UnhealthyError: the model gives no usable answer.
        """
        listener = self.listen()
        listener.feed(samples)
        return listener.finish()

    def listen(self) -> Listener:
        """Begin to hear a recording that is still going on."""
        return self._model.listen()


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
        Session.open(slot.graph)
        return
    noise = np.random.default_rng(0).normal(0, 0.05, SAMPLE_RATE_HZ).astype(np.float32)
    Recognizer.load(slot, TRIAL_BEAM_WIDTH).recognise(noise)


def _installed(home: EdgeHome) -> Installed:
    installed = home.slots.installed()
    if installed is None:
        home.config()  # a mistyped folder is better called not enrolled
        raise NoGenerationError(f"{home.path} holds no generation yet; run: ota-edge update")
    return installed


def _require_card(slot: Slot, record: SlotRecord) -> None:
    if record.graph_sha256 is None or record.card_sha256 is None:
        raise NoCardError(
            f"generation {record.generation.number} in {slot.path}: expected a graph and a "
            f"card to recognise speech with, found no "
            f"{'graph' if record.graph_sha256 is None else 'card'}; the model is for another "
            f"program, which finds it by: ota-edge status --json"
        )

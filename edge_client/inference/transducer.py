"""Recognise sentences with a transducer (RNN-T), while they are being said.

The graph holds three networks (neural diff paper, section 4.1): an encoder of the sound, a
prediction network of the pieces so far, and a joint of the two. None looks ahead, so a recording
in pieces gives the answer of the whole.

Letters: T frames, N encoder layers, M prediction layers, H hidden units, E width of the
projections, K hypotheses, V pieces and the blank.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_client.inference.answers import Sentence
from edge_client.inference.search import BLANK, search_of_width
from edge_client.inference.session import Session
from speech.card import TransducerCard
from speech.features import Stream


@dataclass(frozen=True)
class EncoderState:
    """What the encoder carries from one piece of a recording to the next; h, c: (N, 1, H)."""

    h: NDArray[np.float32]
    c: NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """What the prediction network says after some pieces; row: (1, E), h and c: (M, 1, H)."""

    row: NDArray[np.float32]
    h: NDArray[np.float32]
    c: NDArray[np.float32]


class TransducerNetworks:
    """The three networks in ONNX Runtime; the last two are the Networks of a search."""

    def __init__(self, session: Session, card: TransducerCard) -> None:
        self._session = session
        self._card = card

    def silence(self) -> EncoderState:
        """The state of the encoder before a recording."""
        zeros = np.zeros((self._card.encoder_layers, 1, self._card.hidden), np.float32)
        return EncoderState(zeros, zeros)

    def encode(
        self, features: NDArray[np.float32], state: EncoderState
    ) -> tuple[NDArray[np.float32], EncoderState]:
        """Encode the next frames.

        Args:
            features: float32, (T, 192), T >= 1.
            state: As the frames before left it.

        Returns:
            float32 (T, E), and the state after them.

        Raises:
            UnhealthyError: the model gives no usable answer.
        """
        states = (self._card.encoder_layers, 1, self._card.hidden)
        encoded, h, c = self._session.run(
            {
                "encoded": (len(features), 1, "E"),
                "encoder_h_next": states,
                "encoder_c_next": states,
            },
            {"features": features[:, np.newaxis, :], "encoder_h": state.h, "encoder_c": state.c},
        )
        return encoded[:, 0], EncoderState(h, c)

    def begin(self) -> Prediction:
        """What the prediction network says before the first piece: it is told the blank."""
        zeros = np.zeros((self._card.prediction_layers, 1, self._card.hidden), np.float32)
        # Nothing reads the row of what was before the beginning.
        before = Prediction(np.zeros((1, 0), np.float32), zeros, zeros)
        (prediction,) = self.predict([before], [BLANK])
        return prediction

    def predict(self, previous: Sequence[Prediction], pieces: Sequence[int]) -> list[Prediction]:
        """What it says after one more piece each.

        Raises:
            UnhealthyError: the model gives no usable answer.
        """
        count = len(pieces)
        states = (self._card.prediction_layers, count, self._card.hidden)
        rows, h, c = self._session.run(
            {
                "predicted": (count, "E"),
                "prediction_h_next": states,
                "prediction_c_next": states,
            },
            {
                "token": np.array([pieces], np.int64),
                "prediction_h": np.concatenate([prediction.h for prediction in previous], axis=1),
                "prediction_c": np.concatenate([prediction.c for prediction in previous], axis=1),
            },
        )
        return [Prediction(rows[k : k + 1], h[:, k : k + 1], c[:, k : k + 1]) for k in range(count)]

    def log_probs(
        self, frame: NDArray[np.float32], predictions: Sequence[Prediction]
    ) -> NDArray[np.float32]:
        """Log-probabilities of the next piece, (K, V); the frame is (E,).

        Raises:
            UnhealthyError: the model gives no usable answer.
        """
        (log_probs,) = self._session.run(
            {"log_probs": (len(predictions), self._card.vocabulary)},
            {
                "encoded_frame": frame[np.newaxis],
                "predicted_rows": np.concatenate([prediction.row for prediction in predictions]),
            },
        )
        return log_probs


class Transducer:
    """A transducer in memory."""

    def __init__(self, session: Session, card: TransducerCard, beam_width: int) -> None:
        self._networks = TransducerNetworks(session, card)
        self._card = card
        self._beam_width = beam_width

    def listen(self) -> "TransducerListener":
        """Begin to hear a recording."""
        return TransducerListener(self._networks, self._card, self._beam_width)


class TransducerListener:
    """A Listener whose text grows as it hears."""

    def __init__(self, networks: TransducerNetworks, card: TransducerCard, beam_width: int) -> None:
        self._networks = networks
        self._card = card
        self._features = Stream()
        self._state = networks.silence()
        self._search = search_of_width(networks, beam_width)
        self._has_heard = False

    @property
    def text(self) -> str:
        """The best text so far; later sound may change it."""
        return self._card.text_of(self._search.best.ids)

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Go on listening; every 30 ms of sound are searched as soon as they are complete."""
        self._has_heard |= len(samples) > 0
        self._advance(self._features.feed(samples))

    def finish(self) -> Sentence:
        """The best text of the whole recording."""
        if not self._has_heard:
            raise ValueError("expected a recording, found 0 samples")
        self._advance(self._features.finish())
        return Sentence(self.text, self._search.best.log_probability)

    def _advance(self, frames: NDArray[np.float32]) -> None:
        if not len(frames):
            return
        encoded, self._state = self._networks.encode(frames, self._state)
        for frame in encoded:
            self._search.advance(frame)

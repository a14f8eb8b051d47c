"""Recognise spoken commands: the phrase whose text embedding is nearest to the speech embedding.

Distances are L2 (neural diff paper, section 4.2). The phrases are embedded once, at load.

Letters: N samples, T frames, L tokens, E embedding size, P phrases.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_client.errors import UnhealthyError
from edge_client.inference.answers import NearestPhrase
from edge_client.inference.session import Session
from speech.card import Card
from speech.features import extract
from speech.tokens import encode_text


class CommandModel:
    """A spoken-command model that has embedded its phrases.

    Raises:
        UnhealthyError: a phrase has no usable embedding.
    """

    def __init__(self, session: Session, card: Card) -> None:
        self._session = session
        self._card = card
        # float32 (P, E)
        self._phrase_embeddings = _stacked([self._embedded(phrase) for phrase in card.phrases])

    def listen(self) -> "CommandListener":
        """Begin to hear a recording."""
        return CommandListener(self)

    def nearest(self, samples: NDArray[np.float32]) -> NearestPhrase:
        """The phrase nearest to a recording.

        Args:
            samples: float32, shape (N,), N >= 1, mono at 16 kHz.

        Raises:
            UnhealthyError: the model gives no usable answer.
        """
        frames = extract(samples)[:, np.newaxis, :]
        (embedding,) = self._session.run({"speech_embedding": (1, "E")}, {"features": frames})
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
        return NearestPhrase(self._card.phrases[best], float(distances[best]))

    def _embedded(self, phrase: str) -> NDArray[np.float32]:
        """The text embedding of a phrase, float32 (1, E)."""
        tokens = encode_text(phrase, self._card.tokens)[:, np.newaxis]
        (embedding,) = self._session.run({"text_embedding": (1, "E")}, {"tokens": tokens})
        return embedding


class CommandListener:
    """A Listener that answers at the end: its model averages over the whole recording."""

    def __init__(self, model: CommandModel) -> None:
        self._model = model
        self._heard: list[NDArray[np.float32]] = []

    @property
    def text(self) -> str:
        """Nothing until the end."""
        return ""

    def feed(self, samples: NDArray[np.float32]) -> None:
        """Keep the samples."""
        self._heard.append(samples)

    def finish(self) -> NearestPhrase:
        """The phrase nearest to all of them."""
        samples = np.concatenate([np.zeros(0, np.float32), *self._heard])
        if not len(samples):
            raise ValueError("expected a recording, found 0 samples")
        return self._model.nearest(samples)


def _stacked(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Text embeddings of one width, (1, E) each, as one float32 (P, E)."""
    widths = sorted({embedding.shape[1] for embedding in embeddings})
    if len(widths) != 1:
        raise UnhealthyError(
            f"expected text_embedding of one width for all phrases, found {widths}"
        )
    return np.concatenate(embeddings)

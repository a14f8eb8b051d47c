"""Training data in memory: features and word pieces, and batches of them.

Letters: B batch, T feature frames, U pieces of a text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from server.training.augment import spec_augment
from server.training.rnnt.pieces import Pieces
from server.training.sequences import draw_similar, pad
from speech.audio import read_audio
from speech.corpus import Corpus
from speech.features import extract

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Utterances and what is said in them, as `model.RnntModel.forward` takes them.

    Attributes:
        features: float32 (T, B, 192), padded at the end.
        frames: int64 (B,), frames that count.
        pieces: int64 (U, B), padded at the end by blank.
        counts: int64 (B,), pieces that count.
    """

    features: Tensor
    frames: Tensor
    pieces: Tensor
    counts: Tensor


@dataclass(frozen=True, eq=False)
class Examples:
    """Utterances as features (T_b, 192), and their texts as ids."""

    features: tuple[Floats, ...]
    pieces: tuple[Tensor, ...]

    @classmethod
    def of(cls, corpus: Corpus, pieces: Pieces) -> "Examples":
        """Compute the features of every utterance and cut its text.

        Raises:
            AudioError: a recording cannot be read; the message names it.
            TrainingRequestError: the pieces cannot spell a text.
        """
        ids = {text: torch.tensor(pieces.encode(text)) for text in corpus.phrases()}
        return cls(
            tuple(extract(read_audio(u.path)) for u in corpus.utterances),
            tuple(ids[u.text] for u in corpus.utterances),
        )

    def __len__(self) -> int:
        return len(self.features)

    def draw(self, batch_size: int, rng: np.random.Generator, has_masks: bool = True) -> Batch:
        """A random batch of similar lengths without repetition, augmented (augment)."""
        chosen = draw_similar([len(f) for f in self.features], batch_size, rng)
        features = [spec_augment(self.features[k], rng, has_masks) for k in chosen]
        return _batch(features, [self.pieces[k] for k in chosen])

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Every example once, in order, as it is."""
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size)
            yield _batch(self.features[chosen], self.pieces[chosen])


def _batch(features: Sequence[Floats], pieces: Sequence[Tensor]) -> Batch:
    speech = pad(features)
    counts = torch.tensor([len(p) for p in pieces])
    return Batch(
        speech.values, speech.lengths, torch.nn.utils.rnn.pad_sequence(list(pieces)), counts
    )

"""Training data in memory: features, labels and phrases, and batches of them.

Letters: B batch, T feature frames, L tokens, C phrases.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from server.training.augment import spec_augment
from server.training.sequences import Padded, draw_similar, pad
from speech.audio import read_audio
from speech.corpus import Corpus
from speech.features import extract
from speech.tokens import BYTES, encode_text

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Examples:
    """Utterances as features, each with the index of its phrase."""

    features: tuple[Floats, ...]
    labels: NDArray[np.int64]
    phrases: tuple[str, ...]

    @classmethod
    def of(cls, corpus: Corpus, phrases: tuple[str, ...]) -> "Examples":
        """Compute the features of every utterance.

        Args:
            corpus: What to learn from or to be measured on.
            phrases: The phrases told apart; must hold every text of the corpus.

        Raises:
            AudioError: a recording cannot be read; the message names it.
        """
        index = {phrase: k for k, phrase in enumerate(phrases)}
        return cls(
            tuple(extract(read_audio(u.path)) for u in corpus.utterances),
            np.asarray([index[u.text] for u in corpus.utterances], np.int64),
            phrases,
        )

    def __len__(self) -> int:
        return len(self.features)

    def in_order(self, batch_size: int) -> Iterator[tuple[Padded, Tensor]]:
        """Every example once: features (T, B, 192) and labels (B,)."""
        for start in range(0, len(self), batch_size):
            chosen = slice(start, start + batch_size)
            yield pad(self.features[chosen]), torch.from_numpy(self.labels[chosen])

    def draw(self, batch_size: int, rng: np.random.Generator) -> tuple[Padded, Tensor]:
        """A random batch of similar lengths without repetition, masked by SpecAugment."""
        chosen = draw_similar([len(f) for f in self.features], batch_size, rng)
        features = [spec_augment(self.features[k], rng) for k in chosen]
        return pad(features), torch.from_numpy(self.labels[chosen])


def pad_phrases(phrases: tuple[str, ...], tokens: str = BYTES) -> Padded:
    """Phrases as padded tokens (speech.tokens), int64 (L, C)."""
    sequences = [torch.from_numpy(encode_text(phrase, tokens)) for phrase in phrases]
    lengths = torch.tensor([len(s) for s in sequences])
    return Padded(torch.nn.utils.rnn.pad_sequence(sequences), lengths)

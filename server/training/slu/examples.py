"""Training data in memory: features, labels and phrases, and batches of them.

Letters: B batch, T feature frames, L tokens, C phrases.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.audio import read_audio
from speech.corpus import Corpus
from speech.features import FEATURE_DIM, MEL_BANDS, STACK, extract
from speech.tokens import encode_text

Floats = NDArray[np.float32]

POOL = 4
"""Batches drawn together to find one of similar lengths."""


@dataclass(frozen=True)
class Padded:
    """Sequences of different lengths, padded at the end by zeros, time first."""

    values: Tensor
    lengths: Tensor


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
        """A random batch of similar lengths without repetition, masked by SpecAugment.

        Of several batches drawn together and sorted by length one is taken, so that little of
        the LSTM's work is spent on padding.
        """
        drawn = rng.choice(len(self), min(POOL * batch_size, len(self)), replace=False)
        by_length = drawn[np.argsort([len(self.features[k]) for k in drawn], kind="stable")]
        batches = np.array_split(by_length, max(1, len(drawn) // batch_size))
        chosen = batches[rng.integers(len(batches))]
        features = [spec_augment(self.features[k], rng) for k in chosen]
        return pad(features), torch.from_numpy(self.labels[chosen])


def pad(sequences: tuple[Floats, ...] | list[Floats]) -> Padded:
    """Pad feature sequences (T_b, 192) to one (T, B, 192)."""
    lengths = [len(s) for s in sequences]
    values = np.zeros((max(lengths), len(sequences), FEATURE_DIM), np.float32)
    for b, sequence in enumerate(sequences):
        values[: len(sequence), b] = sequence
    return Padded(torch.from_numpy(values), torch.tensor(lengths))


def pad_phrases(phrases: tuple[str, ...]) -> Padded:
    """Phrases as padded tokens, int64 (L, C)."""
    tokens = [torch.from_numpy(encode_text(phrase)) for phrase in phrases]
    lengths = torch.tensor([len(t) for t in tokens])
    return Padded(torch.nn.utils.rnn.pad_sequence(tokens), lengths)


def spec_augment(features: Floats, rng: np.random.Generator) -> Floats:
    """Mask bands and frames and vary level and channel (Park et al. 2019, without warping).

    Two masks of up to 13 mel bands, one of up to 5 stacked frames, a random level and a random
    colouring of the bands, as rooms and microphones give.

    Args:
        features: float32, shape (T, 192), as speech.features.extract gives; not changed.
        rng: The stream of randomness.
    """
    frames = len(features)
    colour = rng.normal(0.0, 0.15, MEL_BANDS) + rng.normal(0.0, 0.15)
    masked = features.reshape(frames, STACK, MEL_BANDS) + colour.astype(np.float32)
    silence = masked.mean()
    for _ in range(2):
        low = rng.integers(MEL_BANDS)
        masked[:, :, low : low + rng.integers(14)] = silence
    first = rng.integers(frames)
    masked[first : first + rng.integers(6)] = silence
    return masked.reshape(frames, FEATURE_DIM)

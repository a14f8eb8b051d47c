"""Sequences of different lengths as tensors, and batches that waste little on padding.

Letters: B batch, T feature frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.features import FEATURE_DIM

POOL = 4
"""Batches drawn together to find one of similar lengths."""


@dataclass(frozen=True)
class Padded:
    """Sequences of different lengths, padded at the end by zeros, time first."""

    values: Tensor
    lengths: Tensor


def pad(sequences: Sequence[NDArray[np.float32]]) -> Padded:
    """Pad feature sequences (T_b, 192) to one (T, B, 192)."""
    lengths = [len(s) for s in sequences]
    values = np.zeros((max(lengths), len(sequences), FEATURE_DIM), np.float32)
    for b, sequence in enumerate(sequences):
        values[: len(sequence), b] = sequence
    return Padded(torch.from_numpy(values), torch.tensor(lengths))


def draw_similar(
    lengths: Sequence[int], batch_size: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """A random batch of similar lengths without repetition.

    Of several batches drawn together and sorted by length one is taken, so that little of an
    LSTM's work is spent on padding.

    Args:
        lengths: One for each example.
        batch_size: How many to draw; all of them where there are fewer.
        rng: The stream of randomness.

    Returns:
        Indices of examples, shortest first, about (B,).
    """
    drawn = rng.choice(len(lengths), min(POOL * batch_size, len(lengths)), replace=False)
    by_length = drawn[np.argsort([lengths[k] for k in drawn], kind="stable")]
    batches = np.array_split(by_length, max(1, len(drawn) // batch_size))
    return np.asarray(batches[rng.integers(len(batches))], np.int64)

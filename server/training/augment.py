"""Augmentation of features, for every task that hears."""

import numpy as np
from numpy.typing import NDArray

from speech.features import FEATURE_DIM, MEL_BANDS, STACK

Floats = NDArray[np.float32]


def spec_augment(features: Floats, rng: np.random.Generator, has_masks: bool = True) -> Floats:
    """Mask bands and frames and vary level and channel (Park et al. 2019, without warping).

    Two masks of up to 13 mel bands, one of up to 5 stacked frames, a random level and a random
    colouring of the bands, as rooms and microphones give.

    Args:
        features: float32, shape (T, 192), as speech.features.extract gives; not changed.
        rng: The stream of randomness.
        has_masks: Else level and colouring alone.
    """
    frames = len(features)
    colour = rng.normal(0.0, 0.15, MEL_BANDS) + rng.normal(0.0, 0.15)
    masked = features.reshape(frames, STACK, MEL_BANDS) + colour.astype(np.float32)
    if not has_masks:
        return masked.reshape(frames, FEATURE_DIM)
    silence = masked.mean()
    for _ in range(2):
        low = rng.integers(MEL_BANDS)
        masked[:, :, low : low + rng.integers(14)] = silence
    first = rng.integers(frames)
    masked[first : first + rng.integers(6)] = silence
    return masked.reshape(frames, FEATURE_DIM)

"""What augmentation leaves of the features."""

import numpy as np
import pytest

from server.training.augment import spec_augment
from server.training.paper import NUMBERS
from speech.features import FEATURE_DIM


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, FEATURE_DIM)).astype(np.float32)


def test_masks_hide_bands_and_frames(features: np.ndarray) -> None:
    masked = spec_augment(features, np.random.default_rng(1))
    assert len(np.unique(masked)) < 0.9 * features.size


def test_without_masks_every_band_is_moved_by_the_same_in_all_frames(features: np.ndarray) -> None:
    before = features.copy()
    moved = spec_augment(features, np.random.default_rng(1), has_masks=False) - features
    assert np.ptp(moved, axis=0).max() < 1e-5 < np.abs(moved).max()
    assert np.array_equal(features, before)


def test_small_recognisers_learn_faster_than_that_of_the_paper() -> None:
    assert NUMBERS["rnnt"].rate("small") > NUMBERS["rnnt"].rate("paper")

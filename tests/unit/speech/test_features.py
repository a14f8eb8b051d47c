"""The features that server and device share."""

import numpy as np
import pytest

from speech.features import FEATURE_DIM, HOP, MEL_BANDS, STACK, WINDOW, extract


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, count).astype(np.float32)


@pytest.mark.parametrize("count", [1, WINDOW - 1, WINDOW, WINDOW + HOP, 16_000, 16_001])
def test_one_stacked_frame_for_every_30_ms_begun(count: int) -> None:
    frames = 1 + max(0, count - WINDOW) // HOP
    features = extract(noise(count))
    assert features.shape == (-(-frames // STACK), FEATURE_DIM)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_silence_is_finite_and_lies_at_the_floor() -> None:
    features = extract(np.zeros(4_000, np.float32))
    assert np.unique(features).size == 1
    assert features[0, 0] < -2


def test_a_tone_excites_its_own_band() -> None:
    time_s = np.arange(8_000) / 16_000
    bands = [
        extract(np.sin(2 * np.pi * f * time_s).astype(np.float32))[2, :MEL_BANDS].argmax()
        for f in (200.0, 1_000.0, 5_000.0)
    ]
    assert bands == sorted(bands)
    assert len(set(bands)) == 3


def test_a_prefix_of_the_recording_gives_a_prefix_of_the_features() -> None:
    samples = noise(16_000)
    whole = extract(samples)
    part = extract(samples[: 2 * STACK * HOP + WINDOW])
    np.testing.assert_array_equal(part[:2], whole[:2])


def test_features_agree_with_float64() -> None:
    samples = noise(16_000)
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), 512)) ** 2
    from speech.features import CENTRE, SPREAD, _mel_filters

    exact = (np.log(power @ _mel_filters().astype(np.float64)) - CENTRE) / SPREAD
    flat = extract(samples).reshape(-1, MEL_BANDS)[: len(exact)]
    np.testing.assert_allclose(flat, exact, atol=2e-4)

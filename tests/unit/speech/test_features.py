"""The features that server and device share."""

import numpy as np
import pytest

from speech.features import FEATURE_DIM, HOP, MEL_BANDS, STACK, WINDOW, Stream, extract


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


CUTS = {
    "whole": [],
    "sample by sample at first": list(range(1, 900)),
    "10 ms": list(range(HOP, 20_000, HOP)),
    "100 ms": list(range(1_600, 20_000, 1_600)),
    "uneven": [0, 0, 399, 400, 401, 719, 720, 721, 1_199, 1_200, 5_000, 5_000, 15_999],
}


@pytest.mark.parametrize("cuts", CUTS.values(), ids=CUTS.keys())
@pytest.mark.parametrize("count", [1, WINDOW - 1, WINDOW, 719, 720, 1_200, 1_201, 16_000, 17_333])
def test_a_stream_gives_the_features_of_the_whole(count: int, cuts: list[int]) -> None:
    samples = noise(count)
    stream = Stream()
    pieces = np.split(samples, [cut for cut in cuts if cut < count])
    frames = np.concatenate([*(stream.feed(piece) for piece in pieces), stream.finish()])
    np.testing.assert_allclose(frames, extract(samples), rtol=0, atol=1e-5)


def test_a_stream_says_what_it_knows_at_once() -> None:
    stream = Stream()
    first_stack = WINDOW + 2 * HOP
    assert stream.feed(noise(first_stack - 1)).shape == (0, FEATURE_DIM)
    assert stream.feed(noise(1)).shape == (1, FEATURE_DIM)
    assert stream.feed(noise(STACK * HOP)).shape == (1, FEATURE_DIM)


def test_a_stream_without_samples_has_no_features() -> None:
    assert Stream().finish().shape == (0, FEATURE_DIM)


def test_a_finished_stream_begins_anew() -> None:
    stream = Stream()
    stream.feed(noise(5_000))
    stream.finish()
    frames = np.concatenate([stream.feed(noise(4_000, 1)), stream.finish()])
    np.testing.assert_allclose(frames, extract(noise(4_000, 1)), rtol=0, atol=1e-5)

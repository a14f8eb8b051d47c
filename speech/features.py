"""Log-mel features, the same numbers on the server and on the device.

64 log-mel filterbank energies over 25 ms windows every 10 ms, three frames stacked to one
of 192 dimensions every 30 ms (neural diff paper, 4.1). Plain numpy in float32: about a
thousand times faster than real time, and no second implementation to agree with.

Letters: N samples, M 10-ms frames, T stacked frames.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from speech.audio import SAMPLE_RATE_HZ

FEATURES_ID = "logmel64-stack3-v1"
"""Named in a model's card: a device refuses a model that expects other features."""

MEL_BANDS = 64
STACK = 3
FEATURE_DIM = MEL_BANDS * STACK
FRAME_SECONDS = 0.030

WINDOW = SAMPLE_RATE_HZ * 25 // 1000
HOP = SAMPLE_RATE_HZ * 10 // 1000
FFT_SIZE = 512
LOWEST_HZ, HIGHEST_HZ = 60.0, 7_800.0
ENERGY_FLOOR = np.float32(1e-6)
# Log energies of speech at ordinary levels lie around -4 with a deviation of about 4.
CENTRE, SPREAD = np.float32(-4.0), np.float32(4.0)


def extract(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute stacked log-mel features.

    Args:
        samples: float32, shape (N,), N >= 1, mono at 16 kHz.

    Returns:
        float32, shape (T, 192), T = max(1, ceil(M / 3)); roughly within [-3, 3].
    """
    spectrum = np.fft.rfft(_windows(samples) * _hann(), n=FFT_SIZE)
    power = spectrum.real**2 + spectrum.imag**2
    energies = power.astype(np.float32) @ _mel_filters()
    log_mel = (np.log(np.maximum(energies, ENERGY_FLOOR)) - CENTRE) / SPREAD
    return _stack(log_mel.astype(np.float32))


class Stream:
    """The features of a recording that is still going on.

    Whatever the pieces that it comes in, `feed` and `finish` together give the frames that
    `extract` gives of the whole, but for float32 rounding.

        >>> stream = Stream()
        >>> for samples in microphone:
        ...     frames = stream.feed(samples)
        >>> last = stream.finish()
    """

    def __init__(self) -> None:
        self._samples = np.zeros(0, np.float32)
        """From the start of the first stack that is not complete yet."""
        self._has_begun = False

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Go on with some samples.

        Args:
            samples: float32, shape (N,), N >= 0, mono at 16 kHz.

        Returns:
            float32, shape (T, 192), T >= 0: the frames that are complete now.
        """
        self._samples = np.concatenate([self._samples, samples.astype(np.float32, copy=False)])
        complete = (1 + (len(self._samples) - WINDOW) // HOP) // STACK
        if complete < 1:
            return np.zeros((0, FEATURE_DIM), np.float32)
        last_hop = (complete * STACK - 1) * HOP
        frames = extract(self._samples[: last_hop + WINDOW])
        self._samples = self._samples[last_hop + HOP :]
        self._has_begun = True
        return frames

    def finish(self) -> NDArray[np.float32]:
        """End the recording and begin another.

        Returns:
            float32, shape (T, 192), T <= 1: the last frame, if a part of it is left. A recording
            shorter than a window has one, a recording without samples none.
        """
        samples, has_begun = self._samples, self._has_begun
        self._samples, self._has_begun = np.zeros(0, np.float32), False
        if len(samples) < (WINDOW if has_begun else 1):
            return np.zeros((0, FEATURE_DIM), np.float32)
        return extract(samples)


def _windows(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Overlapping windows, float32 (M, 400); a recording shorter than one is padded by zeros."""
    if len(samples) < WINDOW:
        samples = np.pad(samples, (0, WINDOW - len(samples)))
    return np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]


def _stack(log_mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, 64) -> (ceil(M / 3), 192); the last frame is repeated to fill the last stack."""
    missing = -len(log_mel) % STACK
    if missing:
        log_mel = np.concatenate([log_mel, np.repeat(log_mel[-1:], missing, axis=0)])
    return np.ascontiguousarray(log_mel.reshape(-1, FEATURE_DIM))


@cache
def _hann() -> NDArray[np.float32]:
    return np.hanning(WINDOW).astype(np.float32)


@cache
def _mel_filters() -> NDArray[np.float32]:
    """Triangular filters on the HTK mel scale, float32 (257, 64)."""

    def mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
        return np.asarray(2595.0 * np.log10(1.0 + np.asarray(hz) / 700.0))

    bins = mel(np.linspace(0, SAMPLE_RATE_HZ / 2, FFT_SIZE // 2 + 1))[:, None]
    edges = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), MEL_BANDS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)

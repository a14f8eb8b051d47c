"""Put dry synthetic speech into a room: reverberation, level, noise floor.

The engine's pauses are digital silence and its voices differ elevenfold in loudness; a model
trained on that learns the silence and the loudness. Letters: N samples.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.synthesis.speakers import STREAM_ROOMS

PAUSE_S = (0.05, 0.20)
"""Shortest and longest pause before the speech."""


@dataclass(frozen=True)
class Room:
    """Where one speaker is recorded.

    Attributes:
        reverb_s: Time in which the echo decays by 60 dB.
        reverb_share: Energy of the echo relative to the direct sound.
        snr_db: Speech level above the noise floor.
        level_db: Speech level, RMS relative to full scale.
        noise_tilt: Noise power falls as frequency ** -noise_tilt (0 white, 1 pink).
    """

    reverb_s: float
    reverb_share: float
    snr_db: float
    level_db: float
    noise_tilt: float


def draw_room(seed: int, speaker: int) -> Room:
    """The room of the speaker with this index."""
    random = np.random.default_rng([seed, STREAM_ROOMS, speaker])
    return Room(
        reverb_s=float(random.uniform(0.08, 0.35)),
        reverb_share=float(random.uniform(0.01, 0.10)),
        snr_db=float(random.uniform(15.0, 35.0)),
        level_db=float(random.uniform(-32.0, -18.0)),
        noise_tilt=float(random.uniform(0.0, 1.2)),
    )


def record(
    dry: NDArray[np.int16], room: Room, rate_hz: int, random: np.random.Generator
) -> NDArray[np.int16]:
    """Record an utterance in a room.

    Args:
        dry: int16, shape (N,), N >= 1, as the engine speaks it.
        room: Its noise, level and echo.
        rate_hz: Sampling rate of both sides.
        random: The utterance's own stream.

    Returns:
        int16, longer than N by a pause before and the echo's tail after.
    """
    pause = np.zeros(int(random.uniform(*PAUSE_S) * rate_hz))
    speech = np.concatenate([pause, dry.astype(np.float64) / 2**15])
    wet = _convolve(speech, _impulse_response(room, rate_hz, random))
    spoken = wet[np.abs(wet) > 1e-4 * np.max(np.abs(wet), initial=0.0)]
    level = np.sqrt(np.mean(spoken**2)) if len(spoken) else 1.0
    target = 10 ** ((room.level_db + random.normal(0.0, 1.5)) / 20)
    noise = _noise(len(wet), room.noise_tilt, random) * target * 10 ** (-room.snr_db / 20)
    recorded = wet * (target / level) + noise
    # Peaks beyond full scale clip, as they would in a microphone.
    return np.clip(np.rint(recorded * 2**15), -(2**15), 2**15 - 1).astype(np.int16)


def _impulse_response(room: Room, rate_hz: int, random: np.random.Generator) -> NDArray[np.float64]:
    """A direct sound, then noise that decays by 60 dB in reverb_s."""
    length = max(2, int(room.reverb_s * rate_hz))
    decay = np.exp(-np.log(1000.0) * np.arange(length) / length)
    tail: NDArray[np.float64] = random.standard_normal(length) * decay
    tail[0] = 0.0
    tail *= np.sqrt(room.reverb_share / np.sum(tail**2))
    tail[0] = 1.0
    return tail


def _noise(count: int, tilt: float, random: np.random.Generator) -> NDArray[np.float64]:
    """Coloured noise, float64 (count,), with RMS 1."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    spectrum *= np.maximum(np.arange(len(spectrum)), 1.0) ** (-tilt / 2)
    noise: NDArray[np.float64] = np.fft.irfft(spectrum, n=count)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))


def _convolve(signal: NDArray[np.float64], response: NDArray[np.float64]) -> NDArray[np.float64]:
    length = len(signal) + len(response) - 1
    size = 1 << (length - 1).bit_length()
    product = np.fft.rfft(signal, size) * np.fft.rfft(response, size)
    return np.asarray(np.fft.irfft(product, size)[:length])

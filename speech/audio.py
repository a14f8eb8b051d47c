"""Read recordings as the one form that features are computed from: mono, 16 kHz, float32.

>>> samples = read_audio(Path("seven.flac"))     # any rate, any channel count, wav or flac
"""

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from speech.errors import AudioError

SAMPLE_RATE_HZ = 16_000
"""Every recording is resampled to this rate."""

LONGEST_S = 60.0
"""A command is seconds long; a longer file is a mistake that would only take memory."""


def read_audio(path: Path | str) -> NDArray[np.float32]:
    """Read a wav or flac file.

    Returns:
        float32, shape (N,), N >= 1: mono samples in [-1, 1] at 16 kHz; channels are averaged.

    Raises:
        AudioError: the file is missing, not audio, empty, longer than a minute, or holds
            values that are not finite.
    """
    try:
        with soundfile.SoundFile(path) as file:
            if file.frames > LONGEST_S * file.samplerate:
                raise AudioError(
                    f"{path}: expected at most {LONGEST_S:.0f} s of audio, "
                    f"found {file.frames / file.samplerate:.0f} s"
                )
            samples = file.read(dtype="float32", always_2d=True)
            rate_hz = int(file.samplerate)
    # TypeError: libsndfile takes *.raw for headerless samples and wants their rate.
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise _unreadable(path) from error
    return to_mono_16k(samples, rate_hz, name=str(path))


def duration_s(path: Path) -> float:
    """The length of a wav or flac file in seconds, by its header alone.

    Raises:
        AudioError: the file is missing, not audio, or empty.
    """
    try:
        info = soundfile.info(path)
    except (soundfile.SoundFileError, OSError, TypeError) as error:
        raise _unreadable(path) from error
    if info.frames <= 0:
        raise AudioError(f"{path}: expected audio, found 0 samples")
    return float(info.duration)


def to_mono_16k(samples: NDArray[np.float32], rate_hz: int, name: str) -> NDArray[np.float32]:
    """Average the channels and resample.

    Args:
        samples: float32, shape (N, channels).
        rate_hz: Their sampling rate.
        name: What to call the recording in an error.

    Raises:
        AudioError: no samples, or values that are not finite.
    """
    if len(samples) == 0:
        raise AudioError(f"{name}: expected audio, found 0 samples")
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: expected finite samples, found NaN or infinity")
    if rate_hz == SAMPLE_RATE_HZ:
        return mono
    resampled: NDArray[np.float32] = np.asarray(
        soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ), dtype=np.float32
    )
    if len(resampled) == 0:
        raise AudioError(f"{name}: too short, {len(mono)} samples at {rate_hz} Hz")
    return resampled


def _unreadable(path: Path | str) -> AudioError:
    reason = "not a readable wav or flac file" if Path(path).exists() else "no such file"
    return AudioError(f"{path}: {reason}")

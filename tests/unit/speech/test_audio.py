"""Recordings of any rate and channel count become mono 16 kHz; bad ones are named."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from speech.audio import SAMPLE_RATE_HZ, read_audio
from speech.errors import AudioError


def tone(rate_hz: int, seconds: float = 0.5, frequency_hz: float = 440.0) -> np.ndarray:
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return (0.5 * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_any_rate_becomes_16_khz_at_the_same_pitch(rate_hz: int, kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"tone.{kind}"
    soundfile.write(path, tone(rate_hz), rate_hz)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    assert abs(len(samples) - SAMPLE_RATE_HZ // 2) <= 2
    spectrum = np.abs(np.fft.rfft(samples))
    peak_hz = spectrum.argmax() * SAMPLE_RATE_HZ / len(samples)
    assert peak_hz == pytest.approx(440.0, abs=3.0)


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left = tone(SAMPLE_RATE_HZ)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], axis=1), SAMPLE_RATE_HZ, "FLOAT")
    np.testing.assert_allclose(read_audio(path), left / 2, atol=1e-6)


def write_bytes(path: Path) -> None:
    path.write_bytes(b"this is no audio at all")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_silence_of_no_length(path: Path) -> None:
    soundfile.write(path, np.zeros(0, np.float32), SAMPLE_RATE_HZ)


def write_nan(path: Path) -> None:
    soundfile.write(path, np.full(100, np.nan, np.float32), SAMPLE_RATE_HZ, "FLOAT")


def write_an_hour(path: Path) -> None:
    soundfile.write(path, np.zeros(61 * 8_000, np.float32), 8_000)


def write_a_folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_bytes, "not a readable wav or flac file"),
        (write_nothing, "not a readable wav or flac file"),
        (write_silence_of_no_length, "0 samples"),
        (write_nan, "NaN"),
        (write_an_hour, "at most 60 s"),
        (write_a_folder, "not a readable wav or flac file"),
        (lambda path: None, "no such file"),
    ],
)
def test_unusable_recordings_are_named_in_one_line(write, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.wav"
    write(path)
    with pytest.raises(AudioError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert str(path) in message
    assert expected in message
    assert "\n" not in message


def test_headerless_samples_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pcm.raw").write_bytes(bytes(3_200))
    with pytest.raises(AudioError, match=r"pcm\.raw: not a readable wav or flac file"):
        read_audio(tmp_path / "pcm.raw")

"""A corpus that any machine can make in a moment: every word is a melody of two tones."""

import csv
import json
from pathlib import Path

import numpy as np
import soundfile

RATE_HZ = 16_000


def write_tone_corpus(
    folder: Path, words: dict[str, str], speakers: int = 6, takes: int = 3, seed: int = 0
) -> Path:
    """Write a corpus folder.

    Args:
        folder: Where to; made anew.
        words: Domain of each word.
        speakers: Each sings at a pitch of their own; the last third is for testing.
        takes: Recordings of each word by each speaker.
        seed: Draws pitch, length and noise.
    """
    rng = np.random.default_rng(seed)
    (folder / "wav").mkdir(parents=True)
    rows = []
    for speaker in range(speakers):
        pitch = rng.uniform(0.97, 1.03)
        split = "test" if speaker >= speakers - max(1, speakers // 3) else "train"
        for index, (word, domain) in enumerate(words.items()):
            for take in range(takes):
                samples = sing(index, pitch, rng)
                path = f"wav/{word}_{speaker}_{take}.wav"
                soundfile.write(folder / path, samples, RATE_HZ)
                seconds = f"{len(samples) / RATE_HZ:.3f}"
                rows.append([path, f"singer{speaker}", word, seconds, split, domain])
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "speaker", "text", "seconds", "split", "domain"])
        writer.writerows(rows)
    (folder / "corpus.json").write_text(json.dumps({"synthetic": True, "engine": "tones"}))
    return folder


def sing(word: int, pitch: float, rng: np.random.Generator) -> np.ndarray:
    """The two tones of a word: 0.3 s or so, with noise."""
    low, high = divmod(word, 4)
    tones = []
    for frequency_hz in (300.0 * 1.5**low, 900.0 * 1.35**high):
        count = int(RATE_HZ * rng.uniform(0.12, 0.18))
        time_s = np.arange(count) / RATE_HZ
        tones.append(0.2 * np.sin(2 * np.pi * frequency_hz * pitch * time_s))
    samples = np.concatenate(tones)
    return (samples + rng.normal(0, 0.005, samples.size)).astype(np.float32)

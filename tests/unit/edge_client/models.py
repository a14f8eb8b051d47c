"""Generations of the tiny model of tests/vectors/edge_model, and recordings to try them with."""

import json
from pathlib import Path

import numpy as np
import soundfile

from diffcodec import Diff, ParameterSet, SparseDiff, Uniform, encode, lossless_diff
from speech.card import Card

GRAPH = (Path(__file__).parents[2] / "vectors" / "edge_model" / "model.onnx").read_bytes()
CARD = Card(("no", "stop", "yes")).to_json().encode()


def weights(seed: int) -> ParameterSet:
    """A generation; every seed is another one. 4 KiB offsets put the second tensor at 8192."""
    rng = np.random.default_rng(seed)
    return ParameterSet.from_arrays(
        {
            "speech.weight": rng.normal(size=(192, 8)).astype(np.float32),
            "text.embedding": rng.normal(size=(256, 8)).astype(np.float32),
        }
    )


def a_little_later(base: ParameterSet, seed: int) -> tuple[ParameterSet, bytes]:
    """The next generation, and the sparse diff that leads to it."""
    rng = np.random.default_rng(seed)
    positions = np.sort(rng.choice(192 * 8, size=200, replace=False)).astype(np.int64)
    levels = rng.integers(1, 9, size=200).astype(np.int8)
    change = SparseDiff(positions, levels, Uniform(0.125))
    diff = Diff.of(base.layout, base.digest(), {"speech.weight": change})
    arrays = {name: array.copy() for name, array in base.arrays.items()}
    flat = arrays["speech.weight"].reshape(-1)
    flat[positions] += levels.astype(np.float32) * np.float32(0.125)
    return ParameterSet.from_arrays(arrays), encode(diff, base)


def generation(number: int) -> ParameterSet:
    """The generations that `publish_next` publishes: 0, and each after it by a sparse diff."""
    reached = weights(0)
    for seed in range(1, number + 1):
        reached, _ = a_little_later(reached, seed)
    return reached


def snapshot(of: ParameterSet) -> bytes:
    return encode(lossless_diff(None, of), None)


def full_diff(base: ParameterSet, new: ParameterSet) -> bytes:
    return encode(lossless_diff(base, new), base)


def card_with(*phrases: str) -> bytes:
    return Card(phrases).to_json().encode()


def foreign_card() -> bytes:
    return json.dumps({"kind": "other", "features": "other", "phrases": ["a"]}).encode()


def write_recording(path: Path, seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).normal(0, 0.1, 8_000).astype(np.float32)
    soundfile.write(path, noise, 16_000)
    return path

"""Training diffs of our own, in tiny sizes: that files come out, with the density asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffcodec.bench.generations import trained
from diffcodec.weights import read_weights
from tests.tone_corpus import write_tone_corpus

ROOT = Path(__file__).parents[2]
TINY = ("--hidden", "8", "--layers", "1", "--base-steps", "3", "--steps", "20", "--density", "0.05")


def train(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.own_diffs", *map(str, arguments), *TINY],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    words = {"do": "notes", "re": "notes", "mi": "notes", "fa": "notes"}
    return write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus", words)


@pytest.mark.parametrize(
    ("architecture", "shift"), [("lstm", "labels"), ("transformer", "speakers"), ("conv", "labels")]
)
def test_recordings_give_a_base_a_sparse_delta_and_a_dense_one(
    corpus, tmp_path, architecture, shift
):
    done = train(architecture, corpus, "--shift", shift, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (generation,) = trained(tmp_path / "out")
    assert generation.density == pytest.approx(0.05, rel=0.05)
    tuned = read_weights(tmp_path / "out" / "tuned.safetensors")
    assert tuned.layout == generation.base.layout
    assert tuned != generation.base


def test_texts_give_the_same_files_for_the_same_seed(tmp_path):
    rows = [f"word{k % 5} and word{k % 3},intent{k % 4}" for k in range(40)]
    (tmp_path / "texts.csv").write_text("\n".join(["text,intent", *rows]))
    for name in ("one", "again"):
        done = train("gru", tmp_path / "texts.csv", "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    (one,), (again,) = trained(tmp_path / "one"), trained(tmp_path / "again")
    assert one.base == again.base
    assert all(np.array_equal(one.deltas[name], again.deltas[name]) for name in one.deltas)
    about = json.loads((tmp_path / "one" / "about.json").read_text())
    assert about["parameters"] == one.parameters


def test_a_source_that_is_none_is_one_line(tmp_path):
    done = train("lstm", tmp_path, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "out").exists()

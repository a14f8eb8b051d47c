"""Trainings that cannot succeed, as programs: one clear line, exit code 1, and nothing lost.

A loss that is not a number comes from a rate that is none, put into the programs and their workers
by Python's own `sitecustomize`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from server.home import ServerHome
from tests.server_home import generations
from tests.tone_corpus import write_tone_corpus

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
WORDS = {"red": "a", "green": "a", "blue": "b", "white": "b"}

DIVERGING = """
import os
from server.training.schedule import LearningRate

held = LearningRate.at


def at(self, step):
    is_chosen = self.steps == int(os.environ["DIVERGING_STEPS"])
    return float("nan") if step == 9 and is_chosen else held(self, step)


LearningRate.at = at
"""
STEPS, STEPS_OF_SPARSE = 20, 21

SCENARIO = """
name = "hopeless"
description = "two generations of tones"
task = "slu"
evolve_by = "domain"
generations = [["a"], ["b"]]
seeds = [0]
model = "tiny"
batch_size = 8
variants = ["bl", "sparse"]
sizes = ["{size}"]
[steps]
default = 20
sparse = 21
[corpus]
kind = "given"
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tones") / "corpus"
    return write_tone_corpus(folder, WORDS, speakers=3, takes=1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    ServerHome.create(tmp_path / "srv").close()
    return tmp_path / "srv"


def run(program: str, *words: object, env: dict[str, str] | None = None):
    return subprocess.run(
        [PROGRAMS / program, *map(str, words)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
    )


def failure(program: str, *words: object, env: dict[str, str] | None = None) -> str:
    """The one line that a program which must fail ends with."""
    ended = run(program, *words, env=env)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("error: ") == 1
    return ended.stderr[ended.stderr.index("error: ") :].strip()


def train(home: Path, corpus: Path, *options: object) -> tuple[object, ...]:
    return ("ota-server", "train", home, "--corpus", corpus, "--steps", STEPS, *options)


def diverging(tmp_path: Path, steps: int) -> dict[str, str]:
    """Surroundings in which trainings of so many steps diverge at their tenth."""
    (tmp_path / "patched").mkdir()
    (tmp_path / "patched" / "sitecustomize.py").write_text(DIVERGING)
    path = os.pathsep.join([str(tmp_path / "patched"), str(ROOT)])
    return {"PYTHONPATH": path, "DIVERGING_STEPS": str(steps)}


def test_the_server_refuses_a_corpus_of_one_class(home: Path, tmp_path: Path) -> None:
    single = write_tone_corpus(tmp_path / "single", {"red": "a"}, speakers=3, takes=1)
    line = failure(*train(home, single, "--method", "dense", "--config", "tiny"))
    assert "at least two phrases" in line
    assert generations(home) == 0


def test_the_server_refuses_a_hopeless_budget_and_keeps_what_there_is(
    home: Path, corpus: Path
) -> None:
    first = run(*train(home, corpus, "--method", "dense", "--config", "tiny"))
    assert first.returncode == 0, first.stderr
    line = failure(*train(home, corpus, "--method", "sparse", "--budget", "60"))
    assert "60" in line
    assert "bytes" in line
    assert generations(home) == 1
    assert list((home / "training").iterdir()) == []


def test_the_server_names_the_step_where_a_loss_is_not_finite(
    home: Path, corpus: Path, tmp_path: Path
) -> None:
    order = train(home, corpus, "--method", "dense", "--config", "tiny")
    line = failure(*order, env=diverging(tmp_path, STEPS))
    assert line == "error: expected a finite loss, found nan at step 10"
    assert generations(home) == 0


def test_a_recording_with_nan_is_named(home: Path, tmp_path: Path) -> None:
    broken = write_tone_corpus(tmp_path / "broken", WORDS, speakers=3, takes=1)
    samples, rate_hz = soundfile.read(broken / "wav" / "red_0_0.wav", dtype="float32")
    samples[100] = np.nan
    soundfile.write(broken / "wav" / "red_0_0.wav", samples, rate_hz, subtype="FLOAT")
    line = failure(*train(home, broken, "--method", "dense", "--config", "tiny"))
    assert "red_0_0.wav: expected finite samples" in line


def simulate(tmp_path: Path, corpus: Path, *options: object, size: str = "1/20"):
    scenario = tmp_path / "hopeless.toml"
    scenario.write_text(SCENARIO.format(size=size))
    fixed = ("--corpus", corpus, "--out", tmp_path / "out", "--workers", 1)
    return ("ota-sim", "run", scenario, *fixed, *options)


def test_a_run_refuses_a_corpus_of_one_class_before_it_begins(tmp_path: Path) -> None:
    words = {"red": "a", "blue": "b"}
    single = write_tone_corpus(tmp_path / "single", words, speakers=3, takes=1)
    line = failure(*simulate(tmp_path, single))
    assert "scenario hopeless, generation 0: expected at least two phrases" in line
    assert "['red']" in line
    assert not (tmp_path / "out" / "jobs").exists()


def test_a_run_names_the_job_whose_budget_is_hopeless(tmp_path: Path, corpus: Path) -> None:
    line = failure(*simulate(tmp_path, corpus, size="1/100000"))
    assert "job sparse 1/100000, generation 1, seed 0: BudgetError" in line


def test_a_run_names_the_job_that_diverged_and_keeps_the_others(
    tmp_path: Path, corpus: Path
) -> None:
    line = failure(*simulate(tmp_path, corpus), env=diverging(tmp_path, STEPS_OF_SPARSE))
    assert "job sparse 1/20, generation 1, seed 0: DivergedError: " in line
    assert "found nan at step 10" in line
    (result,) = (tmp_path / "out" / "jobs").glob("*/result.json")
    assert json.loads(result.read_text())["nominal_ratio"] == 1.0  # bl's generation 0
    assert (result.parent / "weights.bin").stat().st_size > 0

"""What a training job leaves for the jobs that build on it."""

from dataclasses import replace
from pathlib import Path

import pytest

from diffcodec import ParameterSet
from server.training.tasks import layout_of
from simulator.evolution import EvolveBy, Labels
from simulator.scores import TaskName
from simulator.training import RESIDUAL, WEIGHTS, TrainingArguments, train
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "b", "white": "c"}
LAYOUT = layout_of("slu", "tiny")


@pytest.fixture
def arguments(tmp_path: Path) -> TrainingArguments:
    return TrainingArguments(
        recipe="dense",
        task=TaskName.SLU,
        corpus_folder=write_tone_corpus(tmp_path / "corpus", WORDS, speakers=3, takes=1),
        evolution=Labels(EvolveBy.DOMAIN, (("a",), ("b",), ("c",))),
        model="tiny",
        steps=20,
        batch_size=8,
        generation=0,
        seed=0,
        budget_bytes=None,
        nominal_ratio=None,
    )


def test_what_a_diff_could_not_carry_is_where_the_next_job_starts(
    arguments: TrainingArguments, tmp_path: Path
) -> None:
    folders = [tmp_path / f"job{k}" for k in range(4)]
    for folder in folders:
        folder.mkdir()

    def job(folder: Path, changed: TrainingArguments, parent: Path | None = None) -> str:
        parents = {} if parent is None else {"parent": parent}
        changed = replace(changed, parent=None if parent is None else "parent")
        return train(changed, folder, parents, lambda *_: None)["digest"]

    job(folders[0], arguments)
    assert not (folders[0] / RESIDUAL).exists()
    fed = replace(arguments, recipe="sparse_feedback", budget_bytes=3_000, generation=1)
    job(folders[1], fed, folders[0])
    kept = ParameterSet.read(folders[1] / RESIDUAL, LAYOUT)
    assert kept != ParameterSet.zeros(LAYOUT)
    assert kept != ParameterSet.read(folders[1] / WEIGHTS, LAYOUT)
    with_it = job(folders[2], replace(fed, generation=2), folders[1])
    (folders[1] / RESIDUAL).unlink()
    without = job(folders[3], replace(fed, generation=2), folders[1])
    assert with_it != without


def test_a_taught_generation_learns_from_other_jobs_than_its_parent(
    arguments: TrainingArguments, tmp_path: Path
) -> None:
    folders = {name: tmp_path / name for name in ("first", "teacher", "alone", "taught")}
    for folder in folders.values():
        folder.mkdir()
    train(arguments, folders["first"], {}, lambda *_: None)
    later = replace(arguments, generation=1)
    train(later, folders["teacher"], {}, lambda *_: None)
    diff = replace(later, recipe="sparse", budget_bytes=3_000, parent="first")
    alone = train(diff, folders["alone"], folders, lambda *_: None)
    taught = train(
        replace(diff, teachers=("teacher",)), folders["taught"], folders, lambda *_: None
    )
    assert alone["digest"] != taught["digest"]
    assert taught["file_bytes"] <= 3_000

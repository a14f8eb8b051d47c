"""Diffs that imitate teachers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffcodec import ParameterSet
from server.training.errors import TrainingRequestError
from server.training.parameters import to_parameters
from server.training.recipes import train_generation
from server.training.request import TrainedGeneration, TrainingRequest
from server.training.tasks import layout_of, make_task, taught_by
from server.training.teaching import learn_taught
from speech.corpus import Corpus
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "b"}


class Trainer:
    """Learns requests, and remembers by which recipes."""

    def __init__(self) -> None:
        self.recipes: list[str] = []
        self.fails_at: str | None = None

    def __call__(self, request: TrainingRequest) -> TrainedGeneration:
        self.recipes.append(request.recipe)
        if request.recipe == self.fails_at:
            raise KeyboardInterrupt
        return train_generation(request, lambda step, steps, loss: None)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus.read(write_tone_corpus(tmp_path / "corpus", WORDS, speakers=3, takes=1))


@pytest.fixture
def wanted(corpus: Corpus, tmp_path: Path) -> TrainingRequest:
    return TrainingRequest(
        "sparse",
        corpus,
        to_parameters(make_task("slu", corpus, "tiny").new_model(seed=5)),
        "tiny",
        seed=0,
        generation=1,
        budget_bytes=4_000,
        steps=20,
        checkpoint=tmp_path / "diff.pt",
    )


def test_teachers_are_learned_first_and_change_what_the_diff_becomes(
    wanted: TrainingRequest, tmp_path: Path
) -> None:
    trainer = Trainer()
    taught = learn_taught(wanted, trainer)
    assert trainer.recipes == ["dense", "finetune", "sparse"]
    assert len(taught.diff) <= 4_000
    alone = train_generation(wanted, lambda step, steps, loss: None)
    assert taught.diff != alone.diff
    assert not list(tmp_path.glob("*.pt")) + list(tmp_path.glob("*.ndiff*"))


def test_an_interrupted_one_learns_no_teacher_twice(wanted: TrainingRequest) -> None:
    whole = learn_taught(wanted, Trainer())
    trainer = Trainer()
    for trainer.fails_at in ("finetune", "sparse"):
        with pytest.raises(KeyboardInterrupt):
            learn_taught(wanted, trainer)
    trainer.fails_at = None
    assert learn_taught(wanted, trainer).diff == whole.diff
    assert trainer.recipes == ["dense", "finetune", "finetune", "sparse", "sparse"]


def test_imitation_draws_a_model_to_the_mean_of_its_teachers(corpus: Corpus) -> None:
    task = make_task("slu", corpus, "tiny")
    model, *teachers = (task.new_model(seed) for seed in range(3))
    batch = task.draw(32, np.random.default_rng(0))

    def far_from_teachers() -> float:
        with torch.no_grad():
            own, *theirs = (similarities(m, batch) for m in (model, *teachers))
        return float((own - sum(theirs) / 2).square().mean())

    taught = taught_by(task, teachers)
    before = far_from_teachers()
    assert taught.loss(model, batch) > task.loss(model, batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        # Without the labels' part.
        (taught.loss(model, batch) - task.loss(model, batch)).backward()
        optimizer.step()
    assert far_from_teachers() < 0.1 * before


def similarities(model: torch.nn.Module, batch) -> torch.Tensor:
    utterances, phrases = batch.utterances, batch.phrases
    speech, text = model(utterances.values, utterances.lengths, phrases.values, phrases.lengths)
    return speech @ text.T


def test_teachers_that_do_not_fit_are_refused(wanted: TrainingRequest, corpus: Corpus) -> None:
    other = replace(wanted, teachers=(ParameterSet.zeros(layout_of("slu", "small")),))
    with pytest.raises(TrainingRequestError, match="expected a teacher of the layout"):
        train_generation(other, lambda step, steps, loss: None)
    with pytest.raises(TrainingRequestError, match="expected no teachers but for task slu"):
        taught_by(make_task("rnnt", corpus, "tiny"), [])
    with pytest.raises(TrainingRequestError, match="a generation to build upon"):
        learn_taught(replace(wanted, base=None), Trainer())

"""A training that is killed goes on from its checkpoint, with the very same result."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from diffcodec import ParameterSet, apply, decode
from server.training import checkpoint
from server.training.errors import CheckpointError, DivergedError
from server.training.recipes import train_generation
from server.training.request import TrainingRequest
from server.training.schedule import LearningRate
from server.training.slu.task import SluTask
from server.training.tasks import layout_of
from speech.corpus import Corpus
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "b"}
LAYOUT = layout_of("slu", "tiny")
STEPS, KILLED_AT, EVERY = 24, 18, 7


class Killed(BaseException):
    """As a signal would end it."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("tones") / "corpus"
    return Corpus.read(write_tone_corpus(folder, WORDS, speakers=3, takes=1))


@pytest.fixture(scope="module")
def base(corpus: Corpus) -> ParameterSet:
    request = TrainingRequest("dense", corpus, None, "tiny", seed=0, generation=0, steps=20)
    return apply(None, decode(train_generation(request, quietly).diff))


@pytest.fixture(autouse=True)
def _a_checkpoint_every_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = count(1)

    def is_due(self: checkpoint.Checkpoint) -> bool:
        return self.path is not None and next(asked) % EVERY == 0

    monkeypatch.setattr(checkpoint.Checkpoint, "is_due", is_due)


def quietly(step: int, steps: int, loss: float) -> None:
    """No progress is shown."""


def killed_at(last: int) -> Callable[[int, int, float], None]:
    def watch(step: int, steps: int, loss: float) -> None:
        if step == last:
            raise Killed

    return watch


def request_of(recipe: str, corpus: Corpus, base: ParameterSet, path: Path) -> TrainingRequest:
    is_free = recipe in ("dense", "finetune")
    return TrainingRequest(
        recipe=recipe,
        corpus=corpus,
        base=None if recipe in ("dense", "compressed_sparse", "compressed_hash") else base,
        config="tiny",
        seed=0,
        generation=1,
        budget_bytes=None if is_free else 4 * LAYOUT.parameter_count // 20,
        steps=STEPS,
        checkpoint=path,
    )


@pytest.mark.parametrize(
    "recipe",
    [
        "dense",
        "finetune",
        "compressed_sparse",
        "compressed_hash",
        "paper_sparse",
        "paper_hash",
        "sparse",
        "hash",
        "sparse_feedback",
        "lowrank",
        "lora",
    ],
)
def test_the_result_is_that_of_a_training_never_interrupted(
    recipe: str, corpus: Corpus, base: ParameterSet, tmp_path: Path
) -> None:
    request = request_of(recipe, corpus, base, tmp_path / "checkpoint.pt")
    whole = train_generation(replace(request, checkpoint=None), quietly)
    with pytest.raises(Killed):
        train_generation(request, killed_at(KILLED_AT))
    steps: list[int] = []
    resumed = train_generation(request, lambda step, _steps, _loss: steps.append(step))
    assert steps[0] == KILLED_AT - KILLED_AT % EVERY + 1
    assert resumed.diff == whole.diff
    assert resumed.residual == whole.residual
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_training_is_refused_and_kept(
    corpus: Corpus, base: ParameterSet, tmp_path: Path
) -> None:
    request = request_of("sparse", corpus, base, tmp_path / "checkpoint.pt")
    with pytest.raises(Killed):
        train_generation(request, killed_at(EVERY + 1))
    with pytest.raises(CheckpointError, match="another"):
        train_generation(replace(request, seed=1), quietly)
    assert (tmp_path / "checkpoint.pt").exists()


def test_a_damaged_checkpoint_is_named(corpus: Corpus, base: ParameterSet, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 not quite")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: .* damaged"):
        train_generation(request_of("sparse", corpus, base, tmp_path / "checkpoint.pt"), quietly)


def test_gradients_that_are_not_finite_end_it_too(
    corpus: Corpus, base: ParameterSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = SluTask.loss

    def with_a_steep_edge(self: SluTask, model: nn.Module, batch: Any) -> Tensor:
        weight = next(model.parameters())
        return loss(self, model, batch) + (weight - weight).abs().sqrt().sum()

    monkeypatch.setattr(SluTask, "loss", with_a_steep_edge)
    request = request_of("sparse", corpus, base, tmp_path / "checkpoint.pt")
    with pytest.raises(DivergedError, match=r"finite gradients, found a norm of nan at step 0$"):
        train_generation(request, quietly)


def test_a_loss_that_is_not_finite_names_step_and_checkpoint(
    corpus: Corpus, base: ParameterSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(self: LearningRate, step: int) -> float:
        return float("nan") if step == 9 else 1e-3

    monkeypatch.setattr(LearningRate, "at", rate)
    request = request_of("finetune", corpus, base, tmp_path / "checkpoint.pt")
    with pytest.raises(DivergedError, match=r"found nan at step 10; .*checkpoint\.pt"):
        train_generation(request, quietly)

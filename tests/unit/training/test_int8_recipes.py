"""From float32 to int8, and from one generation in int8 to the next."""

from dataclasses import replace
from pathlib import Path

import pytest

from diffcodec import ParameterSet, SparseDiff, apply, decode, read_header
from server.training.checkpoint import Checkpoint
from server.training.errors import TrainingRequestError
from server.training.grid import dequantise, scales_of
from server.training.recipes import train_generation
from server.training.request import TrainedGeneration, TrainingRequest
from server.training.slu.evaluate import accuracy
from server.training.slu.model import CONFIGS
from server.training.tasks import layout_of, quantised
from speech.card import Card
from speech.corpus import Corpus
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "a", "white": "b", "black": "b"}
CONFIG = CONFIGS["tiny-int8"]
LAYOUT = layout_of("slu", "tiny-int8")
BUDGET_BYTES = 4 * layout_of("slu", "tiny").parameter_count // 50


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.read(write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus", WORDS))


@pytest.fixture(scope="module")
def in_float(corpus: Corpus) -> ParameterSet:
    """Knows the words of domain a."""
    known = corpus.restrict(domains=["a"])
    request = TrainingRequest("dense", known, None, "tiny", seed=0, generation=0, steps=150)
    return apply(None, decode(train(request).diff))


@pytest.fixture(scope="module")
def first(corpus: Corpus, in_float: ParameterSet) -> ParameterSet:
    """The same in int8."""
    return apply(None, decode(train(quantising(corpus, in_float)).diff))


def quantising(corpus: Corpus, base: ParameterSet) -> TrainingRequest:
    known = corpus.restrict(domains=["a"])
    return TrainingRequest("quantise", known, base, "tiny-int8", seed=0, generation=0)


def next_one(corpus: Corpus, base: ParameterSet) -> TrainingRequest:
    return TrainingRequest(
        "int8", corpus, base, "tiny-int8", 0, 1, budget_bytes=BUDGET_BYTES, steps=200
    )


def train(request: TrainingRequest) -> TrainedGeneration:
    return train_generation(request, lambda step, steps, loss: None)


def test_quantising_makes_a_snapshot_that_knows_as_much(
    corpus: Corpus, in_float: ParameterSet
) -> None:
    trained = train(quantising(corpus, in_float))
    assert read_header(trained.diff).is_snapshot
    weights = apply(None, decode(trained.diff))
    assert weights.layout == LAYOUT
    assert trained.free_parameters == LAYOUT.parameter_count
    assert len(trained.diff) < 1.1 * LAYOUT.parameter_count
    known = corpus.restrict(domains=["a"])
    test, phrases = known.split("test"), known.phrases()
    before = accuracy(in_float, CONFIGS["tiny"], test, phrases)
    assert accuracy(weights, CONFIG, test, phrases) >= before - 0.05


def test_what_is_quantised_knows_the_phrases_that_it_knew(
    corpus: Corpus, in_float: ParameterSet
) -> None:
    card = Card(("blue", "green", "red")).to_json()
    request = replace(quantising(corpus, in_float), corpus=corpus, base_card=card)
    assert train(request).card == card


def test_a_diff_in_whole_levels_teaches_new_words_within_its_budget(
    corpus: Corpus, first: ParameterSet
) -> None:
    trained = train(next_one(corpus, first))
    assert 0.9 * BUDGET_BYTES <= len(trained.diff) <= BUDGET_BYTES
    diff = decode(trained.diff, LAYOUT).diff
    assert all(isinstance(change, SparseDiff) for _, change in diff.changes())
    new = apply(first, decode(trained.diff, LAYOUT))
    assert scales_of(new) == scales_of(first)
    assert accuracy(first, CONFIG, corpus.split("test"), corpus.phrases()) < 0.65
    assert accuracy(new, CONFIG, corpus.split("test"), corpus.phrases()) > 0.85


def test_an_interrupted_training_ends_with_the_same_bytes(
    corpus: Corpus, first: ParameterSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = replace(next_one(corpus, first), steps=40)
    whole = train(request)
    kept = replace(request, checkpoint=tmp_path / "checkpoint.pt")
    monkeypatch.setattr(Checkpoint, "is_due", lambda self: self.path is not None)

    def killed(step: int, _steps: int, _loss: float) -> None:
        if step == 31:  # levels learn since 24
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_generation(kept, killed)
    steps: list[int] = []
    resumed = train_generation(kept, lambda step, _steps, _loss: steps.append(step))
    assert steps[0] == 31
    assert resumed.diff == whole.diff


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "sparse"}, "in float32, found 'tiny-int8', which is in int8"),
        ({"config": "tiny"}, "in int8, found 'tiny', which is in float32"),
        ({"base": None}, "a generation to build upon"),
        ({"budget_bytes": None}, "a budget"),
    ],
)
def test_requests_that_mix_precisions_are_refused(
    change: dict[str, object], message: str, corpus: Corpus, first: ParameterSet
) -> None:
    with pytest.raises(TrainingRequestError, match=message):
        train(replace(next_one(corpus, first), **change))


def test_what_is_in_int8_already_is_not_quantised_again(
    corpus: Corpus, first: ParameterSet
) -> None:
    with pytest.raises(TrainingRequestError, match="weights in float32"):
        train(quantising(corpus, first))


def test_recognisers_of_sentences_are_not_quantised(first: ParameterSet) -> None:
    with pytest.raises(TrainingRequestError, match="task slu"):
        quantised("rnnt", "tiny", dequantise(first))

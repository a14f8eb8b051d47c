"""Recipes learn, keep to their budgets, and give the same result twice."""

from dataclasses import replace

import pytest

from diffcodec import BudgetError, ParameterSet, apply, decode
from server.training.errors import DivergedError, TrainingRequestError
from server.training.learn import Schedule
from server.training.parameters import layout_of
from server.training.recipes import TrainedGeneration, TrainingRequest, train_generation
from server.training.slu.evaluate import accuracy
from server.training.slu.model import CONFIGS
from speech.corpus import Corpus
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "a", "white": "b", "black": "b"}
CONFIG = CONFIGS["tiny"]
LAYOUT = layout_of(CONFIG)
BUDGET_BYTES = 4 * LAYOUT.parameter_count // 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.read(write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus", WORDS))


@pytest.fixture(scope="module")
def first(corpus: Corpus) -> ParameterSet:
    """Generation 0: knows the words of domain a."""
    request = TrainingRequest(
        "dense", corpus.restrict(domains=["a"]), None, None, "tiny", 150, 0, 0
    )
    return weights(train(request), None)


def later(recipe: str, corpus: Corpus, base: ParameterSet | None) -> TrainingRequest:
    return TrainingRequest(recipe, corpus, base, BUDGET_BYTES, "tiny", 200, 0, 1)


def train(request: TrainingRequest) -> TrainedGeneration:
    return train_generation(request, lambda step, steps, loss: None)


def weights(trained: TrainedGeneration, base: ParameterSet | None) -> ParameterSet:
    return apply(base, decode(trained.diff, LAYOUT).diff)


def test_dense_learns_its_words(corpus: Corpus, first: ParameterSet) -> None:
    known = corpus.restrict(domains=["a"])
    assert accuracy(first, CONFIG, known.split("test"), known.phrases()) > 0.9


def test_words_that_a_generation_does_not_know_count_as_wrong(
    corpus: Corpus, first: ParameterSet
) -> None:
    known = corpus.restrict(domains=["a"]).phrases()
    assert accuracy(first, CONFIG, corpus.split("test"), known) < 0.65


@pytest.mark.parametrize("recipe", ["sparse", "hash"])
def test_a_learned_diff_teaches_new_words_within_its_budget(
    recipe: str, corpus: Corpus, first: ParameterSet
) -> None:
    trained = train(later(recipe, corpus, first))
    assert 0.95 * BUDGET_BYTES <= len(trained.diff) <= BUDGET_BYTES
    assert trained.card.phrases == corpus.phrases()
    new = weights(trained, first)
    assert accuracy(new, CONFIG, corpus.split("test"), corpus.phrases()) > 0.85


def test_a_sparse_diff_leaves_most_weights_as_they_were(
    corpus: Corpus, first: ParameterSet
) -> None:
    trained = train(later("sparse", corpus, first))
    new = weights(trained, first)
    changed = sum(int((new.arrays[n] != first.arrays[n]).sum()) for n in new.arrays)
    assert 0 < changed <= trained.free_parameters < 0.4 * LAYOUT.parameter_count


def test_a_compressed_model_needs_no_base_and_keeps_the_budget(corpus: Corpus) -> None:
    trained = train(later("compressed", corpus, None))
    assert 0.95 * BUDGET_BYTES <= len(trained.diff) <= BUDGET_BYTES
    model = weights(trained, None)
    assert sum(int((a != 0).sum()) for a in model.arrays.values()) == trained.free_parameters


def test_training_is_deterministic_and_depends_on_the_seed(
    corpus: Corpus, first: ParameterSet
) -> None:
    request = replace(later("sparse", corpus, first), steps=40)
    assert train(request).diff == train(request).diff
    assert train(request).diff != train(replace(request, seed=1)).diff


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "magic"}, "dense, compressed, sparse, hash"),
        ({"config": "huge"}, "tiny, small, paper"),
        ({"base": None}, "a generation to build upon"),
        ({"budget_bytes": None}, "a budget"),
    ],
)
def test_impossible_requests_are_refused(
    change: dict[str, object], message: str, corpus: Corpus, first: ParameterSet
) -> None:
    with pytest.raises(TrainingRequestError, match=message):
        train(replace(later("sparse", corpus, first), **change))


def test_a_budget_below_the_smallest_file_is_refused_before_training(
    corpus: Corpus, first: ParameterSet
) -> None:
    steps_done = []
    request = replace(later("sparse", corpus, first), budget_bytes=50)
    with pytest.raises(BudgetError):
        train_generation(request, lambda step, steps, loss: steps_done.append(step))
    assert not steps_done


def test_a_base_of_another_layout_is_refused(corpus: Corpus) -> None:
    other = ParameterSet.zeros(layout_of(CONFIGS["small"]))
    with pytest.raises(TrainingRequestError, match="layout"):
        train(later("sparse", corpus, other))


def test_divergence_is_an_error_that_names_the_step(
    corpus: Corpus, first: ParameterSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Schedule, "rate", lambda self, step: float("nan"))
    with pytest.raises(DivergedError, match="step 1"):
        train(later("sparse", corpus, first))


def test_the_learning_rate_warms_up_holds_and_decays() -> None:
    schedule = Schedule(steps=100, learning_rate=1.0)
    rates = [schedule.rate(step) for step in range(100)]
    assert rates[0] < rates[4] < 1.0
    assert set(rates[5:60]) == {1.0}
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, rel=0.2)

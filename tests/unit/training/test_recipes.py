"""Recipes learn, keep to their budgets, and give the same result twice."""

from dataclasses import replace

import pytest

from diffcodec import BudgetError, ParameterSet, apply, decode
from server.training.errors import DivergedError, TrainingRequestError
from server.training.job import Job, Learned
from server.training.learned.diff import LearnedDiff
from server.training.paper import NUMBERS
from server.training.parameters import to_parameters
from server.training.recipes import RECIPES, train_generation
from server.training.request import TrainedGeneration, TrainingRequest
from server.training.schedule import CubicSchedule, LearningRate
from server.training.slu.evaluate import accuracy
from server.training.slu.model import CONFIGS
from server.training.tasks import layout_of, make_task
from speech.card import Card
from speech.corpus import Corpus
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "a", "white": "b", "black": "b"}
CONFIG = CONFIGS["tiny"]
LAYOUT = layout_of("slu", "tiny")
BUDGET_BYTES = 4 * LAYOUT.parameter_count // 20


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.read(write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus", WORDS))


@pytest.fixture(scope="module")
def first(corpus: Corpus) -> ParameterSet:
    """Generation 0: knows the words of domain a."""
    known = corpus.restrict(domains=["a"])
    request = TrainingRequest("dense", known, None, "tiny", seed=0, generation=0, steps=150)
    return weights(train(request), None)


def later(recipe: str, corpus: Corpus, base: ParameterSet | None) -> TrainingRequest:
    return TrainingRequest(
        recipe, corpus, base, "tiny", seed=0, generation=1, budget_bytes=BUDGET_BYTES, steps=200
    )


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


@pytest.mark.parametrize("recipe", ["paper_sparse", "paper_hash", "sparse", "hash", "lowrank"])
def test_a_learned_diff_teaches_new_words_within_its_budget(
    recipe: str, corpus: Corpus, first: ParameterSet
) -> None:
    trained = train(later(recipe, corpus, first))
    assert 0.95 * BUDGET_BYTES <= len(trained.diff) <= BUDGET_BYTES
    assert Card.from_json(trained.card).phrases == corpus.phrases()
    new = weights(trained, first)
    assert accuracy(new, CONFIG, corpus.split("test"), corpus.phrases()) > 0.85


@pytest.mark.parametrize(("task", "speed"), [("slu", 10.0), ("rnnt", 3.0)])
@pytest.mark.parametrize("recipe", ["paper_hash", "hash"])
def test_hash_arrays_of_recognisers_learn_more_slowly(
    recipe: str, task: str, speed: float, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(job: Job, learned: LearnedDiff) -> Learned:
        raise DivergedError(f"at {learned.speed}")

    monkeypatch.setattr(Job, "learn", refuse)
    known = make_task(task, corpus, "tiny")
    base = to_parameters(known.new_model(0))
    with pytest.raises(DivergedError, match=f"at {speed}"):
        train(replace(later(recipe, corpus, base), task=task, base_card=known.card()))


def test_a_sparse_diff_leaves_most_weights_as_they_were(
    corpus: Corpus, first: ParameterSet
) -> None:
    trained = train(later("sparse", corpus, first))
    new = weights(trained, first)
    changed = sum(int((new.arrays[n] != first.arrays[n]).sum()) for n in new.arrays)
    assert 0 < changed <= trained.free_parameters < 0.4 * LAYOUT.parameter_count


@pytest.mark.parametrize("recipe", ["compressed_sparse", "compressed_hash"])
def test_a_compressed_model_needs_no_base_and_keeps_the_budget(recipe: str, corpus: Corpus) -> None:
    trained = train(later(recipe, corpus, None))
    assert 0.9 * BUDGET_BYTES <= len(trained.diff) <= BUDGET_BYTES
    model = weights(trained, None)
    assert accuracy(model, CONFIG, corpus.split("test"), corpus.phrases()) > 0.85


@pytest.mark.parametrize(
    ("recipe", "density"), [("compressed_sparse", 0.1), ("paper_sparse", 0.1), ("paper_hash", 0.1)]
)
def test_a_nominal_size_counts_free_values(
    recipe: str, density: float, corpus: Corpus, first: ParameterSet
) -> None:
    base = None if recipe.startswith("compressed") else first
    request = replace(later(recipe, corpus, base), budget_bytes=None, nominal_ratio=1 / density)
    expected = density * LAYOUT.parameter_count
    assert train(request).free_parameters == pytest.approx(expected, rel=0.01)


def test_fine_tuning_and_adapters_leave_as_exact_weights(
    corpus: Corpus, first: ParameterSet
) -> None:
    tuned = train(replace(later("finetune", corpus, first), budget_bytes=None))
    assert len(tuned.diff) > 5 * BUDGET_BYTES
    assert accuracy(weights(tuned, first), CONFIG, corpus.split("test"), corpus.phrases()) > 0.9
    adapted = train(later("lora", corpus, first))
    assert 0 < 2 * adapted.free_parameters <= BUDGET_BYTES


def test_a_generation_starts_from_what_the_one_before_could_not_carry(
    corpus: Corpus, first: ParameterSet
) -> None:
    request = replace(later("sparse_feedback", corpus, first), steps=40)
    trained = train(request)
    assert trained.residual is not None
    base = weights(trained, first)
    following = replace(request, base=base, generation=2)
    fed = replace(following, residual=trained.residual)
    assert train(fed).diff != train(following).diff
    assert fed.fingerprint() != following.fingerprint()
    assert train(replace(request, recipe="sparse")).residual is None


def test_auto_says_why(corpus: Corpus, first: ParameterSet) -> None:
    trained = train(replace(later("auto", corpus, first), steps=20))
    recipe = trained.note.partition(":")[0]
    assert recipe in RECIPES
    assert "points below BL at 1/" in trained.note


def test_a_pruned_model_has_only_what_travelled(corpus: Corpus) -> None:
    trained = train(replace(later("compressed_sparse", corpus, None), steps=40))
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
        ({"recipe": "magic"}, "dense, finetune, .* lora"),
        ({"task": "tts"}, "slu, rnnt"),
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
    other = ParameterSet.zeros(layout_of("slu", "small"))
    with pytest.raises(TrainingRequestError, match="layout"):
        train(later("sparse", corpus, other))


def test_divergence_is_an_error_that_names_the_step(
    corpus: Corpus, first: ParameterSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LearningRate, "at", lambda self, step: float("nan"))
    with pytest.raises(DivergedError, match=r"step 1$"):
        train(later("sparse", corpus, first))


def test_the_learning_rate_warms_up_holds_and_decays() -> None:
    schedule = LearningRate(steps=100, peak=1.0)
    rates = [schedule.at(step) for step in range(100)]
    assert rates[0] < rates[4] < 1.0
    assert set(rates[5:60]) == {1.0}
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[-1] == pytest.approx(0.02, rel=0.2)


def test_the_sparsity_grows_as_a_cubic() -> None:
    schedule = CubicSchedule(final_sparsity=0.9, first_step=100, last_step=300)
    assert schedule.sparsity(50) == 0.0
    assert schedule.sparsity(100) == 0.0
    assert schedule.sparsity(200) == pytest.approx(0.9 * (1 - 0.5**3))
    assert schedule.sparsity(300) == pytest.approx(0.9)
    assert schedule.sparsity(1000) == pytest.approx(0.9)


def test_the_paper_s_numbers_are_the_defaults() -> None:
    """4.1: 20k-35k for baselines, 1k-11k for diffs; 4.2: 2k-12k for both."""
    commands, sentences = NUMBERS["slu"], NUMBERS["rnnt"]
    assert [round(s * commands.steps) for s in commands.diff_pruning] == [2_000, 12_000]
    assert [round(s * commands.steps) for s in commands.baseline_pruning] == [2_000, 12_000]
    assert [round(s * sentences.steps) for s in sentences.diff_pruning] == [1_000, 11_000]
    assert [round(s * sentences.steps) for s in sentences.baseline_pruning] == [20_000, 35_000]

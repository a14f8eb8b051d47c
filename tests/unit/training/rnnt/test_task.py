"""The RNN-T as the recipes see it: it learns, and it keeps the pieces of its base."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from server.training.errors import TrainingRequestError
from server.training.parameters import to_parameters
from server.training.rnnt.evaluate import word_error_rate
from server.training.rnnt.task import RnntTask
from speech.card import Card, TransducerCard, read_card
from speech.corpus import Corpus
from tests.tone_corpus import write_tone_corpus

WORDS = {"on": "a", "off": "a", "up": "b", "stop": "b"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.read(write_tone_corpus(tmp_path_factory.mktemp("tones") / "corpus", WORDS))


@pytest.fixture(scope="module")
def task(corpus: Corpus) -> RnntTask:
    return RnntTask.of(corpus, "tiny")


def test_a_model_learns_to_write_what_is_sung(task: RnntTask, corpus: Corpus) -> None:
    model, train = task.new_model(seed=0), corpus.split("train")
    (batch,) = task.examples.in_order(len(task.examples))
    assert word_error_rate(to_parameters(model), task.config, train, task.pieces) > 0.9
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        task.loss(model, batch).backward()
        optimizer.step()
    assert word_error_rate(to_parameters(model), task.config, train, task.pieces) < 0.1


def test_the_loss_is_nats_a_piece(task: RnntTask) -> None:
    # A model without a preference gives every path the same probability.
    model = task.new_model(seed=0)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    batch = next(task.examples.in_order(1))
    frames, count = int(batch.frames[0]), int(batch.counts[0])
    steps, paths = frames + count, _binomial(frames - 1 + count, count)
    expected = (steps * np.log(task.config.vocabulary) - np.log(paths)) / count
    assert task.loss(model, batch).item() == pytest.approx(expected, rel=1e-5)


def test_the_encoder_alone_learns_where_the_configuration_says_so(task: RnntTask) -> None:
    aided = replace(task, config=replace(task.config, ctc_weight=2.0, dropout=0.0))
    model, batch = aided.new_model(seed=0), next(task.examples.in_order(8))
    model.eval()
    transducer = aided.loss(model, batch)
    model.train()
    both = aided.loss(model, batch)
    with torch.no_grad():
        encoded, _ = model.encoder(batch.features)
        log_probs = model.log_probs(encoded, torch.zeros(()))
    ctc = torch.nn.functional.ctc_loss(
        log_probs, batch.pieces.T, batch.frames, batch.counts, reduction="sum", zero_infinity=True
    )
    torch.testing.assert_close(both, transducer + 2.0 * ctc / batch.counts.sum())


def _binomial(n: int, k: int) -> float:
    return float(np.prod([(n - i) / (i + 1) for i in range(k)]))


def test_weights_depend_on_the_seed_alone(task: RnntTask) -> None:
    first, again, other = (to_parameters(task.new_model(seed)).digest() for seed in (1, 1, 2))
    assert first == again != other
    assert to_parameters(task.new_model(1)).layout == task.layout


def test_batches_depend_on_the_generator_alone(task: RnntTask) -> None:
    first, again = (task.draw(8, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first.features, again.features)
    assert torch.equal(first.pieces, again.pieces)


def test_the_card_says_what_a_device_has_to_carry(task: RnntTask) -> None:
    card = read_card(task.card())
    assert isinstance(card, TransducerCard)
    assert card.vocabulary == task.config.vocabulary
    assert (card.encoder_layers, card.prediction_layers, card.hidden) == (1, 1, 48)


def test_pieces_of_the_base_are_kept_whatever_is_said(task: RnntTask, corpus: Corpus) -> None:
    grown = RnntTask.of(corpus.restrict(domains=["a"]), "tiny", base_card=task.card())
    assert grown.pieces == task.pieces
    assert RnntTask.of(corpus.restrict(domains=["a"]), "tiny").pieces != task.pieces


@pytest.mark.parametrize(
    ("config", "card", "message"),
    [
        ("huge", None, "expected a configuration of tiny, small, paper, found 'huge'"),
        ("tiny", Card(("on",)).to_json(), "expected a base that writes word pieces"),
        ("small", "of tiny", "expected a base with .* word pieces, .* found 47"),
    ],
)
def test_what_does_not_fit_is_refused(
    task: RnntTask, corpus: Corpus, config: str, card: str | None, message: str
) -> None:
    with pytest.raises(TrainingRequestError, match=message):
        RnntTask.of(corpus, config, task.card() if card == "of tiny" else card)


def test_nothing_to_learn_from_is_refused(corpus: Corpus) -> None:
    with pytest.raises(TrainingRequestError, match="expected recordings of the train split"):
        RnntTask.of(corpus.split("test"), "tiny")

"""Greedy decoding, an utterance alone and in a batch."""

import pytest
import torch
from torch import Tensor

from server.training.parameters import to_parameters
from server.training.rnnt.evaluate import MOST_PIECES_A_FRAME, greedy, model_of
from server.training.rnnt.model import BLANK, CONFIGS, RnntModel


@pytest.fixture
def model() -> RnntModel:
    torch.manual_seed(1)
    model = RnntModel(CONFIGS["tiny"]).eval()
    with torch.no_grad():
        model.joint.weight.mul_(20.0)  # so that an untrained model has something to say
        model.joint.bias[BLANK] = 5.0
    return model


@torch.no_grad()
def decoded_alone(model: RnntModel, features: Tensor) -> list[int]:
    """Greedy decoding by its definition, reading the whole text anew for every piece."""
    encoded, _ = model.encoder(features[:, None])
    said: list[int] = []
    for frame in encoded:
        for _ in range(MOST_PIECES_A_FRAME):
            predicted, _ = model.prediction(torch.tensor([[BLANK], *([k] for k in said)]))
            best = int(model.log_probs(frame, predicted[-1]).argmax())
            if best == BLANK:
                break
            said.append(best)
    return said


def test_a_batch_is_decoded_as_each_utterance_alone(model: RnntModel) -> None:
    frames = torch.tensor([9, 4, 12, 1])
    features = torch.randn(12, 4, 192)
    with torch.no_grad():
        together = greedy(model, model.encoder(features)[0], frames)
    alone = [decoded_alone(model, features[:n, b]) for b, n in enumerate(frames)]
    assert together == alone
    assert any(together) and len({tuple(ids) for ids in together}) > 1


def test_a_model_that_never_says_blank_comes_to_an_end(model: RnntModel) -> None:
    with torch.no_grad():
        model.joint.bias[BLANK] = -1e9
        (said,) = greedy(model, model.encoder(torch.randn(3, 1, 192))[0], torch.tensor([3]))
    assert len(said) == 3 * MOST_PIECES_A_FRAME


def test_weights_come_back_into_a_model(model: RnntModel) -> None:
    again = model_of(to_parameters(model), model.config)
    assert to_parameters(again).digest() == to_parameters(model).digest()
    assert not again.training

"""The RNN-T has the paper's size, streams, and does not look at padding."""

from functools import partial

import torch

from server.training.parameters import layout_of
from server.training.rnnt.model import BLANK, CONFIGS, RnntModel


def test_paper_size_is_exact() -> None:
    assert layout_of(partial(RnntModel, CONFIGS["paper"])).parameter_count == 64_142_532


def test_small_size_is_below_a_million() -> None:
    assert 0.5e6 < layout_of(partial(RnntModel, CONFIGS["small"])).parameter_count < 1e6


def test_parameters_lie_in_onnx_order_with_one_bias_an_lstm() -> None:
    shapes = {
        spec.name: spec.shape for spec in layout_of(partial(RnntModel, CONFIGS["paper"])).tensors
    }
    assert shapes["encoder.lstm.0.W"] == (1, 4096, 192)
    assert shapes["encoder.lstm.5.R"] == (1, 4096, 1024)
    assert shapes["prediction.lstm.0.W"] == (1, 4096, 256)
    assert shapes["prediction.lstm.1.B"] == (1, 4096)
    assert shapes["encoder.projection.weight"] == (640, 1024)
    assert shapes["joint.weight"] == (2500, 640)
    assert shapes["prediction.embedding.weight"] == (2500, 256)


def test_chunks_give_what_the_whole_gives() -> None:
    model = RnntModel(CONFIGS["tiny"]).eval()
    features = torch.randn(13, 2, 192)
    with torch.no_grad():
        whole, end = model.encoder(features)
        states, parts = None, []
        for first in (0, 5, 6):
            chunk = features[first : {0: 5, 5: 6, 6: 13}[first]]
            part, states = model.encoder(chunk, states)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts), whole)
    assert states is not None
    torch.testing.assert_close(states, end)


def test_padding_does_not_change_emissions_and_they_are_those_of_decoding() -> None:
    model = RnntModel(CONFIGS["tiny"]).eval()
    features, pieces = torch.randn(6, 1, 192), torch.randint(1, 40, (3, 1))
    long = torch.randn(9, 1, 192), torch.randint(1, 40, (5, 1))
    padded = torch.cat([torch.cat([features, torch.zeros(3, 1, 192)]), long[0]], dim=1)
    ids = torch.cat([torch.cat([pieces, torch.full((2, 1), BLANK)]), long[1]], dim=1)
    with torch.no_grad():
        blank, piece, unaided = model(padded, torch.tensor([6, 9]), ids, torch.tensor([3, 5]))
        encoded, _ = model.encoder(features)
        predicted, _ = model.prediction(torch.cat([torch.zeros(1, 1, dtype=torch.int64), pieces]))
        log_probs = model.log_probs(encoded[:, 0, None], predicted[:, 0])
    assert unaided is None
    torch.testing.assert_close(blank[0, :6, :4], log_probs[..., BLANK])
    for u in range(3):
        torch.testing.assert_close(piece[0, :6, u], log_probs[:, u, pieces[u, 0]])


def test_dropout_is_on_the_prediction_network_alone() -> None:
    torch.manual_seed(0)
    model = RnntModel(CONFIGS["small"]).train()
    features, pieces = torch.randn(4, 1, 192), torch.randint(1, 99, (4, 1))
    with torch.no_grad():
        assert torch.equal(model.encoder(features)[0], model.encoder(features)[0])
        assert not torch.equal(model.prediction(pieces)[0], model.prediction(pieces)[0])

"""The hand-built ONNX graph computes what the torch model computes."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from server.training.parameters import seeded, to_parameters
from server.training.slu.graph import build_graph
from server.training.slu.model import CONFIGS, SpokenCommandModel
from server.training.tasks import layout_of


@pytest.fixture(params=["tiny", "small", "paper"])
def exported(request: pytest.FixtureRequest, tmp_path: Path):
    config = CONFIGS[request.param]
    model = seeded(partial(SpokenCommandModel, config), seed=3).eval()
    parameters = to_parameters(model)
    (tmp_path / "model.onnx").write_bytes(build_graph(config, parameters.layout))
    parameters.write(tmp_path / "weights.bin")
    return model, tmp_path / "model.onnx"


def test_both_encoders_agree_with_torch(exported) -> None:
    model, path = exported
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    features = rng.normal(size=(17, 1, 192)).astype(np.float32)
    tokens = rng.integers(0, 256, size=(9, 1))
    with torch.no_grad():
        expected = model(
            torch.from_numpy(features),
            torch.tensor([17]),
            torch.from_numpy(tokens),
            torch.tensor([9]),
        )
    speech = session.run(["speech_embedding"], {"features": features})[0]
    text = session.run(["text_embedding"], {"tokens": tokens})[0]
    np.testing.assert_allclose(speech, expected[0].numpy(), atol=2e-6)
    np.testing.assert_allclose(text, expected[1].numpy(), atol=2e-6)


def test_graph_is_valid_small_and_names_every_tensor_of_the_layout(exported) -> None:
    model, path = exported
    onnx.checker.check_model(str(path))
    assert path.stat().st_size < 16_000
    graph = onnx.load(str(path), load_external_data=False).graph
    external = {
        t.name: int(next(e.value for e in t.external_data if e.key == "offset"))
        for t in graph.initializer
        if t.data_location == onnx.TensorProto.EXTERNAL
    }
    layout = to_parameters(model).layout
    assert external == {t.name: o for t, o in zip(layout.tensors, layout.offsets, strict=True)}


def test_the_same_model_always_gives_the_same_graph_bytes() -> None:
    config, layout = CONFIGS["small"], layout_of("slu", "small")
    assert build_graph(config, layout) == build_graph(config, layout)


def test_the_paper_s_model_has_its_sizes() -> None:
    """4 x 128 and 2 x 128 LSTM, projections of 128, 4,500 x 64 embedding: 1.1 million (4.2)."""
    layout = layout_of("slu", "paper")
    assert layout.parameter_count == 1_113_600
    assert layout.index["tokens.weight"].shape == (4_500, 64)
    assert layout.index["speech.projection.weight"].shape == (128, 128)
    assert sum(name.endswith(".R") for name in layout.index) == 6


def test_padding_does_not_change_an_embedding() -> None:
    model = seeded(partial(SpokenCommandModel, CONFIGS["tiny"]), seed=1).eval()
    features = torch.randn(12, 1, 192)
    padded = torch.cat([features, torch.zeros(5, 1, 192)])
    tokens = torch.randint(0, 256, (4, 1))
    with torch.no_grad():
        alone, _ = model(features, torch.tensor([12]), tokens, torch.tensor([4]))
        batched, _ = model(padded, torch.tensor([12]), tokens, torch.tensor([4]))
    torch.testing.assert_close(alone, batched)

"""The hand-built ONNX graph computes what the torch model computes."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from diffcodec import Dtype
from server.training.errors import TrainingRequestError
from server.training.grid import dequantise
from server.training.parameters import seeded, to_parameters, to_weights
from server.training.slu.graph import build_graph
from server.training.slu.model import CONFIGS, INT8, SpokenCommandModel
from server.training.slu.quantise import quantised
from server.training.tasks import layout_of


@pytest.fixture(params=["tiny", "small", "paper"])
def exported(request: pytest.FixtureRequest, tmp_path: Path):
    config = CONFIGS[request.param]
    model = seeded(partial(SpokenCommandModel, config), seed=3).eval()
    parameters = to_parameters(model)
    (tmp_path / "model.onnx").write_bytes(build_graph(config, parameters.layout))
    parameters.write(tmp_path / "weights.bin")
    return model, tmp_path / "model.onnx"


@pytest.fixture(params=["tiny", "small", "paper"])
def in_int8(request: pytest.FixtureRequest, tmp_path: Path):
    """The module on the grid, the device's weights, and the graph beside them."""
    config = CONFIGS[request.param + INT8]
    floats = seeded(partial(SpokenCommandModel, CONFIGS[request.param]), seed=3)
    weights = quantised(to_parameters(floats), config)
    model = SpokenCommandModel(config).eval()
    model.load_state_dict(to_weights(dequantise(weights)))
    (tmp_path / "model.onnx").write_bytes(build_graph(config, weights.layout))
    weights.write(tmp_path / "weights.bin")
    return model, weights, tmp_path / "model.onnx", floats.eval()


def test_in_int8_both_encoders_agree_with_torch_but_for_rounded_activations(in_int8) -> None:
    model, _, path, floats = in_int8
    options = onnxruntime.SessionOptions()
    # As edge_client sets it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    features = rng.normal(size=(17, 1, 192)).astype(np.float32)
    tokens = rng.integers(0, 256, size=(9, 1))
    inputs = (torch.from_numpy(features), torch.tensor([17]))
    inputs += (torch.from_numpy(tokens), torch.tensor([9]))
    with torch.no_grad():
        expected, in_float = model(*inputs), floats(*inputs)
    speech = session.run(["speech_embedding"], {"features": features})[0]
    text = session.run(["text_embedding"], {"tokens": tokens})[0]
    for found, same_weights, first in zip((speech, text), expected, in_float, strict=True):
        np.testing.assert_allclose(found, same_weights.numpy(), atol=6e-3)
        # Of unit length, and untrained: a harsh case, whose embeddings differ little.
        assert float((found * first.numpy()).sum()) > 0.999


def test_in_int8_the_graph_names_every_tensor_with_its_type(in_int8) -> None:
    _, weights, path, _ = in_int8
    assert path.stat().st_size < 16_000
    graph = onnx.load(str(path), load_external_data=False).graph
    types = {Dtype.FLOAT32: onnx.TensorProto.FLOAT, Dtype.INT8: onnx.TensorProto.INT8}
    external = [
        (t.name, t.data_type, tuple(t.dims), int(t.external_data[1].value))
        for t in graph.initializer
        if t.data_location == onnx.TensorProto.EXTERNAL
    ]
    layout = weights.layout
    assert external == [
        (spec.name, types[spec.dtype], spec.shape, offset)
        for spec, offset in zip(layout.tensors, layout.offsets, strict=True)
    ]
    bytes_of = {spec.name: spec.nbytes for spec in layout.tensors}
    assert sum(bytes_of.values()) < 1.3 * layout.parameter_count
    assert {n.op_type for n in graph.node} >= {"DynamicQuantizeLSTM", "DequantizeLinear"}


def test_a_model_of_other_sizes_or_in_float_is_not_quantised() -> None:
    weights = to_parameters(SpokenCommandModel(CONFIGS["tiny"]))
    with pytest.raises(TrainingRequestError, match="the same configuration"):
        quantised(weights, CONFIGS["small" + INT8])
    with pytest.raises(TrainingRequestError, match="in int8"):
        quantised(weights, CONFIGS["tiny"])


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

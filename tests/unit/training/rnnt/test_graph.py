"""The hand-built ONNX graph computes what the torch model computes, whole and in chunks."""

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from diffcodec.onnx_weights import STORE_NAME
from server.training.parameters import layout_of, to_parameters
from server.training.rnnt.graph import build_graph
from server.training.rnnt.model import CONFIGS, ModelConfig, RnntModel

TWO_LAYERS = ModelConfig(2, 2, hidden=40, projection=24, embedding=16, vocabulary=48)
CLOSE = 3e-6


@pytest.fixture(params=[CONFIGS["tiny"], TWO_LAYERS], ids=["tiny", "two layers"])
def exported(request: pytest.FixtureRequest, tmp_path: Path):
    torch.manual_seed(3)
    model = RnntModel(request.param).eval()
    parameters = to_parameters(model)
    (tmp_path / "model.onnx").write_bytes(build_graph(request.param, parameters.layout))
    parameters.write(tmp_path / STORE_NAME)
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", providers=["CPUExecutionProvider"]
    )
    return model, session


def encode(session, config: ModelConfig, features: NDArray[np.float32], chunk: int):
    """Encode frames in chunks, carrying the states."""
    h, c = np.zeros((2, config.encoder_layers, 1, config.hidden), np.float32)
    parts = []
    for first in range(0, len(features), chunk):
        inputs = {"features": features[first : first + chunk], "encoder_h": h, "encoder_c": c}
        names = ["encoded", "encoder_h_next", "encoder_c_next"]
        encoded, h, c = session.run(names, inputs)
        parts.append(encoded)
    return np.concatenate(parts), h, c


@pytest.mark.parametrize("chunk", [1, 4, 17])
def test_encoder_agrees_with_torch_in_any_chunks(exported, chunk: int) -> None:
    model, session = exported
    features = np.random.default_rng(0).normal(size=(17, 1, 192)).astype(np.float32)
    found, h, c = encode(session, model.config, features, chunk)
    with torch.no_grad():
        expected, states = model.encoder(torch.from_numpy(features))
    np.testing.assert_allclose(found, expected.numpy(), atol=CLOSE)
    np.testing.assert_allclose(h, torch.cat([h for h, _ in states]).numpy(), atol=CLOSE)
    np.testing.assert_allclose(c, torch.cat([c for _, c in states]).numpy(), atol=CLOSE)


def test_prediction_agrees_with_torch_token_by_token_for_several_hypotheses(exported) -> None:
    model, session = exported
    config: ModelConfig = model.config
    tokens = np.random.default_rng(1).integers(0, config.vocabulary, (6, 3))
    h, c = np.zeros((2, config.prediction_layers, 3, config.hidden), np.float32)
    with torch.no_grad():
        expected, _ = model.prediction(torch.from_numpy(tokens))
    for token, row in zip(tokens, expected, strict=True):
        predicted, h, c = session.run(
            ["predicted", "prediction_h_next", "prediction_c_next"],
            {"token": token[None], "prediction_h": h, "prediction_c": c},
        )
        np.testing.assert_allclose(predicted, row.numpy(), atol=CLOSE)


def test_joint_agrees_with_torch(exported) -> None:
    model, session = exported
    rng = np.random.default_rng(2)
    frame = rng.normal(size=(1, model.config.projection)).astype(np.float32)
    rows = rng.normal(size=(5, model.config.projection)).astype(np.float32)
    inputs = {"encoded_frame": frame, "predicted_rows": rows}
    (log_probs,) = session.run(["log_probs"], inputs)
    with torch.no_grad():
        expected = model.log_probs(torch.from_numpy(frame), torch.from_numpy(rows))
    np.testing.assert_allclose(log_probs, expected.numpy(), atol=CLOSE)


def test_states_are_zeros_where_none_are_given(exported) -> None:
    model, session = exported
    features = np.ones((3, 1, 192), np.float32)
    (found,) = session.run(["encoded"], {"features": features})
    expected, _, _ = encode(session, model.config, features, 3)
    np.testing.assert_array_equal(found, expected)
    start = np.zeros((1, 1), np.int64)
    (started,) = session.run(["predicted"], {"token": start})
    zeros = np.zeros((model.config.prediction_layers, 1, model.config.hidden), np.float32)
    (explicit,) = session.run(
        ["predicted"],
        {"token": start, "prediction_h": zeros, "prediction_c": zeros},
    )
    np.testing.assert_array_equal(started, explicit)


def test_a_network_runs_only_if_it_is_given_something(exported) -> None:
    # Else every step of a search would run the encoder, which is three quarters of the model.
    model, session = exported
    rows = np.zeros((2, model.config.projection), np.float32)
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"predicted_rows": rows}), strict=True))
    assert [name for name in names if found[name].size] == ["log_probs"]


@pytest.mark.parametrize("name", CONFIGS)
def test_graph_is_small_and_names_every_tensor_of_the_layout(name: str) -> None:
    layout = layout_of(partial(RnntModel, CONFIGS[name]))
    content = build_graph(CONFIGS[name], layout)
    assert content == build_graph(CONFIGS[name], layout)
    assert len(content) < 16_000
    graph = onnx.ModelProto.FromString(content).graph
    external = {
        t.name: int(next(e.value for e in t.external_data if e.key == "offset"))
        for t in graph.initializer
        if t.data_location == onnx.TensorProto.EXTERNAL
    }
    assert external == {t.name: o for t, o in zip(layout.tensors, layout.offsets, strict=True)}
    onnx.shape_inference.infer_shapes(onnx.ModelProto.FromString(content), strict_mode=True)


def test_a_checker_finds_nothing(tmp_path: Path) -> None:
    layout = layout_of(partial(RnntModel, CONFIGS["tiny"]))
    (tmp_path / "model.onnx").write_bytes(build_graph(CONFIGS["tiny"], layout))
    with (tmp_path / STORE_NAME).open("wb") as store:
        store.truncate(layout.file_bytes)
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)


def test_the_paper_size_loads(tmp_path: Path) -> None:
    layout = layout_of(partial(RnntModel, CONFIGS["paper"]))
    (tmp_path / "model.onnx").write_bytes(build_graph(CONFIGS["paper"], layout))
    with (tmp_path / STORE_NAME).open("wb") as store:
        store.truncate(layout.file_bytes)  # a hole: zeros that need no disk
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(
        tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"]
    )
    shapes = {x.name: x.shape for x in session.get_outputs()}
    assert shapes["encoder_h_next"] == [6, 1, 1024] and shapes["log_probs"] == ["K", 2500]

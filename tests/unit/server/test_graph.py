from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from diffcodec import ParameterSet
from server.errors import PublishError
from server.graph import graph_without_weights

WEIGHTS = ParameterSet.from_arrays(
    {
        "W": np.arange(12_000, dtype=np.float32).reshape(3, 4_000) / 1000,
        "B": np.arange(3, dtype=np.float32),
    }
)
X = np.linspace(-1, 1, 4_000, dtype=np.float32).reshape(2, 2_000)


def save_model(path: Path, *, external: bool, weights: ParameterSet = WEIGHTS) -> None:
    """y = reshape(x) W^T + B; the shape is an int64 initializer that is no weight."""
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["row"]),
            helper.make_node("Gemm", ["row", "W", "B"], ["y"], transB=1),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2_000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [
            *(numpy_helper.from_array(array, name) for name, array in weights.arrays.items()),
            numpy_helper.from_array(np.array([1, 4_000], dtype=np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if external:
        onnx.save(model, str(path), save_as_external_data=True, location="d", size_threshold=0)
    else:
        onnx.save(model, str(path))


@pytest.fixture(params=[False, True], ids=["embedded", "external"])
def model(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "model.onnx"
    save_model(path, external=request.param)
    return path


def answer(path: Path) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path)).run(None, {"x": X})[0]


def test_the_graph_over_the_flat_store_computes_what_the_model_did(
    tmp_path: Path, model: Path
) -> None:
    device = tmp_path / "device"
    device.mkdir()
    (device / "model.onnx").write_bytes(graph_without_weights(model, WEIGHTS.layout))
    WEIGHTS.write(device / "weights.bin")
    # onnxruntime itself cannot load a model whose shapes are external, as one of these has them.
    save_model(tmp_path / "embedded.onnx", external=False)
    expected = answer(tmp_path / "embedded.onnx")
    np.testing.assert_array_equal(answer(device / "model.onnx"), expected)


def test_the_graph_holds_no_weights(model: Path) -> None:
    assert len(graph_without_weights(model, WEIGHTS.layout)) < 1_000


def test_other_weights_and_another_form_of_the_same_model_give_the_same_graph(
    tmp_path: Path,
) -> None:
    twice = ParameterSet.from_arrays({n: 2 * a for n, a in WEIGHTS.arrays.items()})
    save_model(tmp_path / "a.onnx", external=False)
    save_model(tmp_path / "b.onnx", external=True, weights=twice)
    graphs = {
        graph_without_weights(tmp_path / name, WEIGHTS.layout) for name in ("a.onnx", "b.onnx")
    }
    assert len(graphs) == 1


def test_a_graph_is_its_own_graph(tmp_path: Path, model: Path) -> None:
    """A graph whose weights are outside already needs no weights beside it."""
    graph = graph_without_weights(model, WEIGHTS.layout)
    (tmp_path / "graph.onnx").write_bytes(graph)
    assert graph_without_weights(tmp_path / "graph.onnx", WEIGHTS.layout) == graph


def test_a_tensor_that_the_model_lacks_is_named(model: Path) -> None:
    more = ParameterSet.from_arrays({**WEIGHTS.arrays, "extra": np.zeros(3, np.float32)})
    with pytest.raises(PublishError, match="found none for 'extra'"):
        graph_without_weights(model, more.layout)


def test_a_tensor_of_another_shape_is_named_with_both(model: Path) -> None:
    other = ParameterSet.from_arrays({**WEIGHTS.arrays, "B": np.zeros(4, np.float32)})
    with pytest.raises(PublishError, match=r"expected 'B' of shape \(4,\), float32, found \(3,\)"):
        graph_without_weights(model, other.layout)


@pytest.mark.parametrize("content", [b"this is not ONNX at all", b"\x00\x01\x02", b""])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(PublishError, match=r"model\.onnx"):
        graph_without_weights(tmp_path / "model.onnx", WEIGHTS.layout)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="No such file"):
        graph_without_weights(tmp_path / "model.onnx", WEIGHTS.layout)


def test_a_model_whose_data_file_is_gone_names_the_tensor(tmp_path: Path) -> None:
    save_model(tmp_path / "model.onnx", external=True)
    (tmp_path / "d").unlink()
    with pytest.raises(PublishError, match="'shape'"):
        graph_without_weights(tmp_path / "model.onnx", WEIGHTS.layout)

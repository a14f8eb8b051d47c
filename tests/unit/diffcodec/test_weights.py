"""Facts about weights files. The ONNX ones are skipped where onnx is not installed (a device)."""

from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from diffcodec import Dtype, InputError, LayoutError, ParameterSet
from diffcodec.weights import new_graph, read_weights, write_weights
from tests.unit.diffcodec.strategies import example, weights_of

BASE, _ = example()


def onnx_model(path: Path, seed: int, *, external: str | None = None, target: int = 6) -> Path:
    """A small model: parameters of several dtypes, and an integer constant."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(seed)
    initializers = [
        onnx.numpy_helper.from_array(rng.standard_normal((300, 6)).astype(np.float32), "w"),
        onnx.numpy_helper.from_array(rng.standard_normal(6).astype(np.float16), "h"),
        onnx.numpy_helper.from_array(rng.integers(-9, 9, 4).astype(np.int8), "i"),
        onnx.helper.make_tensor("b", onnx.TensorProto.BFLOAT16, [2], [1.5, float(seed)]),
        onnx.helper.make_tensor("f", onnx.TensorProto.FLOAT, [], [0.25]),
        onnx.numpy_helper.from_array(np.array([-1, target]), "shape"),
    ]
    values = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "g",
        [values("x", onnx.TensorProto.FLOAT, [None])],
        [values("y", onnx.TensorProto.FLOAT, [None, target])],
        initializers,
    )
    model = onnx.helper.make_model(graph)
    if external:
        onnx.save(model, path, save_as_external_data=True, location=external, size_threshold=16)
    else:
        onnx.save(model, path)
    return path


def test_safetensors_of_every_dtype_read_back(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(path, BASE)
    assert read_weights(path) == BASE
    assert {spec.dtype for spec in read_weights(path).layout.tensors} == set(Dtype)


def test_what_is_written_is_a_safetensors_file(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    weights = ParameterSet.from_arrays(
        {"a": np.arange(3, dtype=np.int8), "b": np.ones((2, 2), np.float32), "é": np.float16([7])}
    )
    write_weights(path, weights)
    read = safetensors.numpy.load_file(path)
    assert {name: array.tolist() for name, array in read.items()} == {
        "a": [0, 1, 2],
        "b": [[1, 1], [1, 1]],
        "é": [7],
    }


def test_metadata_of_the_base_is_kept(tmp_path: Path):
    base = tmp_path / "base.safetensors"
    safetensors.numpy.save_file({"w": np.ones(2, np.float32)}, base, metadata={"who": "me"})
    write_weights(tmp_path / "new.safetensors", read_weights(base), like=base)
    with safetensors.safe_open(str(tmp_path / "new.safetensors"), "numpy") as opened:
        assert opened.metadata() == {"who": "me"}


def test_other_dtypes_are_refused_with_the_tensor_named(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    safetensors.numpy.save_file({"count": np.zeros(2, np.int64)}, path)
    with pytest.raises(InputError, match=r"tensor count: expected F32.*found I64"):
        read_weights(path)


@pytest.mark.parametrize("name", ["w.safetensors", "w.onnx"])
@pytest.mark.parametrize("data", [b"", b"nonsense" * 9])
def test_damaged_files_are_refused_with_their_name(tmp_path: Path, name: str, data: bytes):
    if name.endswith("onnx"):
        pytest.importorskip("onnx")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=name):
        read_weights(tmp_path / name)


def test_other_kinds_of_files_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"expected a file named \*\.safetensors or \*\.onnx"):
        read_weights(tmp_path / "w.pt")
    with pytest.raises(InputError, match=r"expected a \.onnx file"):
        write_weights(tmp_path / "w.safetensors", BASE, like=tmp_path / "m.onnx")


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    path.write_text("old")
    broken = weights_of(BASE.layout, 3)
    broken.arrays["bias"] = None
    with pytest.raises(AttributeError):
        write_weights(path, broken)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("external", [None, "weights.bin"])
def test_onnx_weights_read_back_with_the_graph_kept(tmp_path: Path, external: str | None):
    base = onnx_model(tmp_path / "base.onnx", 1, external=external)
    other = onnx_model(tmp_path / "other.onnx", 2)
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "out" / "new.onnx", tmp_path / "new.onnx"):
        write_weights(path, read_weights(other), like=base)
        assert read_weights(path) == read_weights(other)
        assert new_graph(base, path) is None
        onnx = pytest.importorskip("onnx")
        onnx.checker.check_model(str(path))
    assert read_weights(base) != read_weights(other)
    beside = {p.name for p in (tmp_path / "out").iterdir()}
    assert beside == ({"new.onnx", "weights.bin"} if external else {"new.onnx"})


def test_onnx_weights_beside_a_model_are_a_flat_store(tmp_path: Path):
    base = onnx_model(tmp_path / "base.onnx", 1, external="weights.bin")
    (tmp_path / "out").mkdir()
    write_weights(tmp_path / "out" / "new.onnx", read_weights(base), like=base)
    onnx = pytest.importorskip("onnx")
    model = onnx.load(tmp_path / "out" / "new.onnx", load_external_data=False)
    offsets = {
        t.name: int(next(e.value for e in t.external_data if e.key == "offset"))
        for t in model.graph.initializer
        if t.external_data
    }
    assert offsets
    assert all(offset % 4096 == 0 for offset in offsets.values())
    assert sorted(offsets, key=offsets.__getitem__) == sorted(offsets)


def test_integer_constants_are_graph_and_not_parameters(tmp_path: Path):
    base = onnx_model(tmp_path / "base.onnx", 1)
    assert set(read_weights(base).arrays) == {"w", "h", "i", "b", "f"}
    other = onnx_model(tmp_path / "other.onnx", 1, target=3)
    assert new_graph(base, other) is not None


@pytest.mark.parametrize("external", [None, "weights.bin"])
def test_another_graph_is_written_where_the_base_keeps_its_weights(
    tmp_path: Path, external: str | None
):
    onnx = pytest.importorskip("onnx")
    base = onnx_model(tmp_path / "base.onnx", 1, external=external)
    other = onnx_model(tmp_path / "other.onnx", 2)
    model = onnx.load(other)
    model.graph.node[0].name = "renamed"
    onnx.save(model, other)
    graph = new_graph(base, other)
    assert graph is not None
    assert len(graph) < other.stat().st_size
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "new.onnx"
    write_weights(path, read_weights(other), base, graph)
    onnx.checker.check_model(str(path))
    assert onnx.load(path, load_external_data=False).graph.node[0].name == "renamed"
    assert read_weights(path) == read_weights(other)
    beside = {p.name for p in (tmp_path / "out").iterdir()}
    assert beside == ({"new.onnx", "weights.bin"} if external else {"new.onnx"})


def test_a_graph_for_other_weights_is_refused(tmp_path: Path):
    base = onnx_model(tmp_path / "base.onnx", 1)
    other = onnx_model(tmp_path / "other.onnx", 1, target=3)
    with pytest.raises(LayoutError):
        write_weights(tmp_path / "new.onnx", BASE, base, new_graph(base, other))
    with pytest.raises(InputError, match="expected an ONNX model"):
        write_weights(tmp_path / "new.onnx", BASE, base, b"no graph")
    assert not (tmp_path / "new.onnx").exists()


def test_weights_for_another_graph_are_refused(tmp_path: Path):
    base = onnx_model(tmp_path / "base.onnx", 1)
    with pytest.raises(LayoutError, match=r"tensor b: expected bfloat16 2 as in"):
        write_weights(tmp_path / "new.onnx", BASE, like=base)
    assert not (tmp_path / "new.onnx").exists()


def test_onnx_needs_a_graph_to_write(tmp_path: Path):
    with pytest.raises(InputError, match="a model whose graph to keep"):
        write_weights(tmp_path / "new.onnx", BASE)


def test_missing_external_weights_are_named(tmp_path: Path):
    base = onnx_model(tmp_path / "base.onnx", 1, external="weights.bin")
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"base\.onnx: tensor \w+: cannot read its data"):
        read_weights(base)


def test_no_other_file_is_replaced_for_external_weights(tmp_path: Path):
    base = onnx_model(tmp_path / "base.onnx", 1, external="weights.bin")
    (tmp_path / "new.weights.bin").write_text("precious")
    with pytest.raises(InputError, match="choose another folder"):
        write_weights(tmp_path / "new.onnx", read_weights(base), like=base)
    assert (tmp_path / "new.weights.bin").read_text() == "precious"

"""Facts about layouts, the flat store and digests."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from diffcodec import Dtype, InputError, Layout, LayoutError, ParameterSet, TensorSpec
from diffcodec.parameters import matrix_of
from tests.unit.diffcodec.strategies import SEEDS, layouts, weights_of

TWO = Layout.of([TensorSpec("b", Dtype.FLOAT32, (3,)), TensorSpec("a", Dtype.BFLOAT16, (2, 2))])


def test_tensors_are_sorted_by_the_bytes_of_their_names():
    names = ["Z", "a", "é", "a.b", "𝄞", "ﬀ"]
    layout = Layout.of(TensorSpec(n, Dtype.INT8, (1,)) for n in names)
    assert [t.name for t in layout.tensors] == sorted(names, key=str.encode)


def test_fingerprint_is_sha256_of_one_line_a_tensor():
    lines = b"a\tbfloat16\t2x2\nb\tfloat32\t3\n"
    assert TWO.fingerprint == hashlib.sha256(lines).digest()


def test_flat_store_pads_tensors_to_pages_and_ends_without_padding(tmp_path: Path):
    weights = weights_of(TWO, 0)
    weights.write(tmp_path / "weights.bin")
    data = (tmp_path / "weights.bin").read_bytes()
    assert TWO.offsets == (0, 4096)
    assert len(data) == TWO.file_bytes == 4096 + 12
    assert data[:8] == weights.arrays["a"].tobytes()
    assert not any(data[8:4096])
    assert data[4096:] == weights.arrays["b"].tobytes()


def test_digest_covers_fingerprint_and_flat_store(tmp_path: Path):
    weights = weights_of(TWO, 0)
    weights.write(tmp_path / "weights.bin")
    data = (tmp_path / "weights.bin").read_bytes()
    assert weights.digest() == hashlib.sha256(TWO.fingerprint + data).digest()


@given(layouts(), SEEDS)
def test_what_is_written_reads_back_bit_for_bit(tmp_path_factory, layout: Layout, seed: int):
    path = tmp_path_factory.mktemp("store") / "weights.bin"
    weights = weights_of(layout, seed, any_bits=True)
    weights.write(path)
    assert path.stat().st_size == layout.file_bytes
    assert ParameterSet.read(path, layout) == weights


@given(layouts())
def test_layout_survives_json(layout: Layout):
    again = Layout.from_json(layout.to_json())
    assert again == layout
    assert again.fingerprint == layout.fingerprint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"tensors": 3}',
        '{"tensors": [{"name": "a", "dtype": "float64", "shape": []}]}',
        '{"tensors": [{"name": "a", "dtype": "int8", "shape": [1.5]}]}',
        '{"tensors": [{"name": "a", "dtype": "int8", "shape": [-1]}]}',
        '{"tensors": [{"name": 7, "dtype": "int8", "shape": []}]}',
    ],
)
def test_other_json_is_refused(text: str):
    with pytest.raises(LayoutError):
        Layout.from_json(text)


@pytest.mark.parametrize("name", ["", "a\tb", "a\n", "\ud800", "x" * 1025])
def test_names_that_fingerprints_cannot_tell_apart_are_refused(name: str):
    with pytest.raises(LayoutError, match="name"):
        TensorSpec(name, Dtype.INT8, (1,))


def test_a_name_that_occurs_twice_is_refused():
    spec = TensorSpec("a", Dtype.INT8, (1,))
    with pytest.raises(LayoutError, match="'a' after 'a'"):
        Layout.of([spec, spec])


def test_tensors_beyond_32_bit_positions_are_refused():
    with pytest.raises(LayoutError, match="4294967295"):
        TensorSpec("a", Dtype.INT8, (65536, 65536))


def test_arrays_are_copied_and_read_only():
    mine = np.ones(3, np.float32)
    weights = ParameterSet.from_arrays({"w": mine})
    mine[0] = 5
    assert weights.arrays["w"][0] == 1
    with pytest.raises(ValueError, match="read-only"):
        weights.arrays["w"][0] = 2


def test_arrays_in_other_order_of_memory_are_stored_in_c_order():
    fortran = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    weights = ParameterSet.from_arrays({"w": fortran})
    assert weights == ParameterSet.from_arrays({"w": np.ascontiguousarray(fortran)})


def test_other_dtypes_are_refused_with_the_tensor_named():
    with pytest.raises(InputError, match=r"tensor w: expected one of float32.*found float64"):
        ParameterSet.from_arrays({"w": np.zeros(2)})


def test_equality_is_of_bits():
    nan = ParameterSet.from_arrays({"w": np.array([np.nan], np.float32)})
    plus = ParameterSet.from_arrays({"w": np.array([0.0], np.float32)})
    minus = ParameterSet.from_arrays({"w": np.array([-0.0], np.float32)})
    assert nan == nan
    assert plus != minus


def test_a_store_of_another_size_is_refused(tmp_path: Path):
    (tmp_path / "w").write_bytes(bytes(10))
    with pytest.raises(LayoutError, match="expected 4108 bytes, found 10"):
        ParameterSet.read(tmp_path / "w", TWO)


def test_a_store_with_bytes_in_its_padding_is_refused(tmp_path: Path):
    data = bytearray(TWO.file_bytes)
    data[4000] = 1
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(LayoutError, match="expected zeros before tensor b"):
        ParameterSet.read(tmp_path / "w", TWO)


def test_layouts_that_differ_are_told_apart_by_tensor_dtype_and_shape():
    other = Layout.of(
        [TensorSpec("b", Dtype.FLOAT16, (4,)), TensorSpec("a", Dtype.BFLOAT16, (2, 2))]
    )
    with pytest.raises(LayoutError, match="b: expected float32 3 as in X, found float16 4 in Y"):
        TWO.require(other, "X", "Y")
    TWO.require(TWO, "X", "Y")


@pytest.mark.parametrize(
    ("shape", "matrix"),
    [
        ((), (1, 1)),
        ((7,), (1, 7)),
        ((4500, 64), (4500, 64)),
        ((1, 480, 192), (480, 192)),
        ((2, 480, 192), (960, 192)),
        ((64, 32, 3, 3), (64, 288)),
        ((84, 84, 5), (84, 420)),
        ((1, 960), (1, 960)),
        ((960, 1), (960, 1)),
    ],
)
def test_a_tensor_is_seen_as_the_squarest_matrix_of_its_order(shape, matrix):
    assert matrix_of(shape) == matrix


@pytest.mark.parametrize("shape", [(0, 2**32 - 1, 2), (2**16, 0, 2**16)])
def test_empty_tensors_are_held_to_the_same_dimensions(shape: tuple[int, ...]):
    with pytest.raises(LayoutError, match="whose product is at most 4294967295, found shape"):
        TensorSpec("w", Dtype.FLOAT32, shape)


def test_the_largest_empty_tensor_can_be_held():
    layout = Layout.of([TensorSpec("w", Dtype.FLOAT32, (2**32 - 1, 0, 1))])
    assert ParameterSet.zeros(layout).arrays["w"].size == 0


def test_offsets_are_known_by_name():
    assert TWO.offset_of == {"a": 0, "b": 4096}

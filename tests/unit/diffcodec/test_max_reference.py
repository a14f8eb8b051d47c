"""The C coder and the plain Python decoder agree on every stream; the tables are as shipped."""

import io

import numpy as np
import pytest

from diffcodec.coders.max import coding as coder
from diffcodec.coders.max import reference
from diffcodec.coders.max import tables as mixing_tables
from diffcodec.coders.max.reference_sparse import decode_sparse
from diffcodec.errors import FormatError
from tests.unit.diffcodec.test_max import SHAPES, Tensor, encode, tensor

needs_extension = pytest.mark.skipif(not coder.is_available(), reason="no C extension")


def dense(given: Tensor) -> list[int]:
    shape, positions, levels, _ = given
    result = np.zeros(int(np.prod(shape, dtype=np.int64)), np.int8)
    result[positions] = levels
    return result.tolist()


@needs_extension
@pytest.mark.parametrize("density", [0.003, 0.08, 0.6, 1.0])
def test_the_reference_decodes_what_the_extension_wrote(density: float) -> None:
    shapes = [shape for shape in SHAPES if np.prod(shape, dtype=np.int64) < 17_000]
    tensors = [
        tensor(shape, density, largest, seed)
        for seed, (shape, largest) in enumerate(zip(shapes, [1, 2, 15, 127] * 4, strict=False))
    ] + [tensor((1, 64, 40), density, 15, 99), tensor((2, 64, 20), density, 2, 98)]
    found = decode_sparse(encode(tensors), [(t[0], t[1].size, t[3]) for t in tensors])
    assert found == [dense(t) for t in tensors]


@needs_extension
@pytest.mark.parametrize("seed", range(8))
def test_the_reference_agrees_about_noise(seed: int) -> None:
    rng = np.random.default_rng(seed)
    coded = rng.bytes(int(rng.integers(0, 400)))
    shape, count, largest = (32, 33), int(rng.integers(1, 1000)), int(rng.integers(1, 128))
    decoder = coder.SparseDecoder(io.BytesIO(coded).read, len(coded))
    decoder.begin(shape, count, largest)
    try:
        positions, levels = decoder.take(32 * 33)
        decoder.finish()
    except FormatError:
        with pytest.raises(FormatError):
            decode_sparse(coded, [(shape, count, largest)])
    else:
        expected = dense((shape, positions, levels, largest))
        assert decode_sparse(coded, [(shape, count, largest)]) == [expected]


@needs_extension
def test_the_reference_decodes_symbols() -> None:
    rng = np.random.default_rng(1)
    arrays = [(rng.normal(0, 2, n).round().astype(np.int8), w) for n, w in [(900, 0), (800, 4)]]
    encoder = coder.SymbolEncoder()
    for levels, width in arrays:
        encoder.add(levels, 12, width)
    found = reference.decode_symbols(encoder.finish(), [(a.size, 12, w) for a, w in arrays])
    assert found == [a.tolist() for a, _ in arrays]


@needs_extension
@pytest.mark.parametrize("itemsize", [1, 2, 4])
def test_the_reference_decodes_bytes(itemsize: int) -> None:
    rng = np.random.default_rng(2)
    elements = rng.integers(0, 256, (700, itemsize), dtype=np.uint8)
    elements[rng.random(700) < 0.5] = 0
    elements[::3, 0] = 0
    elements[::5, 1:] = 0
    encoder = coder.ByteEncoder()
    for width in (0, 70):
        encoder.add(elements.ravel(), itemsize, width)
    described = [(elements.size, itemsize, width) for width in (0, 70)]
    assert reference.decode_bytes(encoder.finish(), described) == [elements.tobytes()] * 2


@needs_extension
@pytest.mark.parametrize("shape", [(2, 128, 1), (2, 256, 1), (2, 128, 2)])
def test_the_reference_decodes_gates_that_are_shorter_than_a_segment(shape) -> None:
    tensors = [tensor(shape, 0.6, 15, seed) for seed in range(3)]
    found = decode_sparse(encode(tensors), [(t[0], t[1].size, t[3]) for t in tensors])
    assert found == [dense(t) for t in tensors]


@needs_extension
def test_the_reference_decodes_bytes_of_several_item_sizes_in_one_stream() -> None:
    rng = np.random.default_rng(3)
    data = [rng.integers(0, 256, 40 * n, dtype=np.uint8) for n in (4, 2, 1, 4, 2)]
    encoder = coder.ByteEncoder()
    for part in data:
        encoder.add(part, part.size // 40)
    described = [(part.size, part.size // 40, 0) for part in data]
    found = reference.decode_bytes(encoder.finish(), described)
    assert found == [part.tobytes() for part in data]


@needs_extension
def test_a_stream_that_starts_with_the_whole_range_is_refused() -> None:
    coded = bytes([255] * 8 + [1, 2, 3])
    decoder = coder.SymbolDecoder(io.BytesIO(coded).read, len(coded))
    decoder.begin(1, 1, 0)
    with pytest.raises(FormatError, match="not start with ffff"):
        decoder.take(1)
    with pytest.raises(FormatError, match="not start with ffff"):
        reference.decode_symbols(coded, [(1, 1, 0)])


def test_the_tables_are_the_shipped_ones() -> None:
    assert mixing_tables.checksum() == mixing_tables.CHECKSUM
    assert mixing_tables.HEADER.read_text(encoding="utf-8") == mixing_tables.header()


def test_the_probabilities_are_a_logistic_function() -> None:
    logits = (np.arange(len(reference.TABLE)) - 1407.5) / 128
    exact = 65_536 / (1 + np.exp(-logits))
    assert np.all(np.abs(np.array(reference.TABLE) - exact) <= 0.01 * exact + 2)
    assert sorted(reference.TABLE) == reference.TABLE
    assert min(reference.TABLE) >= 1 and max(reference.TABLE) <= 65_535

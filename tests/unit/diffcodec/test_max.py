"""The coder `max`: what goes in comes out, whatever the shape, and nothing else is accepted."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffcodec.coders.max import coding as coder
from diffcodec.errors import FormatError

pytestmark = pytest.mark.skipif(not coder.is_available(), reason="no C extension: no compiler")

Tensor = tuple[tuple[int, ...], NDArray[np.int64], NDArray[np.int8], int]

SHAPES: list[tuple[int, ...]] = [
    (), (1,), (5,), (64,), (65,), (300,), (4, 3), (512, 1), (16, 16), (8, 96), (12, 97), (40, 200),
    (3, 5000), (1, 70_000), (8, 4, 3, 3), (256, 64),
]  # fmt: skip


def tensor(shape: tuple[int, ...], density: float, largest: int, seed: int) -> Tensor:
    """Random, but clustered by row and column, with signs of rank one."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=np.int64))
    rows = shape[0] if len(shape) > 1 else 1
    a, b = rng.normal(size=(rows, 1)), rng.normal(size=(1, size // rows))
    values = (a * b + 0.3 * rng.normal(size=(rows, size // rows))).ravel()
    count = max(1, round(density * size))
    positions = np.sort(np.argsort(-np.abs(values), kind="stable")[:count]).astype(np.int64)
    chosen = values[positions]
    magnitudes = np.ceil(np.abs(chosen) / np.abs(chosen).max() * largest)
    return shape, positions, (np.sign(chosen) * magnitudes).astype(np.int8), largest


def encode(tensors: list[Tensor]) -> bytes:
    encoder = coder.SparseEncoder()
    for shape, positions, levels, largest in tensors:
        encoder.add(shape, positions, levels, largest)
    return encoder.finish()


def decode(coded: bytes, tensors: list[Tensor], step: int) -> None:
    """Decode in runs of `step` elements and compare."""
    decoder = coder.SparseDecoder(io.BytesIO(coded).read, len(coded))
    for shape, positions, levels, largest in tensors:
        decoder.begin(shape, positions.size, largest)
        left = int(np.prod(shape, dtype=np.int64))
        parts = []
        while left:
            parts.append(decoder.take(min(step, left)))
            left -= min(step, left)
        np.testing.assert_array_equal(np.concatenate([p for p, _ in parts]), positions)
        np.testing.assert_array_equal(np.concatenate([v for _, v in parts]), levels)
    decoder.finish()


@pytest.mark.parametrize("step", [1000, 131_072])
@pytest.mark.parametrize("density", [0.001, 0.05, 0.5, 1.0])
def test_sparse_tensors_come_back(density: float, step: int) -> None:
    tensors = [
        tensor(shape, density, largest, seed)
        for seed, (shape, largest) in enumerate(zip(SHAPES, [1, 2, 15, 127] * 4, strict=True))
    ]
    decode(encode(tensors), tensors, step)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_sparse_tensor_comes_back(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES[:11]))
    size = int(np.prod(shape, dtype=np.int64))
    chosen = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=60))
    largest = data.draw(st.integers(1, 127))
    level = st.integers(1, largest).flatmap(lambda m: st.sampled_from([m, -m]))
    levels = data.draw(st.lists(level, min_size=len(chosen), max_size=len(chosen)))
    given_tensor = (
        shape, np.array(sorted(chosen), np.int64), np.array(levels, np.int8), largest,
    )  # fmt: skip
    decode(encode([given_tensor] * 2), [given_tensor] * 2, data.draw(st.integers(1, 200)))


def test_a_tensor_larger_than_the_window_streams() -> None:
    rng = np.random.default_rng(1)
    positions = np.flatnonzero(rng.random(1024 * 700) < 0.3)
    levels = rng.integers(1, 100, positions.size) * rng.choice([-1, 1], positions.size)
    tensors: list[Tensor] = [((1024, 700), positions, levels.astype(np.int8), 100)]
    coded = encode(tensors)
    assert len(coded) > 2 * coder.READ_BYTES
    decode(coded, tensors, 131_072)


@pytest.mark.parametrize(
    ("shape", "width", "lag"),
    [
        ((), 64, 0),
        ((512,), 64, 128),
        ((63,), 64, 0),
        ((512, 80), 80, 10_240),
        ((1, 512, 80), 80, 10_240),
        ((2, 512, 80), 80, 10_240),
        ((1, 960), 64, 240),
        ((33, 80), 80, 0),
        ((33, 40, 3, 3), 360, 0),
        ((33, 1, 3, 3), 36, 0),
        ((4, 3), 33, 0),
        ((33, 70_000), 4096, 0),
        ((4096, 4097), 4097, 0),
    ],
)
def test_shapes_are_seen_as_rows_and_gates(shape: tuple[int, ...], width: int, lag: int) -> None:
    size = int(np.prod(shape, dtype=np.int64))
    assert coder.Matrix.of(shape) == coder.Matrix(size, width, lag)


def test_structure_is_worth_bytes() -> None:
    shape, positions, levels, largest = tensor((512, 128), 0.05, 15, 2)
    shuffled = np.random.default_rng(0).permutation(512 * 128)[: positions.size]
    noise = (shape, np.sort(shuffled), levels, largest)
    assert len(encode([(shape, positions, levels, largest)])) < 0.6 * len(encode([noise]))


def test_no_tensors_are_no_bytes() -> None:
    assert encode([]) == b""
    coder.SparseDecoder(io.BytesIO(b"").read, 0).finish()


@pytest.mark.parametrize(
    ("positions", "levels", "largest"),
    [
        ([1, 1], [1, 1], 1),
        ([2, 1], [1, 1], 1),
        ([-1, 1], [1, 1], 1),
        ([1, 100], [1, 1], 1),
        ([1, 2], [1, 0], 1),
        ([1, 2], [1, -3], 2),
        ([1, 2], [1, -128], 127),
        ([1, 2], [1], 2),
        ([], [], 1),
        ([1], [1], 0),
        ([1], [1], 128),
    ],
)
def test_what_a_tensor_cannot_hold_is_refused(
    positions: list[int], levels: list[int], largest: int
) -> None:
    encoder = coder.SparseEncoder()
    with pytest.raises(ValueError, match=r"expected|not a tensor"):
        encoder.add((10, 10), np.array(positions, np.int64), np.array(levels, np.int8), largest)


def test_truncation_and_left_over_bytes_are_refused() -> None:
    tensors = [tensor((64, 64), 0.1, 15, 3)]
    coded = encode(tensors)
    for other in [coded[:at] for at in range(len(coded))] + [coded + b"\1", coded + b"\0"]:
        with pytest.raises((FormatError, AssertionError)):
            decode(other, tensors, 4096)


def test_every_flipped_bit_gives_other_levels_or_an_error() -> None:
    tensors = [tensor((16, 16), 0.2, 3, 4)]
    coded = encode(tensors)
    for bit in range(8 * len(coded)):
        flipped = bytearray(coded)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, AssertionError)):
            decode(bytes(flipped), tensors, 4096)


@given(coded=st.binary(max_size=300), shape=st.sampled_from(SHAPES), largest=st.integers(1, 127))
@settings(max_examples=150, deadline=None)
def test_any_bytes_give_a_valid_tensor_or_a_format_error(
    coded: bytes, shape: tuple[int, ...], largest: int
) -> None:
    size = int(np.prod(shape, dtype=np.int64))
    count = max(1, size // 3)
    decoder = coder.SparseDecoder(io.BytesIO(coded).read, len(coded))
    decoder.begin(shape, count, largest)
    try:
        positions, levels = decoder.take(size)
        decoder.finish()
    except FormatError:
        return
    assert positions.size == count
    assert np.all(np.diff(positions) > 0)
    assert positions[0] >= 0 and positions[-1] < size
    assert np.abs(levels).min() >= 1 and np.abs(levels).max() <= largest
    # There is one coding of everything, so these were its bytes.
    assert encode([(shape, positions, levels, largest)]) == coded


def test_a_source_that_ends_early_is_a_format_error() -> None:
    tensors = [tensor((64, 64), 0.5, 15, 5)]
    coded = encode(tensors)
    decoder = coder.SparseDecoder(io.BytesIO(coded[:-9]).read, len(coded))
    decoder.begin(*tensors[0][:1], tensors[0][1].size, 15)
    with pytest.raises(FormatError, match="coded bytes"):
        decoder.take(4096)


def test_a_tensor_must_be_covered_before_the_next() -> None:
    tensors = [tensor((64, 64), 0.5, 15, 5)]
    coded = encode(tensors)
    decoder = coder.SparseDecoder(io.BytesIO(coded).read, len(coded))
    decoder.begin((64, 64), tensors[0][1].size, 15)
    decoder.take(10)
    with pytest.raises(RuntimeError, match="not taken"):
        decoder.begin((64, 64), 1, 15)
    with pytest.raises(RuntimeError, match="at most"):
        decoder.take(4096)


@given(
    arrays=st.lists(st.lists(st.integers(-127, 127), min_size=1, max_size=80), max_size=4),
    width=st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_symbols_come_back(arrays: list[list[int]], width: int) -> None:
    levels = [np.array(array, np.int8) for array in arrays]
    largest = [max(1, int(np.abs(array).max())) for array in levels]
    encoder = coder.SymbolEncoder()
    for array, most in zip(levels, largest, strict=True):
        encoder.add(array, most, width)
    coded = encoder.finish()
    decoder = coder.SymbolDecoder(io.BytesIO(coded).read, len(coded))
    for array, most in zip(levels, largest, strict=True):
        decoder.begin(array.size, most, width)
        cut = array.size // 2
        parts = [decoder.take(cut), decoder.take(array.size - cut)]
        np.testing.assert_array_equal(np.concatenate(parts), array)
    decoder.finish()


@given(
    data=st.binary(min_size=4, max_size=400),
    itemsize=st.sampled_from([1, 2, 4]),
    width=st.integers(0, 20),
    zeroed=st.integers(0, 255),
)
@settings(max_examples=80, deadline=None)
def test_bytes_come_back(data: bytes, itemsize: int, width: int, zeroed: int) -> None:
    xor = np.frombuffer(data, np.uint8)[: len(data) // 4 * 4] & np.uint8(zeroed)
    encoder = coder.ByteEncoder()
    encoder.add(xor, itemsize, width)
    encoder.add(xor[::-1], itemsize, width)
    coded = encoder.finish()
    decoder = coder.ByteDecoder(io.BytesIO(coded).read, len(coded))
    for expected in (xor, xor[::-1]):
        decoder.begin(expected.size, itemsize, width)
        cut = expected.size // 8 * 4
        parts = [decoder.take(cut), decoder.take(expected.size - cut)]
        np.testing.assert_array_equal(np.concatenate(parts), expected)
    decoder.finish()


@given(coded=st.binary(max_size=200), itemsize=st.sampled_from([1, 2, 4]))
@settings(max_examples=80, deadline=None)
def test_any_bytes_decode_to_symbols_and_bytes_or_a_format_error(
    coded: bytes, itemsize: int
) -> None:
    symbols = coder.SymbolDecoder(io.BytesIO(coded).read, len(coded))
    symbols.begin(100, itemsize, 10)
    try:
        assert np.abs(symbols.take(100)).max() <= itemsize
        symbols.finish()
    except FormatError:
        pass
    data = coder.ByteDecoder(io.BytesIO(coded).read, len(coded))
    data.begin(100 * itemsize, itemsize, 10)
    try:
        assert data.take(100 * itemsize).size == 100 * itemsize
        data.finish()
    except FormatError:
        pass


def test_lossless_bytes_of_a_small_change_shrink() -> None:
    rng = np.random.default_rng(6)
    old = rng.normal(size=(256, 64)).astype(np.float32)
    moved = rng.random(old.shape) < 0.1
    new = np.where(moved, old * np.float32(1.001), old)
    xor = (old.view(np.uint32) ^ new.view(np.uint32)).view(np.uint8).ravel()
    encoder = coder.ByteEncoder()
    encoder.add(xor, 4, 64)
    assert len(encoder.finish()) < 0.08 * xor.size


def test_decoding_before_a_tensor_has_begun_is_refused() -> None:
    empty = coder._mixing.Coder(coder.SPARSE, True)
    with pytest.raises(ValueError, match="has begun"):
        empty.decode(b"", True, 1, np.zeros(200, np.int8), np.zeros(200, np.int64))

"""Vectorised rANS: symbols and bits come back, and no bytes do harm."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diffcodec.coders.rows.rans import LOWEST_STATE, TOTAL, Model, Reader, Writer, normalise
from diffcodec.errors import FormatError

Call = tuple[str, NDArray[np.int64], NDArray[np.int64]]


def reading(data: bytes) -> Callable[[int], NDArray[np.uint8]]:
    """Reads data forwards; asking for too much would be the reader's fault."""
    left = [np.frombuffer(data, dtype=np.uint8)]

    def read(count: int) -> NDArray[np.uint8]:
        assert count <= left[0].size, "read beyond the promised length"
        taken, left[0] = left[0][:count].copy(), left[0][count:]
        return taken

    return read


def uniform(contexts: int = 3, alphabet: int = 7) -> Model:
    return Model(np.ones((contexts, alphabet), dtype=np.int64))


@st.composite
def calls(draw: st.DrawFn) -> list[Call]:
    """Calls of symbols (contexts below 3, symbols below 7) and of bits (widths, values)."""
    found: list[Call] = []
    for _ in range(draw(st.integers(0, 5))):
        count = draw(st.integers(0, 3_000))
        random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        if draw(st.booleans()):
            symbols = np.minimum(random.geometric(0.6, count) - 1, 6)
            found.append(("symbols", random.integers(0, 3, count), symbols))
        else:
            widths = random.integers(0, 33, count)
            found.append(("bits", widths, random.integers(0, 2**32, count) & ((1 << widths) - 1)))
    return found


def written(parts: list[Call]) -> bytes:
    writer, model = Writer(), uniform()
    for kind, given_values, values in parts:
        if kind == "symbols":
            writer.symbols(model, given_values, values.astype(np.uint8))
        else:
            writer.bits(values, given_values.astype(np.uint8))
    return writer.finish()


def read_back(data: bytes, parts: list[Call]) -> list[NDArray[np.int64]]:
    reader, model = Reader(reading(data), len(data)), uniform()
    found = [
        reader.symbols(model, known).astype(np.int64)
        if kind == "symbols"
        else reader.bits(known.astype(np.uint8))
        for kind, known, _ in parts
    ]
    reader.finish()
    return found


@settings(deadline=None, max_examples=40)
@given(calls())
def test_calls_come_back_in_their_order(parts: list[Call]) -> None:
    for found, (_, _, values) in zip(read_back(written(parts), parts), parts, strict=True):
        np.testing.assert_array_equal(found, values)


def test_learning_approaches_the_entropy_of_the_symbols() -> None:
    random = np.random.default_rng(0)
    symbols = random.choice(4, 100_000, p=[0.9, 0.05, 0.03, 0.02]).astype(np.uint8)
    contexts = np.zeros(symbols.size, dtype=np.int64)
    writer, model = Writer(), uniform()
    for at in range(0, symbols.size, 100):
        writer.symbols(model, contexts[at : at + 100], symbols[at : at + 100])
    shares = np.bincount(symbols) / symbols.size
    entropy_bytes = -(shares * np.log2(shares)).sum() * symbols.size / 8
    assert len(writer.finish()) < 1.02 * entropy_bytes


@given(
    st.lists(st.lists(st.integers(0, 2**22), min_size=5, max_size=5), min_size=1, max_size=4),
)
def test_frequencies_fill_the_slots_and_leave_no_symbol_out(weights: list[list[int]]) -> None:
    frequencies = normalise(np.array(weights))
    assert (frequencies >= 1).all()
    assert (frequencies.sum(axis=1) == TOTAL).all()


def test_an_empty_stream_is_one_lane_in_its_lowest_state() -> None:
    assert Writer().finish() == b"\x00" + LOWEST_STATE.to_bytes(4, "little")


def sample() -> tuple[bytes, list[Call]]:
    random = np.random.default_rng(1)
    symbols = np.minimum(random.geometric(0.5, 150) - 1, 6)
    widths = random.integers(0, 33, 16)
    values = random.integers(0, 2**32, 16) & ((1 << widths) - 1)
    parts: list[Call] = [
        ("symbols", random.integers(0, 3, 150), symbols),
        ("bits", widths, values),
    ]
    return written(parts), parts


def test_every_truncation_is_refused() -> None:
    data, parts = sample()
    for length in range(len(data)):
        with pytest.raises(FormatError):
            read_back(data[:length], parts)


def test_flipped_bits_are_refused_or_give_valid_values() -> None:
    data, parts = sample()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            symbols, values = read_back(bytes(flipped), parts)
        except FormatError:
            continue
        assert (symbols < 7).all()
        assert (values >> parts[1][1] == 0).all()


def test_bytes_after_the_end_are_refused() -> None:
    data, parts = sample()
    for extra in (b"\x00", b"\x00\x00", b"\xff" * 7):
        with pytest.raises(FormatError):
            read_back(data + extra, parts)


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=400), calls())
def test_any_bytes_give_symbols_or_a_format_error(data: bytes, parts: list[Call]) -> None:
    try:
        found = read_back(data, parts)
    except FormatError:
        return
    for values, (kind, _, _) in zip(found, parts, strict=True):
        assert kind == "bits" or (values < 7).all()

"""Files too large to be golden, read by the decoder that was written from the document.

It checks digests itself, so each of these tests is that its `apply_file` returns. Golden files are
small, for a test cuts and flips every byte of them; much of a model's learning, strips, gates, long
calls and limits need more entries than they hold.
"""

from contextlib import nullcontext

import numpy as np
import pytest
from numpy.random import Generator

from diffcodec import (
    Coder,
    Diff,
    Dtype,
    Layer,
    Layout,
    LosslessDiff,
    SparseDiff,
    TensorSpec,
    Uniform,
    encode,
)
from tests.vectors import independent_decoder, regenerate

FORMS = [("rows", Coder.FAST), (None, Coder.MAX)]


def crowded(
    random: Generator, shape: tuple[int, ...], count: int, largest: int, signs: str
) -> SparseDiff:
    """About `count` entries that crowd in some rows and columns; signs that follow something."""
    rows, columns = int(np.prod(shape[:-1])), shape[-1]
    density = np.outer(random.lognormal(0, 1.2, rows), random.lognormal(0, 1.2, columns))
    places = np.flatnonzero(random.random((rows, columns)) < density * count / density.sum())
    magnitudes = np.minimum(random.geometric(0.5, places.size), largest)
    is_negative = {
        "columns": (random.random(columns) < 0.5)[places % columns],
        "neighbours": np.sin(places / 7) > 0,
        "none": random.random(places.size) < 0.5,
    }[signs] ^ (random.random(places.size) < 0.05)
    levels = np.where(is_negative, -magnitudes, magnitudes)
    return SparseDiff(places, levels.astype(np.int8), Uniform(0.25))


def read_by_the_second_decoder(
    specs: list[TensorSpec], layers: list[dict], form: str | None, coder: Coder
) -> None:
    """Encode a snapshot, and check that the second decoder reaches its digest."""
    diff = Diff(Layout.of(specs), None, tuple(Layer(layer) for layer in layers))
    with regenerate.only_form(regenerate.ENTRY_FORMS[form]) if form else nullcontext():
        data = encode(diff, None, {coder})
    independent_decoder.apply_file(data, [], b"")


@pytest.mark.parametrize(("form", "coder"), FORMS)
@pytest.mark.parametrize(
    ("largest", "signs"), [(1, "columns"), (1, "neighbours"), (3, "columns"), (127, "none")]
)
def test_entries_of_many_shapes(largest: int, signs: str, form: str | None, coder: Coder):
    random = np.random.default_rng(largest)
    shapes = [(96, 80), (96, 80), (1, 128, 40), (2, 64, 40), (16, 8, 3, 3), (500,), (3,), (7, 3)]
    shapes += [(96, 80), (2, 70_000), (128, 64)]
    specs = [TensorSpec(f"{i:02}", Dtype.FLOAT32, shape) for i, shape in enumerate(shapes)]
    layer = {s.name: crowded(random, s.shape, max(8, s.size // 20), largest, signs) for s in specs}
    quarter = layer["02"].positions[layer["02"].positions < 2048]
    places = np.concatenate([quarter + 2048 * k for k in range(4)])
    layer["10"] = SparseDiff(places, np.where(places % 3, 1, -1).astype(np.int8), Uniform(0.5))
    read_by_the_second_decoder(specs, [layer], form, coder)


@pytest.mark.parametrize(("form", "coder"), FORMS)
def test_entries_in_strips_runs_and_alone(form: str | None, coder: Coder):
    random = np.random.default_rng(5)
    specs = [
        TensorSpec("alone", Dtype.FLOAT32, (300, 400)),
        TensorSpec("dense", Dtype.FLOAT32, (60, 50)),
        TensorSpec("many", Dtype.FLOAT32, (600, 256)),
        TensorSpec("runs", Dtype.FLOAT32, (300, 100)),
    ]
    runs = (random.choice(2900, 30, replace=False)[:, None] * 10 + np.arange(25)).ravel()
    layer = {
        "alone": SparseDiff(np.array([77_777]), np.array([-2], np.int8), Uniform(1.0)),
        "dense": SparseDiff(
            np.arange(3000), (np.arange(3000) % 3 + 1).astype(np.int8), Uniform(0.5)
        ),
        "many": crowded(random, (600, 256), 250_000, 3, "columns"),
        "runs": SparseDiff(np.unique(runs), np.ones(np.unique(runs).size, np.int8), Uniform(1.0)),
    }
    read_by_the_second_decoder(specs, [layer], form, coder)


def test_more_rows_than_a_strip_can_have():
    random = np.random.default_rng(6)
    specs = [TensorSpec("long", Dtype.FLOAT32, (66_000, 16))]
    layer = {"long": crowded(random, (66_000, 16), 500, 3, "none")}
    read_by_the_second_decoder(specs, [layer], "rows", Coder.FAST)


@pytest.mark.parametrize("coder", [Coder.FAST, Coder.MAX])
def test_arrays_and_factors_of_many_widths(coder: Coder):
    shapes = {"a": (64, 50), "b": (64, 50), "c": (10, 3, 100), "d": (300,), "e": (4, 5)}
    start = {
        name: LosslessDiff(np.tile(np.array([0, 0, 0x80, 0x3F], np.uint8), int(np.prod(shape))))
        for name, shape in shapes.items()
    }
    changes = {
        "a": regenerate.hashed(900, 127, 2.0**-9, 3),
        "b": regenerate.low_rank(64, 50, 5, 7, 2.0**-9),
        "c": regenerate.low_rank(30, 100, 1, 1, 0.1),
        "d": regenerate.hashed(300, 1, 2.0**-9, 1),
        "e": regenerate.low_rank(4, 5, 4, 30, 0.01),
    }
    specs = [TensorSpec(name, Dtype.FLOAT32, shape) for name, shape in shapes.items()]
    read_by_the_second_decoder(specs, [start, changes], None, coder)


@pytest.mark.parametrize("coder", [Coder.FAST, Coder.MAX])
@pytest.mark.parametrize("dtype", list(Dtype))
def test_bytes_of_every_dtype(dtype: Dtype, coder: Coder):
    random = np.random.default_rng(7)
    specs = [TensorSpec(n, dtype, s) for n, s in [("a", (64, 50)), ("b", (1, 9)), ("c", (700,))]]
    bits = 8 * dtype.itemsize
    layer = {}
    for spec in specs:
        lengths = random.integers(0, bits + 1, spec.size) * (random.random(spec.size) < 0.7)
        numbers = [int(random.integers(0, 2 ** int(length))) for length in lengths]
        numbers = [n >> 16 << 16 if i % 3 else n for i, n in enumerate(numbers)]
        xor = b"".join(n.to_bytes(dtype.itemsize, "little") for n in numbers)
        layer[spec.name] = LosslessDiff(np.frombuffer(xor, np.uint8))
    read_by_the_second_decoder(specs, [layer], None, coder)


def test_halves_of_bfloat16_go_to_the_even_neighbour():
    specs = [TensorSpec("a", Dtype.BFLOAT16, (128,))]
    from_one_to_two = np.arange(0x3F80, 0x4000, dtype="<u2").view(np.uint8)
    halves = SparseDiff(np.arange(128), np.ones(128, np.int8), Uniform(2.0**-8))
    layers = [{"a": LosslessDiff(from_one_to_two)}, {"a": halves}]
    read_by_the_second_decoder(specs, layers, None, Coder.FAST)

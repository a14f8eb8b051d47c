"""Hypothesis strategies for small layouts, weights and diffs, and one fixed example of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from diffcodec import (
    Codebook,
    Diff,
    Dtype,
    HashDiff,
    Layer,
    Layout,
    LosslessDiff,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
    Uniform,
)

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6)
SHAPES = st.one_of(
    st.just(()),
    st.tuples(st.integers(0, 700)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
STEPS = st.floats(2.0**-20, 4.0, width=32)
# Products of several layers must stay within float16.
SMALL_STEPS = st.floats(2.0**-20, 2.0**-4, width=32)
SEEDS = st.integers(0, 2**64 - 1)


def layouts() -> st.SearchStrategy[Layout]:
    names = st.lists(NAMES, max_size=4, unique=True)
    dtype = st.one_of(st.just(Dtype.FLOAT32), st.sampled_from(Dtype))
    return names.flatmap(
        lambda chosen: st.tuples(
            *(st.builds(TensorSpec, st.just(n), dtype, SHAPES) for n in chosen)
        )
    ).map(Layout.of)


def weights_of(layout: Layout, seed: int, *, any_bits: bool = False) -> ParameterSet:
    """Random finite weights, or any bytes at all (NaN payloads included)."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for spec in layout.tensors:
        values = rng.standard_normal(spec.size).astype(np.float32)
        if any_bits:
            array = rng.integers(0, 256, spec.nbytes, dtype=np.uint8).view(spec.dtype.storage)
        elif spec.dtype is Dtype.BFLOAT16:
            array = (values.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
        elif spec.dtype is Dtype.INT8:
            array = rng.integers(-60, 61, spec.size).astype(np.int8)
        else:
            array = values.astype(spec.dtype.storage)
        arrays[spec.name] = array.reshape(spec.shape)
    return ParameterSet(layout, arrays)


@st.composite
def bases_and_diffs(draw: Callable[..., Any]) -> tuple[ParameterSet | None, Diff]:
    """A base (None for a snapshot) and any diff for it: methods mixed, layers, another layout."""
    layout = draw(layouts())
    base = draw(st.one_of(st.none(), SEEDS.map(lambda seed: weights_of(layout, seed))))
    return base, draw(diffs_from(base, layout))


@st.composite
def diffs_from(
    draw: Callable[..., Any], base: ParameterSet | None, layout: Layout | None = None
) -> Diff:
    """Any diff for a base, or a snapshot of a layout."""
    layout = base.layout if base else layout
    if base is not None and draw(st.booleans()):
        result = draw(st.one_of(layouts(), st.just(grown(layout))))
        layout = Layout.of(spec for spec in result.tensors if fits(base.layout, spec))
    layers = tuple(draw(_layers(layout)) for _ in range(draw(st.integers(0, 3))))
    graph = draw(st.one_of(st.none(), st.binary(min_size=1, max_size=50)))
    if base is None:
        return Diff(layout, None, layers, graph=graph)
    return Diff(layout, base.digest(), layers, base.layout, graph)


def fits(layout: Layout, spec: TensorSpec) -> bool:
    """Whether a tensor may follow on a layout: nothing shrinks."""
    before = layout.index.get(spec.name)
    if before is None or (before.dtype, len(before.shape)) != (spec.dtype, len(spec.shape)):
        return True
    return spec.holds(before)


def grown(layout: Layout) -> Layout:
    """A layout whose tensors all have one more in the first dimension."""
    return Layout.of(
        TensorSpec(t.name, t.dtype, (t.shape[0] + 1, *t.shape[1:]) if t.shape else ())
        for t in layout.tensors
    )


@st.composite
def _layers(draw: Callable[..., Any], layout: Layout) -> Layer:
    changes = {}
    for spec in layout.tensors:
        change = draw(st.one_of(st.none(), _changes(spec))) if spec.size else None
        if change is not None:
            changes[spec.name] = change
    return Layer(changes, draw(SEEDS))


def _changes(spec: TensorSpec) -> st.SearchStrategy[Any]:
    if spec.dtype is Dtype.INT8:
        return st.one_of(_lossless(spec), _sparse_int8(spec.size))
    return st.one_of(_lossless(spec), _sparse(spec.size), _hash(spec.size), _low_rank(spec))


@st.composite
def _lossless(draw: Callable[..., Any], spec: TensorSpec) -> LosslessDiff:
    """Bits that keep finite values finite, so that other layers can follow: the lowest ones."""
    rng = np.random.default_rng(draw(SEEDS))
    elements = rng.integers(0, 4, spec.size).astype(f"<u{spec.dtype.itemsize}")
    return LosslessDiff(elements.view(np.uint8))


@st.composite
def _sparse(draw: Callable[..., Any], size: int) -> SparseDiff:
    largest = draw(st.sampled_from([1, 2, 8, 127]))
    if draw(st.booleans()):
        scale = Uniform(draw(STEPS))
    else:
        numbers = st.lists(STEPS, min_size=largest, max_size=largest, unique=True)
        scale = Codebook(tuple(sorted(draw(numbers))))
    return SparseDiff(*_entries(draw, size, largest), scale)


@st.composite
def _sparse_int8(draw: Callable[..., Any], size: int) -> SparseDiff:
    """At most three layers of steps up to 20 stay within int8."""
    scale = draw(
        st.sampled_from([Uniform(1.0), Uniform(4.0), Codebook((1.0, 3.0, 7.0, 11.0, 20.0))])
    )
    return SparseDiff(*_entries(draw, size, 5), scale)


def _entries(draw: Callable[..., Any], size: int, largest: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(draw(SEEDS))
    count = draw(st.integers(1, size))
    positions = np.sort(rng.choice(size, count, replace=False)).astype(np.int64)
    levels = rng.integers(1, largest + 1, count) * rng.choice([-1, 1], count)
    return positions, levels.astype(np.int8)


@st.composite
def _hash(draw: Callable[..., Any], size: int) -> HashDiff:
    rng = np.random.default_rng(draw(SEEDS))
    largest = draw(st.sampled_from([0, 1, 7]))
    levels = rng.integers(-largest, largest + 1, draw(st.integers(1, size)))
    return HashDiff(levels.astype(np.int8), draw(SMALL_STEPS), draw(st.integers(1, 4)))


@st.composite
def _low_rank(draw: Callable[..., Any], spec: TensorSpec) -> LowRankDiff:
    rng = np.random.default_rng(draw(SEEDS))
    rank = draw(st.integers(1, min(3, *spec.matrix)))
    largest = draw(st.sampled_from([0, 1, 7]))
    rows, columns = (
        rng.integers(-largest, largest + 1, (length, rank)).astype(np.int8)
        for length in spec.matrix
    )
    return LowRankDiff(rows, columns, draw(SMALL_STEPS))


def example() -> tuple[ParameterSet, Diff]:
    """A fixed base with tensors of every dtype, and a diff that uses every method."""
    layout = Layout.of(
        [
            TensorSpec("bias", Dtype.FLOAT32, (7,)),
            TensorSpec("embedding", Dtype.FLOAT32, (60, 50)),
            TensorSpec("half", Dtype.FLOAT16, (4, 3)),
            TensorSpec("quantised", Dtype.INT8, (9,)),
            TensorSpec("short", Dtype.BFLOAT16, (2, 2)),
            TensorSpec("weight", Dtype.FLOAT32, (20, 40)),
        ]
    )
    base = weights_of(layout, 1)
    positions = np.array([0, 1, 300, 1500, 2999])
    changes = {
        "embedding": SparseDiff(positions, np.array([1, -2, 15, -1, 3], np.int8), Uniform(0.125)),
        "half": LosslessDiff(np.arange(24, dtype=np.uint8)),
        "weight": HashDiff(np.array([0, 3, -3, 1, 2, -1], np.int8), 0.0625, 3),
    }
    return base, Diff.of(layout, base.digest(), changes, 99)

"""Hypothesis strategies for small layouts, weights and diffs, and one fixed example of each."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from diffcodec import (
    Diff,
    Dtype,
    HashDiff,
    Layout,
    LosslessDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
)

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6)
SHAPES = st.one_of(
    st.just(()),
    st.tuples(st.integers(0, 700)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
STEPS = st.floats(2.0**-20, 4.0, width=32)
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
        if any_bits or spec.dtype in (Dtype.BFLOAT16, Dtype.INT8):
            raw = rng.integers(0, 256, spec.nbytes, dtype=np.uint8)
            arrays[spec.name] = raw.view(spec.dtype.storage).reshape(spec.shape)
        else:
            values = rng.standard_normal(spec.size).astype(spec.dtype.storage)
            arrays[spec.name] = values.reshape(spec.shape)
    return ParameterSet(layout, arrays)


@st.composite
def bases_and_diffs(draw: Callable[..., Any]) -> tuple[ParameterSet | None, Diff]:
    """A base (None for a snapshot) and any diff for it, methods mixed."""
    layout = draw(layouts())
    base = draw(st.one_of(st.none(), SEEDS.map(lambda seed: weights_of(layout, seed))))
    changes = {}
    for spec in layout.tensors:
        change = draw(st.one_of(st.none(), _changes(spec))) if spec.size else None
        if change is not None:
            changes[spec.name] = change
    digest = base.digest() if base else None
    return base, Diff(layout, digest, changes, draw(SEEDS))


def _changes(spec: TensorSpec) -> st.SearchStrategy[Any]:
    lossless = st.binary(min_size=spec.nbytes, max_size=spec.nbytes).map(
        lambda data: LosslessDiff(np.frombuffer(data, dtype=np.uint8))
    )
    if spec.dtype is not Dtype.FLOAT32:
        return lossless
    return st.one_of(lossless, _sparse(spec.size), _hash(spec.size))


@st.composite
def _sparse(draw: Callable[..., Any], size: int) -> SparseDiff:
    rng = np.random.default_rng(draw(SEEDS))
    count = draw(st.integers(1, size))
    largest = draw(st.sampled_from([1, 2, 8, 127]))
    positions = np.sort(rng.choice(size, count, replace=False)).astype(np.int64)
    levels = rng.integers(1, largest + 1, count) * rng.choice([-1, 1], count)
    return SparseDiff(positions, levels.astype(np.int8), draw(STEPS))


@st.composite
def _hash(draw: Callable[..., Any], size: int) -> HashDiff:
    rng = np.random.default_rng(draw(SEEDS))
    largest = draw(st.sampled_from([0, 1, 7, 127]))
    levels = rng.integers(-largest, largest + 1, draw(st.integers(1, size)))
    return HashDiff(levels.astype(np.int8), draw(STEPS), draw(st.integers(1, 4)))


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
        "embedding": SparseDiff(positions, np.array([1, -2, 15, -1, 3], np.int8), 0.125),
        "half": LosslessDiff(np.arange(24, dtype=np.uint8)),
        "weight": HashDiff(np.array([0, 3, -3, 1, 2, -1], np.int8), 0.0625, 3),
    }
    return base, Diff(layout, base.digest(), changes, 99)

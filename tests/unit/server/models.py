"""A tiny model and its diffs."""

import numpy as np

from diffcodec import (
    Coder,
    Diff,
    Layout,
    ParameterSet,
    SparseDiff,
    Uniform,
    encode,
    lossless_diff,
)
from speech.card import Card

CARD = Card(("no", "yes")).to_json()


def weights(seed: int, columns: int = 300) -> ParameterSet:
    """Two float32 tensors, about 70 KB; another seed is another model of the same layout."""
    random = np.random.default_rng(seed)
    return ParameterSet.from_arrays(
        {
            "encoder.W": random.normal(size=(40, columns)).astype(np.float32),
            "encoder.B": random.normal(size=(5000,)).astype(np.float32),
        }
    )


def snapshot(new: ParameterSet) -> bytes:
    return encode(lossless_diff(None, new), None)


def exact(base: ParameterSet, new: ParameterSet) -> bytes:
    return encode(lossless_diff(base, new), base)


def sparse(base: ParameterSet, *positions: int) -> bytes:
    """Add a half to some entries of encoder.B."""
    ones = np.ones(len(positions), dtype=np.int8)
    change = SparseDiff(np.array(positions, dtype=np.int64), ones, Uniform(0.5))
    return encode(Diff.of(base.layout, base.digest(), {"encoder.B": change}), base)


def uneven(
    base: ParameterSet, seed: int = 0, coders: frozenset[Coder] = frozenset({Coder.FAST})
) -> bytes:
    """Change a fifth of encoder.W, each row in one direction: `max` sees that, `fast` does not."""
    random = np.random.default_rng(seed)
    columns = base.layout.index["encoder.W"].shape[1]
    positions = np.sort(random.choice(40 * columns, size=8 * columns, replace=False))
    signs = np.where(positions // columns % 2, 1, -1)
    levels = (random.choice([1, 2], positions.size) * signs).astype(np.int8)
    change = SparseDiff(positions.astype(np.int64), levels, Uniform(0.5))
    return encode(Diff.of(base.layout, base.digest(), {"encoder.W": change}), base, coders)


def compressed_snapshot(seed: int, layout: Layout) -> bytes:
    """A pruned and quantised model: a tenth of encoder.B at 30 levels, all else zero."""
    random = np.random.default_rng(seed)
    positions = np.sort(random.choice(5000, size=500, replace=False))
    levels = random.choice([*range(-15, 0), *range(1, 16)], size=500).astype(np.int8)
    change = SparseDiff(positions.astype(np.int64), levels, Uniform(float(np.float32(0.0123))))
    return encode(Diff.of(layout, None, {"encoder.B": change}), None)

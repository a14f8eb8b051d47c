"""Which entries of a delta travel: the largest, over all tensors together.

Magnitude, or any other score that the caller has (what training says of an entry's worth),
decides; zeros are no candidates. N candidates, sorted once, so that a search over how many of
them fit a budget only cuts a list. Equal scores: earlier tensor, then earlier position first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import widen
from diffcodec.diff import reshaped
from diffcodec.errors import InputError, LayoutError
from diffcodec.fitting.entries import Deltas
from diffcodec.fitting.quantise import require_delta
from diffcodec.parameters import Layout, ParameterSet

Scores = Mapping[str, NDArray[Any]]


def differences(base: ParameterSet | None, new: ParameterSet) -> dict[str, NDArray[np.float32]]:
    """New - base of every tensor that differs, both widened to float32.

    Args:
        base: In another layout than new's it is reshaped first; None: zeros.
        new: What the differences lead to.

    Raises:
        LayoutError: a tensor is smaller in `new` than in the base.
        InputError: a tensor differs by infinity or NaN.
    """
    start = started(base, new.layout)
    deltas = {}
    for spec in new.layout.tensors:
        before, after = start.arrays[spec.name], new.arrays[spec.name]
        if np.array_equal(before, after):
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            delta = widen(after, spec.dtype) - widen(before, spec.dtype)
        deltas[spec.name] = require_delta(start, spec.name, delta)
    return deltas


def started(base: ParameterSet | None, layout: Layout) -> ParameterSet:
    """What a diff's layers change: the base in the result's layout, or zeros.

    Raises:
        LayoutError: a tensor would shrink.
    """
    return ParameterSet.zeros(layout) if base is None else reshaped(base, layout)


@dataclass(frozen=True)
class Candidates:
    """Non-zero entries of a delta, best first.

    Attributes:
        names: Tensors that have candidates.
        starts: int64, shape (tensors + 1,): where each tensor's candidates start below.
        positions: int64, shape (N,), increasing within a tensor.
        values: float32, shape (N,).
        ranking: int64, shape (N,): indices into the two, best first.
        is_all: No entry was left out for being worth too little.
    """

    names: tuple[str, ...]
    starts: NDArray[np.int64]
    positions: NDArray[np.int64]
    values: NDArray[np.float32]
    ranking: NDArray[np.int64]
    is_all: bool

    @classmethod
    def of(cls, deltas: Deltas, scores: Scores | None = None, at_most: int | None = None) -> Self:
        """Rank the non-zero entries.

        Args:
            deltas: float32 by tensor.
            scores: What an entry is worth, by tensor, of the deltas' shapes; None: its
                magnitude.
            at_most: Entries that can matter to the caller; others may be left out. Sorting tens
                of millions costs more than all the rest.

        Raises:
            InputError: a tensor has no scores, or they are NaN.
            LayoutError: scores of another shape than the delta.
        """
        worth = {name: _worth(name, delta, scores) for name, delta in deltas.items()}
        least = _least_worth(deltas, worth, at_most)
        chosen = {}
        for name, delta in deltas.items():
            flat = delta.reshape(-1)
            is_candidate = flat != 0
            if least is not None:
                is_candidate &= worth[name] >= least
            if is_candidate.any():
                chosen[name] = np.flatnonzero(is_candidate)
        ranked = _joined([worth[name][here] for name, here in chosen.items()], np.float64)
        return cls(
            names=tuple(chosen),
            starts=np.cumsum([0, *(here.size for here in chosen.values())]),
            positions=_joined(list(chosen.values()), np.int64),
            values=_joined([deltas[n].reshape(-1)[h] for n, h in chosen.items()], np.float32),
            # Negated, a stable sort puts the largest first and keeps the order of equals.
            ranking=np.argsort(-ranked, kind="stable"),
            is_all=least is None,
        )

    @property
    def count(self) -> int:
        """N."""
        return self.positions.size

    def positions_of_best(self, count: int) -> dict[str, NDArray[np.int64]]:
        """Where the best `count` entries stand, by tensor; increasing, none empty."""
        is_chosen = np.zeros(self.count, dtype=bool)
        is_chosen[self.ranking[:count]] = True
        found = {}
        for name, (start, end) in zip(self.names, pairwise(self.starts), strict=True):
            here = np.flatnonzero(is_chosen[start:end]) + start
            if here.size:
                found[name] = self.positions[here]
        return found


def _least_worth(
    deltas: Deltas, worth: Mapping[str, NDArray[Any]], at_most: int | None
) -> float | None:
    """What an entry must be worth to be among the best `at_most`; None: all are."""
    total = sum(np.count_nonzero(delta) for delta in deltas.values())
    if at_most is None or total <= at_most:
        return None
    parts = [worth[name][delta.reshape(-1) != 0] for name, delta in deltas.items()]
    return float(np.partition(np.concatenate(parts), total - at_most)[total - at_most])


def _worth(name: str, delta: NDArray[np.float32], scores: Scores | None) -> NDArray[Any]:
    if scores is None:
        return np.abs(delta).reshape(-1)
    if name not in scores:
        raise InputError(f"tensor {name}: expected scores for every tensor that changes")
    score = scores[name]
    if score.shape != delta.shape:
        raise LayoutError(
            f"tensor {name}: expected scores of shape {list(delta.shape)}, "
            f"found {list(score.shape)}"
        )
    if np.isnan(score).any():
        raise InputError(f"tensor {name}: expected scores, found NaN")
    return score.reshape(-1)


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)

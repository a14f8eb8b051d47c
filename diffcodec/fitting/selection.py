"""Which entries of a delta travel: the largest, over all tensors together.

Magnitude, or any other score that the caller has (what training says of an entry's worth),
decides; zeros are no candidates. N candidates, sorted once, so that a search over how many of
them fit a budget only cuts a list. Equal scores: earlier tensor, then earlier position first.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from diffcodec.changes import Scale, SparseDiff
from diffcodec.errors import InputError, LayoutError
from diffcodec.fitting.quantise import Deltas, require_delta, require_float32
from diffcodec.parameters import ParameterSet

Scores = Mapping[str, NDArray[Any]]


def differences(base: ParameterSet, new: ParameterSet) -> dict[str, NDArray[np.float32]]:
    """New - base of every tensor that differs, float32.

    Raises:
        LayoutError: base and new have different layouts.
        InputError: a tensor that differs is not float32, or differs by infinity or NaN.
    """
    base.layout.require(new.layout, "the base", "the new weights")
    deltas = {}
    for spec in base.layout.tensors:
        before, after = base.arrays[spec.name], new.arrays[spec.name]
        if np.array_equal(before, after):
            continue
        require_float32(spec)
        with np.errstate(over="ignore", invalid="ignore"):
            deltas[spec.name] = require_delta(base, spec.name, after - before)
    return deltas


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

    def by_tensor(self) -> list[NDArray[np.float32]]:
        """The values of each tensor."""
        return np.split(self.values, self.starts[1:-1])

    def best(
        self,
        count: int,
        quantise: Callable[[NDArray[np.float32]], tuple[NDArray[np.int8], Scale]],
    ) -> dict[str, SparseDiff]:
        """The best `count` entries, quantised tensor by tensor."""
        is_chosen = np.zeros(self.count, dtype=bool)
        is_chosen[self.ranking[:count]] = True
        changes = {}
        for name, (start, end) in zip(self.names, pairwise(self.starts), strict=True):
            here = np.flatnonzero(is_chosen[start:end]) + start
            if here.size:
                changes[name] = SparseDiff(self.positions[here], *quantise(self.values[here]))
        return changes


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

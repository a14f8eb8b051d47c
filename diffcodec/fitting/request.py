"""What a person asks for on a command line, and the diff file that answers it."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffcodec.diff import Diff
from diffcodec.errors import BudgetError
from diffcodec.file import decode, encode, encoded_size, pack
from diffcodec.fitting.budget import fit_auto, fit_hash, fit_lowrank, fit_sparse
from diffcodec.fitting.entries import Deltas
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.fitting.quantise import DEFAULT_LEVELS, sparse_diff
from diffcodec.fitting.selection import Candidates, differences, started
from diffcodec.header import Coder, Method
from diffcodec.parameters import Layout, ParameterSet


@dataclass(frozen=True)
class DiffRequest:
    """Which diff to make of two sets of parameters.

    Attributes:
        budget_bytes: Limit of the file; None: the other fields decide.
        density: Share of the parameters that may change; None: all that differ.
        lossless: Reproduce the new ones exactly.
        levels: K; None: 15, or what suits the budget.
        method: How weights change; None: whatever comes nearest within the budget.
        hash_seed: Of a hash diff; a new one each generation.
        graph: That replaces the base's; None: it stays.
        coders: What the target can decode.
    """

    budget_bytes: int | None = None
    density: float | None = None
    lossless: bool = False
    levels: int | None = None
    method: Method | None = Method.SPARSE
    hash_seed: int = 0
    graph: bytes | None = None
    coders: Collection[Coder] = (Coder.FAST,)


def make_diff(request: DiffRequest, base: ParameterSet, new: ParameterSet) -> bytes:
    """The file that a request asks for.

    Raises:
        BudgetError: nothing fits; the message names the smallest that does.
        InputError: the weights cannot be changed as asked.
        LayoutError: a tensor would shrink.
        UnsupportedError: this machine lacks a coder.
    """
    if request.budget_bytes is None:
        diff = replace(_unbudgeted(request, base, new), graph=request.graph)
        return encode(diff, base, request.coders)
    if request.graph is None:
        return _within(request.budget_bytes, request, base, new)
    return _within_beside_a_graph(request.budget_bytes, request.graph, request, base, new)


def _unbudgeted(request: DiffRequest, base: ParameterSet, new: ParameterSet) -> Diff:
    """Exactly what differs, or all entries that differ, or the largest of them up to a density."""
    if request.lossless:
        return lossless_diff(base, new)
    start, deltas = started(base, new.layout), differences(base, new)
    keep = None if request.density is None else _densest(deltas, request.density, new.layout)
    diff = sparse_diff(start, deltas, request.levels or DEFAULT_LEVELS, keep)
    return replace(diff, base_digest=base.digest(), base_layout=base.layout)


def _densest(deltas: Deltas, density: float, layout: Layout) -> dict[str, NDArray[np.bool_]]:
    """Which entries are the largest ones up to a share of all parameters, as masks."""
    count = round(density * layout.parameter_count)
    chosen = Candidates.of(deltas, at_most=count).positions_of_best(count) if count else {}
    masks = {name: np.zeros(delta.shape, dtype=bool) for name, delta in deltas.items()}
    for name, positions in chosen.items():
        masks[name].reshape(-1)[positions] = True
    return masks


def _within(
    budget_bytes: int, request: DiffRequest, base: ParameterSet, new: ParameterSet
) -> bytes:
    coders = request.coders
    match request.method:
        case Method.HASH:
            return fit_hash(base, new, budget_bytes, seed=request.hash_seed, coders=coders)
        case Method.LOWRANK:
            return fit_lowrank(base, new, budget_bytes, coders=coders)
        case Method.SPARSE:
            return fit_sparse(base, new, budget_bytes, request.levels, coders=coders)
        case _:
            return fit_auto(base, new, budget_bytes, coders=coders)


def _within_beside_a_graph(
    budget_bytes: int, graph: bytes, request: DiffRequest, base: ParameterSet, new: ParameterSet
) -> bytes:
    """The graph travels whole, so the weights get what it leaves of the budget."""
    plain = Diff(new.layout, base.digest(), base_layout=base.layout)
    taken = encoded_size(replace(plain, graph=graph)) - encoded_size(plain)
    if taken >= budget_bytes:
        raise BudgetError(
            f"expected a budget of over {taken} bytes, which the new graph takes, "
            f"found {budget_bytes}"
        )
    data = _within(budget_bytes - taken, request, base, new)
    decoded = decode(data, base.layout)
    return pack(replace(decoded.diff, graph=graph), decoded.target_digest, request.coders)

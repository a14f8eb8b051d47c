"""Recipes: how a generation is learned, and the diff file in which it leaves.

    dense       from scratch, every weight free; leaves as a lossless snapshot (BL)
    compressed  from scratch, pruned to the budget; leaves as a sparse snapshot (BLC)
    sparse      F_t + G, G pruned to the budget (neural diff paper 3.1)
    hash        W + |W| * sum A[h_k], A sized by the budget (3.2)

Budgets are bytes of the encoded file. What a generation *is* follows from its file: the
decoded diff applied to the parent, so quantisation never goes unseen.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from diffcodec import (
    HashDiff,
    Layout,
    ParameterSet,
    SparseDiff,
    decode,
    encode,
    fit_hash_arrays,
    fit_sparse,
    lossless_diff,
)
from diffcodec.fitting.hash_fit import array_lengths
from server.training.errors import TrainingRequestError
from server.training.learn import Progress, Schedule, learn
from server.training.parameters import Weights, layout_of, new_model, to_weights
from server.training.parametrization import CubicSchedule, Dense, Hashed, Sparse
from server.training.slu.examples import Examples
from server.training.slu.graph import build_graph
from server.training.slu.model import CONFIGS, SpokenCommandModel
from speech.card import Card
from speech.corpus import Corpus

HASH_BITS_PER_ENTRY = 6.5
"""What an entry of a hash array costs once its levels are coded."""
Named = TypeVar("Named")
HASHES = 3
"""Hash functions K; the paper's number (4.1)."""
CLUSTERING = 1.25
"""How many more non-zeros a file carries than independent positions would allow."""
FULL = 0.95
"""A file that uses this share of its budget is full."""
LEVELS = 2
"""Magnitudes a sparse diff may take per tensor: the best quality per byte measured so far."""


@dataclass(frozen=True)
class TrainingRequest:
    """One generation to learn.

    Attributes:
        recipe: dense, compressed, sparse or hash.
        corpus: What the generation must know; its train split is learned from, and its
            texts, all of them, are the generation's phrases.
        base: F_t, which sparse and hash build upon; None for the others.
        budget_bytes: Limit of the encoded file; None for dense.
        config: Name of a model configuration (model.CONFIGS).
        steps: Optimiser steps.
        seed: Draws weights, batches, dropout.
        generation: Its number t + 1; hash functions are reseeded by it.
        batch_size: Recordings a step.
    """

    recipe: str
    corpus: Corpus
    base: ParameterSet | None
    budget_bytes: int | None
    config: str
    steps: int
    seed: int
    generation: int
    batch_size: int = 64


@dataclass(frozen=True)
class TrainedGeneration:
    """A learned generation as it is published.

    Attributes:
        diff: An encoded .ndiff: a snapshot (dense, compressed) or a diff on the base.
        graph: The ONNX model that runs it.
        card: Its phrases.
        loss: Mean training loss of the last steps.
        seconds: How long learning took.
        free_parameters: Non-zeros or array entries that the file carries.
    """

    diff: bytes
    graph: bytes
    card: Card
    loss: float
    seconds: float
    free_parameters: int


def train_generation(request: TrainingRequest, progress: Progress) -> TrainedGeneration:
    """Learn one generation.

    Raises:
        TrainingRequestError: recipe, base, budget and configuration do not fit together.
        BudgetError: the budget cannot hold even the smallest diff.
        DivergedError: the loss is not finite any more.
        AudioError: a recording cannot be read.
    """
    started = time.monotonic()
    recipe = _named("recipe", request.recipe, RECIPES)
    config = _named("configuration", request.config, CONFIGS)
    phrases = request.corpus.phrases()
    if len(phrases) < 2:
        raise TrainingRequestError(
            f"expected at least two phrases to tell apart, found {list(phrases)}"
        )
    train = request.corpus.split("train")
    if not train.utterances:
        raise TrainingRequestError("expected recordings of the train split, found none")
    examples = Examples.of(train, phrases)
    stream = list(RECIPES).index(request.recipe)  # each recipe draws from a stream of its own
    rng = np.random.default_rng([request.seed, request.generation, stream])
    model, layout = new_model(config, request.seed), layout_of(config)
    diff, loss = recipe(_Task(request, layout, model, examples, rng, progress))
    return TrainedGeneration(
        diff=diff,
        graph=build_graph(config, layout),
        card=Card(phrases),
        loss=loss,
        seconds=time.monotonic() - started,
        free_parameters=count_free(diff, layout),
    )


@dataclass(frozen=True)
class _Task:
    """A request with everything that a recipe needs in hand."""

    request: TrainingRequest
    layout: Layout
    model: SpokenCommandModel
    examples: Examples
    rng: np.random.Generator
    progress: Progress

    @property
    def budget_bytes(self) -> int:
        if self.request.budget_bytes is None:
            raise TrainingRequestError(
                f"recipe {self.request.recipe}: expected a budget, found none"
            )
        return self.request.budget_bytes

    @property
    def base(self) -> ParameterSet:
        if self.request.base is None:
            raise TrainingRequestError(
                f"recipe {self.request.recipe}: expected a generation to build upon, found none"
            )
        if self.request.base.layout != self.layout:
            raise TrainingRequestError(
                f"expected a base of the layout of configuration {self.request.config!r}, "
                "found another"
            )
        return self.request.base

    def schedule(self, learning_rate: float) -> Schedule:
        return Schedule(self.request.steps, learning_rate, self.request.batch_size)

    def fresh_weights(self) -> Weights:
        return {name: p.detach() for name, p in self.model.named_parameters()}


def train_dense(task: _Task) -> tuple[bytes, float]:
    """From scratch, every weight free: the unconstrained baseline BL."""
    dense = Dense(task.fresh_weights())
    schedule = task.schedule(learning_rate=2e-3)
    loss = learn(task.model, task.examples, dense, schedule, task.rng, task.progress)
    return encode(lossless_diff(None, _frozen(dense.weights())), None), loss


def train_compressed(task: _Task) -> tuple[bytes, float]:
    """From scratch, pruned while it learns: the compressed baseline BLC.

    A pruned model is a sparse diff on zeros, so the same parametrization and the same file
    serve. As in the paper (4.1) it is pruned later than a diff, once it has learned something.
    """
    weights = task.fresh_weights()
    zeros = {name: torch.zeros_like(w) for name, w in weights.items()}
    return _train_pruned(task, None, zeros, weights, prune_from=0.25, prune_to=0.70)


def train_sparse(task: _Task) -> tuple[bytes, float]:
    """An additive mask on F_t, zero at the start, pruned early (neural diff paper 3.1, 4.1)."""
    anchor = to_weights(task.base)
    zeros = {name: torch.zeros_like(w) for name, w in anchor.items()}
    return _train_pruned(task, task.base, anchor, zeros, prune_from=0.10, prune_to=0.60)


def _train_pruned(
    task: _Task,
    base: ParameterSet | None,
    anchor: Weights,
    start: Weights,
    prune_from: float,
    prune_to: float,
) -> tuple[bytes, float]:
    """Prune by magnitude down to what the encoded file can carry, then go on with the rest."""
    steps, size = task.request.steps, task.layout.parameter_count
    sparsity = 1.0 - aimed_density(size, task.budget_bytes)
    pruning = CubicSchedule(sparsity, int(prune_from * steps), int(prune_to * steps))
    sparse = Sparse(anchor, start, pruning)

    def fit(levels: int | None = LEVELS) -> bytes:
        return fit_sparse(base, _frozen(sparse.weights()), task.budget_bytes, levels)

    def after_step(step: int, steps: int, loss: float) -> None:
        if step == pruning.last_step:
            sparse.prune_to(count_free(fit(), task.layout))
        task.progress(step, steps, loss)

    fit()  # refuses a hopeless budget now, not after the training
    schedule = task.schedule(learning_rate=2e-3)
    loss = learn(task.model, task.examples, sparse, schedule, task.rng, after_step)
    diff = fit()
    # What few levels leave of the budget buys finer ones.
    return (diff if len(diff) >= FULL * task.budget_bytes else fit(levels=None)), loss


def aimed_density(size: int, budget_bytes: int) -> float:
    """The share of weights to prune down to before the encoded file decides.

    Positions that are independent coins of density d cost H(d) bits a weight, levels about two
    bits a non-zero. Learned diffs cluster and cost less, so the aim is higher than that.

    Args:
        size: Parameters of the model.
        budget_bytes: Limit of the file.
    """
    densities = np.linspace(1e-5, 0.5, 2_000)
    entropy = -densities * np.log2(densities) - (1 - densities) * np.log2(1 - densities)
    fitting = densities[(entropy + 2 * densities) * size <= 8 * budget_bytes]
    return min(1.0, CLUSTERING * float(fitting.max(initial=densities[0])))


def train_hash(task: _Task) -> tuple[bytes, float]:
    """A multiplicative mask of few shared values (neural diff paper 3.2).

    The free values scale weights of about 0.05, so they learn at a higher rate than weights.
    """
    anchor = to_weights(task.base)
    size = task.layout.parameter_count
    share = min(1.0, 8 * task.budget_bytes / HASH_BITS_PER_ENTRY / size)
    lengths = array_lengths(task.layout, share)
    hash_seed = (task.request.seed << 32) + task.request.generation
    hashed = Hashed(anchor, lengths, HASHES, hash_seed)

    def fit() -> bytes:
        arrays = {name: a.numpy() for name, a in hashed.values().items()}
        return fit_hash_arrays(task.base, arrays, task.budget_bytes, HASHES, hash_seed)

    fit()  # refuses a hopeless budget now, not after the training
    schedule = task.schedule(learning_rate=2e-2)
    loss = learn(task.model, task.examples, hashed, schedule, task.rng, task.progress)
    return fit(), loss


RECIPES: dict[str, Callable[[_Task], tuple[bytes, float]]] = {
    "dense": train_dense,
    "compressed": train_compressed,
    "sparse": train_sparse,
    "hash": train_hash,
}


def count_free(diff: bytes, layout: Layout) -> int:
    """Non-zeros or array entries that a diff file carries; a lossless one carries every weight."""
    sizes = {spec.name: spec.size for spec in layout.tensors}
    return sum(
        int(change.levels.size) if isinstance(change, SparseDiff | HashDiff) else sizes[name]
        for name, change in decode(diff, layout).diff.changes()
    )


def _frozen(weights: Weights) -> ParameterSet:
    return ParameterSet.from_arrays({name: w.detach().numpy() for name, w in weights.items()})


def _named(kind: str, name: str, choices: Mapping[str, Named]) -> Named:
    if name not in choices:
        raise TrainingRequestError(f"expected a {kind} of {', '.join(choices)}, found {name!r}")
    return choices[name]

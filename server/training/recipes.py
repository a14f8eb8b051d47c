"""Recipes: how a generation is learned, and the diff file in which it leaves.

From the neural diff paper, as it has them (sections 3 and 4):

    dense               from scratch, every weight free                      BL
    finetune            from F_t, every weight free                          FT
    compressed_sparse   from scratch, pruned by magnitude                    BLC
    compressed_hash     from scratch, weights shared by hashing              BLC
    paper_sparse        F_t + G, G pruned by magnitude                       3.1
    paper_hash          W + |W| * sum A[h_k]                                 3.2

Ours, better at equal bytes:

    sparse              ranked by |G| sqrt(F); ends with what the encoded file can carry, and
                        learns on as the levels that travel
    sparse_magnitude    the same, ranked by |G|
    sparse_regrow       the same, where pruned entries may come back
    sparse_feedback     the same, where G starts from what the generation before could not carry
    hash                arrays of many coarse entries
    lowrank             low-rank factors and sparse levels, learned as they travel
    auto                the one of these that measured best at such a budget (learned.auto)
    lora                low-rank adapters in float16, for comparison

For devices that compute in int8 (configurations whose names end in -int8):

    quantise            the int8 generation nearest to one in float32, as a snapshot; no training
    int8                sparse, in whole levels on the grids of F_t

A size limits all but dense, finetune and quantise: bytes of the encoded file, or nominally,
parameters per free value, as the paper counts. What a generation *is* follows from its file: the
decoded diff applied to the parent, so quantisation never goes unseen.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from diffcodec import decode
from server.training import parallel
from server.training.errors import TrainingRequestError
from server.training.grid import is_on_grid
from server.training.job import Job, Learned
from server.training.learn import Progress
from server.training.learned import Dense, Hashed, Lora, Pruning, Sparse, wrap_int8
from server.training.learned.auto import choose
from server.training.learned.int8 import Snapshot
from server.training.learned.methods import (
    HASH_SPEED,
    METHODS,
    SPARSE_OPTIONS,
    sparse,
)
from server.training.request import TrainedGeneration, TrainingRequest
from server.training.schedule import CubicSchedule
from server.training.tasks import layout_of, make_task, quantised

PAPER_ENTRY_BITS = 6.5
"""What an entry of a hash array of the paper's kind, finely stated, costs in a file."""


def train_generation(request: TrainingRequest, progress: Progress) -> TrainedGeneration:
    """Learn one generation.

    Raises:
        TrainingRequestError: recipe, task, base, size and configuration do not fit together.
        BudgetError: the budget cannot hold even the smallest diff.
        DivergedError: the loss is not finite any more.
        CheckpointError: the checkpoint is not of this training.
        AudioError: a recording cannot be read.
    """
    started = time.monotonic()
    if request.recipe not in RECIPES:
        raise TrainingRequestError(
            f"expected a recipe of {', '.join(RECIPES)}, found {request.recipe!r}"
        )
    _require_precision(request)
    task = make_task(request.task, request.corpus, request.config, request.base_card)
    job = Job(request, task, list(RECIPES).index(request.recipe), progress)
    learned = RECIPES[request.recipe](job)
    diff = learned.diff.encode()
    decoded = decode(diff, task.layout).diff
    if not parallel.rank():
        job.checkpoint.remove()
    return TrainedGeneration(
        diff=diff,
        graph=task.graph(),
        card=learned.card or task.card(),
        loss=learned.loss,
        seconds=time.monotonic() - started,
        free_parameters=learned.diff.free_values(decoded),
        note=learned.note,
        residual=learned.diff.residual(decoded) if isinstance(learned.diff, Sparse) else None,
    )


def train_dense(job: Job) -> Learned:
    """From scratch, every weight free: the unconstrained baseline BL."""
    return job.learn(Dense(job.fresh_model(), is_snapshot=True))


def train_finetune(job: Job) -> Learned:
    """From F_t, every weight free: what a warm start alone gives, at any price in bytes."""
    return job.learn(Dense(job.base_model()))


def train_compressed_sparse(job: Job) -> Learned:
    """From scratch, pruned while it learns: the baseline BLC.

    Pruned later than a diff, once it has learned something (4.1).
    """
    first, last = job.numbers.baseline_pruning
    pruning = Pruning(CubicSchedule(1.0 - job.density(), job.at(first), job.at(last)))
    budget_bytes = job.request.budget_bytes
    return job.learn(Sparse(job.fresh_model(), pruning, budget_bytes, is_snapshot=True))


def train_paper_sparse(job: Job) -> Learned:
    """An additive mask on F_t, zero at first, pruned early by magnitude (3.1, 4.1)."""
    first, last = job.numbers.diff_pruning
    pruning = Pruning(CubicSchedule(1.0 - job.density(), job.at(first), job.at(last)))
    return job.learn(Sparse(job.base_model(), pruning, job.request.budget_bytes))


def train_compressed_hash(job: Job) -> Learned:
    """From scratch, every matrix hashed to a short array by three functions: BLC (4.1)."""
    return _train_paper_hash(job, is_snapshot=True)


def train_paper_hash(job: Job) -> Learned:
    """A multiplicative mask of few shared values, zero at first (3.2)."""
    return _train_paper_hash(job)


def _train_paper_hash(job: Job, is_snapshot: bool = False) -> Learned:
    model = job.fresh_model() if is_snapshot else job.base_model()
    hashed = Hashed(
        model,
        job.lengths(PAPER_ENTRY_BITS),
        job.hash_seed,
        budget_bytes=job.request.budget_bytes,
        is_snapshot=is_snapshot,
    )
    hashed.speed = HASH_SPEED if is_snapshot else job.numbers.hash_speed
    return job.learn(hashed)


def train_by(method: str, job: Job) -> Learned:
    """One of our methods (learned.methods)."""
    make = METHODS[method]
    learned = make(job.base_model(), job.budget_bytes, job.steps, job.hash_seed)
    if isinstance(learned, Hashed):
        learned.speed = job.numbers.hash_speed
    return job.learn(learned)


def train_sparse(name: str, job: Job) -> Learned:
    """`sparse`, or what one option more makes of it (learned.methods)."""
    request, options = job.request, SPARSE_OPTIONS[name]
    return job.learn(
        sparse(
            job.base_model(),
            job.budget_bytes,
            job.steps,
            options=options,
            start=request.residual,
        )
    )


def train_lora(job: Job) -> Learned:
    """Low-rank adapters beside every matrix (Hu et al. 2021), in float16."""
    return job.learn(Lora(job.base_model(), job.budget_bytes, job.request.seed))


def train_auto(job: Job) -> Learned:
    """What measured best at such a budget."""
    choice = choose(job.budget_bytes / (4 * job.task.layout.parameter_count), job.request.task)
    return replace(train_by(choice.method, job), note=choice.reason)


def train_quantise(job: Job) -> Learned:
    """F_t of float32 in int8, as it is: where a line of int8 begins."""
    weights = quantised(job.request.task, job.request.config, job.base)
    # It knows what it knew, whatever the corpus holds.
    return Learned(Snapshot(weights), loss=0.0, card=job.request.base_card)


def train_int8(job: Job) -> Learned:
    """Whole levels on the grids of F_t; ended by the coder, as `sparse` is."""
    return job.learn(wrap_int8(job.base_model(), job.base, job.budget_bytes, job.steps))


RECIPES: dict[str, Callable[[Job], Learned]] = {
    "dense": train_dense,
    "finetune": train_finetune,
    "compressed_sparse": train_compressed_sparse,
    "compressed_hash": train_compressed_hash,
    "paper_sparse": train_paper_sparse,
    "paper_hash": train_paper_hash,
    "sparse": partial(train_by, "sparse"),
    "hash": partial(train_by, "hash"),
    "lowrank": partial(train_by, "lowrank"),
    "auto": train_auto,
    "lora": train_lora,
    "quantise": train_quantise,
    "int8": train_int8,
    **{name: partial(train_sparse, name) for name in SPARSE_OPTIONS if name != "sparse"},
}
INT8_RECIPES = ("quantise", "int8")
"""Those of configurations in int8; all others are in float32."""


def _require_precision(request: TrainingRequest) -> None:
    is_int8 = is_on_grid(layout_of(request.task, request.config))
    if is_int8 != (request.recipe in INT8_RECIPES):
        expected, found = ("int8", "float32") if not is_int8 else ("float32", "int8")
        raise TrainingRequestError(
            f"recipe {request.recipe}: expected a configuration in {expected}, "
            f"found {request.config!r}, which is in {found}"
        )

"""Diffs that imitate teachers: models of the same corpus that no budget limits.

Knowledge distillation (Hinton et al. 2015); what is imitated is the task's affair (SluTask.loss).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from diffcodec import ParameterSet, apply, decode
from server.training import parallel
from server.training.errors import TrainingRequestError
from server.training.request import TrainedGeneration, TrainingRequest

TEACHERS = ("dense", "finetune")
"""The recipes of teachers: apart from F_t, and close to it. Their mean teaches better than one."""

Learn = Callable[[TrainingRequest], TrainedGeneration]


def learn_taught(request: TrainingRequest, learn: Learn) -> TrainedGeneration:
    """Learn teachers, and then a diff that imitates them.

    An interrupted one goes on where it was: teachers are kept until the diff is learned.

    Args:
        request: Of a diff; all checkpoints go where its own would.
        learn: Learns one request (recipes.train_generation).

    Raises:
        TrainingRequestError: the request has no checkpoint, or nothing to build upon.
    """
    if request.base is None or request.checkpoint is None:
        raise TrainingRequestError(
            "expected a generation to build upon and a checkpoint for a taught diff, found none"
        )
    folder = request.checkpoint.parent
    unlimited = [replace(request, recipe=recipe, budget_bytes=None) for recipe in TEACHERS]
    kept = [checkpoint_of(each, folder).with_suffix(".teacher") for each in unlimited]
    teachers = tuple(
        _teacher(each, path, request.base, learn)
        for each, path in zip(unlimited, kept, strict=True)
    )
    taught = replace(request, teachers=teachers)
    trained = learn(replace(taught, checkpoint=checkpoint_of(taught, folder)))
    if not parallel.rank():
        for path in kept:
            path.unlink()
    return trained


def checkpoint_of(request: TrainingRequest, folder: Path) -> Path:
    """Where a training keeps how far it is; equal requests go on from one another."""
    return folder / f"{request.fingerprint()[:16]}.pt"


def _teacher(
    request: TrainingRequest, kept: Path, base: ParameterSet, learn: Learn
) -> ParameterSet:
    if kept.exists():
        return ParameterSet.read(kept, base.layout)
    trained = learn(replace(request, checkpoint=kept.with_suffix(".pt")))
    weights = apply(base, decode(trained.diff, base.layout).diff)
    if not parallel.rank():
        # Whole or not at all.
        unfinished = kept.with_suffix(".teacher.new")
        weights.write(unfinished)
        unfinished.replace(kept)
    return weights

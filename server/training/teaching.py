"""Diffs that imitate teachers: models of the same corpus that no budget limits.

Knowledge distillation (Hinton et al. 2015); what is imitated is the task's affair (SluTask.loss).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from diffcodec import apply, decode
from server.durable import replaced_file
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
    kept = [checkpoint_of(each, folder).with_suffix(".ndiff") for each in unlimited]
    teachers = [_learn_once(*each, learn) for each in zip(unlimited, kept, strict=True)]
    weights = (apply(request.base, decode(diff, request.base.layout)) for diff in teachers)
    taught = replace(request, teachers=tuple(weights))
    trained = learn(replace(taught, checkpoint=checkpoint_of(taught, folder)))
    if not parallel.rank():
        for path in kept:
            path.unlink()
    return trained


def checkpoint_of(request: TrainingRequest, folder: Path) -> Path:
    """Where a training keeps how far it is; equal requests go on from one another."""
    return folder / f"{request.fingerprint()[:16]}.pt"


def _learn_once(request: TrainingRequest, kept: Path, learn: Learn) -> bytes:
    """The file of a generation, kept."""
    if kept.exists():
        return kept.read_bytes()
    diff = learn(replace(request, checkpoint=kept.with_suffix(".pt"))).diff
    if not parallel.rank():
        with replaced_file(kept) as file:
            file.write(diff)
    return diff

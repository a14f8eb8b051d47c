"""Data parallelism under torchrun: every process draws its own batches, gradients are averaged.

    torchrun --nproc-per-node 4 -m server.cli train HOME ...

What follows from gradients (pruning, levels) is then the same in all processes, without a word
between them. The first process alone shows progress, keeps the checkpoint and publishes. Outside
torchrun this is a world of one.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, distributed

from server.training.errors import ProcessLostError

Value = TypeVar("Value")


@contextmanager
def world() -> Iterator[None]:
    """Join the processes that torchrun started, if it did; leave them at the end."""
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def size() -> int:
    """Processes in the world, at least 1."""
    return distributed.get_world_size() if _is_joined() else 1


def rank() -> int:
    """Which process this is; 0 speaks for all."""
    return distributed.get_rank() if _is_joined() else 0


def average_gradients(tensors: Iterable[Tensor]) -> None:
    """Let every process have the mean of all gradients; one without any counts as zero."""
    if size() == 1:
        return
    with _together():
        for tensor in tensors:
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            distributed.all_reduce(tensor.grad)
            tensor.grad /= size()


def mean(number: float, device: torch.device) -> float:
    """The mean of a number over all processes."""
    if size() == 1:
        return number
    total = torch.tensor(number, dtype=torch.float64, device=device)
    with _together():
        distributed.all_reduce(total)
    return total.item() / size()


def first_says(value: Value) -> Value:
    """What the first process has, where each may have something else."""
    if size() == 1:
        return value
    values = [value]
    with _together():
        distributed.broadcast_object_list(values, src=0)
    return values[0]


def of_all(value: Value) -> list[Value]:
    """What every process has, by rank."""
    if size() == 1:
        return [value]
    values: list[Value] = [value] * size()
    with _together():
        distributed.all_gather_object(values, value)
    return values


@contextmanager
def _together() -> Iterator[None]:
    """Around what all processes do at once.

    Raises:
        ProcessLostError: one of them is not there any more.
    """
    try:
        yield
    except RuntimeError as error:  # gloo's and NCCL's own
        raise ProcessLostError(
            f"process {rank()} of {size()}: expected all to go on, found that another one ended; "
            "the same command goes on at the last checkpoint"
        ) from error


def _is_joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()

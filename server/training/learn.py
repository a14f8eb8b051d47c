"""The training loop that every recipe shares.

It knows a task, a learned diff and a schedule, and nothing of budgets. It can be killed at any
step and goes on from its checkpoint with the same result; on a GPU it runs in mixed precision,
under torchrun on many of them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from server.training import parallel
from server.training.checkpoint import Checkpoint
from server.training.errors import DivergedError
from server.training.learned.diff import LearnedDiff
from server.training.parameters import to_device
from server.training.schedule import LearningRate
from server.training.task import Task

Progress = Callable[[int, int, float], None]
"""Called with (step, steps, loss)."""

LARGEST_GRADIENT = 5.0
"""L2 norm to which gradients are clipped."""


def learn(
    task: Task,
    learned: LearnedDiff,
    rate: LearningRate,
    batch_size: int,
    rng: np.random.Generator,
    progress: Progress,
    checkpoint: Checkpoint,
) -> float:
    """Learn a diff by Adam.

    Args:
        task: Gives batches and losses.
        learned: The diff and its module; changed in place.
        rate: Steps and learning rates.
        batch_size: Examples a step, over all processes together.
        rng: Draws batches, augmentation and the seed of dropout.
        progress: Told about every step.
        checkpoint: Where to keep how far it is, and to go on from.

    Returns:
        The mean loss of the last tenth of the steps.

    Raises:
        DivergedError: the loss is not finite any more, or its gradients are not.
        CheckpointError: the checkpoint is not of this training.
        ProcessLostError: another process under torchrun ended.
    """
    model = learned.model
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(learned.free(), lr=rate.peak)
    learned.attach(optimizer)
    losses: list[float] = []
    model.train()
    share = -(-batch_size // parallel.size())
    with torch.random.fork_rng():
        torch.manual_seed(int(rng.integers(2**31)) + parallel.rank())
        if parallel.rank():
            rng = rng.spawn(parallel.rank())[-1]
        restore(checkpoint.load(), learned, optimizer, rng, losses)
        for step in range(len(losses), rate.steps):
            for group in optimizer.param_groups:
                group["lr"] = rate.at(step)
            batch = to_device(task.draw(share, rng), device)
            with mixed_precision(device):
                loss = task.loss(model, batch)
            losses.append(parallel.mean(loss.item(), device))
            if not np.isfinite(losses[-1]):
                raise DivergedError(
                    f"expected a finite loss, found {losses[-1]} at step {step}{kept(checkpoint)}"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            parallel.average_gradients(learned.free())
            norm = nn.utils.clip_grad_norm_(learned.free(), LARGEST_GRADIENT).item()
            if not np.isfinite(norm):
                raise DivergedError(
                    f"expected finite gradients, found a norm of {norm} at step {step}"
                    f"{kept(checkpoint)}"
                )
            optimizer.step()
            progress(step + 1, rate.steps, losses[-1])
            if checkpoint.path is not None and parallel.first_says(checkpoint.is_due()):
                state = snapshot(learned, optimizer, rng, losses)
                if not parallel.rank():
                    checkpoint.save(state)
    return float(np.mean(losses[-max(1, rate.steps // 10) :]))


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 for the products on a GPU that has it; float32 elsewhere."""
    is_on = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_on)


def snapshot(
    learned: LearnedDiff,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    losses: list[float],
) -> dict[str, Any]:
    """All that the next step depends on; all processes take it together."""
    streams = {"batches": rng.bit_generator.state, "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        streams["cuda"] = torch.cuda.get_rng_state()
    return {
        "model": learned.model.state_dict(),
        "learned": learned.state(),
        "optimizer": optimizer.state_dict(),
        "streams": parallel.of_all(streams),
        "losses": losses,
    }


def restore(
    state: Mapping[str, Any] | None,
    learned: LearnedDiff,
    optimizer: torch.optim.Optimizer,
    rng: np.random.Generator,
    losses: list[float],
) -> None:
    """Go on from a snapshot, if there is one."""
    if state is None:
        return
    learned.model.load_state_dict(state["model"])
    learned.restore(state["learned"])
    optimizer.load_state_dict(state["optimizer"])
    streams = state["streams"][parallel.rank()]
    rng.bit_generator.state = streams["batches"]
    torch.set_rng_state(streams["torch"])
    if torch.cuda.is_available() and "cuda" in streams:
        torch.cuda.set_rng_state(streams["cuda"])
    losses[:] = state["losses"]


def kept(checkpoint: Checkpoint) -> str:
    """What a message about a failed training says of its checkpoint."""
    path: Path | None = checkpoint.path
    if path is None or not path.exists():
        return ""
    return f"; the last good checkpoint is kept in {path}"

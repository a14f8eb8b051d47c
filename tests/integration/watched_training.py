"""`ota-server train` that keeps checkpoints often, tells what it learned, and dies when told to.

    torchrun --nproc-per-node 2 -m tests.integration.watched_training train HOME ...

Environment: WATCHED_FOLDER, where each process leaves learned-RANK.ndiff and steps-RANK.txt;
WATCHED_KILL, "RANK STEP": that process is killed, as by the system, after that step.
"""

import os
import signal
from itertools import count
from pathlib import Path

from server.cli import main
from server.training import learn, recipes
from server.training.checkpoint import Checkpoint
from server.training.request import TrainedGeneration, TrainingRequest

EVERY = 7
"""Steps from one checkpoint to the next."""

asked = count(1)
train_generation = recipes.train_generation


def is_due(self: Checkpoint) -> bool:
    return next(asked) % EVERY == 0


def watched(request: TrainingRequest, progress: learn.Progress) -> TrainedGeneration:
    folder, rank = Path(os.environ["WATCHED_FOLDER"]), os.environ["RANK"]
    steps = folder / f"steps-{rank}.txt"
    steps.write_text("")

    def show(step: int, of: int, loss: float) -> None:
        with steps.open("a") as file:
            file.write(f"{step}\n")
        if os.environ.get("WATCHED_KILL") == f"{rank} {step}":
            os.kill(os.getpid(), signal.SIGKILL)
        progress(step, of, loss)

    trained = train_generation(request, show)
    (folder / f"learned-{rank}.ndiff").write_bytes(trained.diff)
    return trained


if __name__ == "__main__":
    Checkpoint.is_due = is_due  # type: ignore[method-assign]
    recipes.train_generation = watched
    main()

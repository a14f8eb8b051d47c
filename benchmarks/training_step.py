"""A training step that learns a diff, beside one of plain fine-tuning, and the memory of both.

Measured: the whole step, drawing aside: forward, backward, clipping, Adam, and what the diff does
around it, on one thread, batches made up. Contenders of one process take turns. `peak MB` is a
process of its own that takes a few steps, `at start` the one before the model is there; the rows
of ours less the first are what a diff needs more than fine-tuning.

Not measured: the one step in which the coder decides what travels (seconds, once in a training),
and encoding.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.rebuild import memory_bytes
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.results import Case, Sample
from diffcodec.bench.timing import Contender, OnProgress, timed, with_turns
from server.training.learn import LARGEST_GRADIENT
from server.training.learned import Dense, Hashed, LearnedDiff, Pruning, Sparse, by_fisher
from server.training.learned.methods import lengths_within
from server.training.parameters import to_parameters
from server.training.rnnt.examples import Examples as Sentences
from server.training.rnnt.model import CONFIGS as RNNT_CONFIGS
from server.training.rnnt.pieces import Pieces
from server.training.rnnt.task import RnntTask
from server.training.schedule import CubicSchedule
from server.training.slu.examples import Examples as Commands
from server.training.slu.examples import pad_phrases
from server.training.slu.model import CONFIGS as SLU_CONFIGS
from server.training.slu.task import SluTask
from server.training.task import Task
from speech.card import Piece
from speech.features import FEATURE_DIM

ROOT = Path(__file__).parents[1]
RATE = 1e-4
STEPS_FOR_MEMORY = 3
BUDGET_RATIO = 1 / 100
LATER = 10**9
"""A step that is never reached: what happens once in a training is not what a step costs."""


def compare(
    models: Mapping[str, str], runs: int, on_progress: OnProgress = lambda text: None
) -> tuple[Case, ...]:
    """A case for each model.

    Args:
        models: Task ("slu" or "rnnt") to the name of a configuration.
        runs: Rounds that count.
        on_progress: Told what is done.

    Raises:
        BenchmarkError: a process that measures memory failed.
    """
    return tuple(
        _case(task, config, runs, lambda text, task=task: on_progress(f"{task}: {text}"))  # type: ignore[misc]
        for task, config in models.items()
    )


def made_up(task: str, config: str) -> Task:
    """A task whose recordings are noise: a step costs the same on speech."""
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(40, FEATURE_DIM)).astype(np.float32) for _ in range(64)]
    if task == "slu":
        sizes = SLU_CONFIGS[config]
        phrases = tuple(f"turn on the light number {k}" for k in range(64))
        commands = Commands(tuple(noise), np.arange(64), phrases)
        return SluTask(sizes, commands, pad_phrases(phrases, sizes.tokens))
    shape = RNNT_CONFIGS[config]
    pieces = Pieces(tuple(Piece(f"p{k}", -1.0) for k in range(1, shape.vocabulary)))
    texts = [torch.from_numpy(rng.integers(1, shape.vocabulary, 10)) for _ in noise]
    return RnntTask(shape, pieces, Sentences(tuple(noise), tuple(texts)))


def _sparse(model: nn.Module, first_step: int) -> LearnedDiff:
    schedule = CubicSchedule(0.99, first_step, LATER)
    return Sparse(model, Pruning(schedule, by_fisher, interval=10))


def _hashed(model: nn.Module) -> LearnedDiff:
    layout = to_parameters(model).layout
    budget_bytes = int(BUDGET_RATIO * 4 * layout.parameter_count)
    return Hashed(model, lengths_within(layout, budget_bytes, 3.0), hash_seed=1)


CONTENDERS: Mapping[str, Callable[[nn.Module], LearnedDiff]] = {
    "fine-tuning": Dense,
    "sparse diff, pruning": partial(_sparse, first_step=0),
    "sparse diff, pruned": partial(_sparse, first_step=LATER - 1),
    "hash diff": _hashed,
}


def steps_of(name: str, task: Task, batch_size: int) -> Callable[[], float]:
    """A function that takes one step by a contender, and gives its seconds."""
    model = task.new_model(0)
    learned = CONTENDERS[name](model)
    optimizer = torch.optim.Adam(learned.free(), lr=RATE)
    learned.attach(optimizer)
    rng = np.random.default_rng(1)
    model.train()

    def step() -> float:
        batch = task.draw(batch_size, rng)

        def work() -> None:
            optimizer.zero_grad()
            task.loss(model, batch).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(learned.free(), LARGEST_GRADIENT)
            optimizer.step()

        return timed(work)[1]

    return step


def _case(task: str, config: str, runs: int, on_progress: OnProgress) -> Case:
    torch.set_num_threads(1)
    made = made_up(task, config)
    batch_size = batch_size_of(config)
    contenders = []
    for name in CONTENDERS:
        on_progress(f"memory of {name}")
        start_bytes, peak_bytes = _memory_of(task, config, name)
        step = steps_of(name, made, batch_size)

        def measure(
            step: Callable[[], float] = step, start: int = start_bytes, peak: int = peak_bytes
        ) -> Sample:
            return Sample(step(), peak_bytes=peak, start_bytes=start)

        contenders.append(Contender(name, measure))
    rows = with_turns(contenders, runs, on_progress)
    size = made.layout.parameter_count
    return Case(f"{task} {config}, {size:,} parameters, {batch_size} a batch", 4 * size, rows)


def batch_size_of(config: str) -> int:
    """Recordings a step: few for the largest model, whose step takes seconds."""
    return 8 if config == "paper" else 32


def _memory_of(task: str, config: str, name: str) -> tuple[int, int]:
    """Memory before and at most, in a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.training_step", task, config, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        raise BenchmarkError(f"{name}: {ended.stderr.strip().splitlines()[-1]}")
    start_bytes, peak_bytes = json.loads(ended.stdout)
    return start_bytes, peak_bytes


def main(task: str, config: str, name: str) -> None:
    """Print memory before and at most, in bytes, of a few steps."""
    torch.set_num_threads(1)
    made = made_up(task, config)
    start_bytes = memory_bytes("VmRSS")
    step = steps_of(name, made, batch_size_of(config))
    for _ in range(STEPS_FOR_MEMORY):
        step()
    # Not ru_maxrss, which counts what the process that started this one had.
    peak_bytes = memory_bytes("VmHWM")
    print(json.dumps([start_bytes, peak_bytes]))


if __name__ == "__main__":
    main(*sys.argv[1:])

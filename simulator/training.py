"""The training jobs: what a worker process does to learn a generation, and to measure one.

A job leaves the encoded diff with graph and card, ready to be published, and the weights that
the diff leads to, for the jobs that build on it. A training that is killed leaves a checkpoint,
from which the next attempt goes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcodec import Layout, ParameterSet, apply, decode
from simulator.evolution import Evolution
from simulator.jobs import CHECKPOINT, Progress
from simulator.paper_bytes import paper_bytes
from simulator.scores import TaskName
from speech.corpus import Corpus

DIFF, GRAPH, CARD = "generation.ndiff", "model.onnx", "card.json"
WEIGHTS, LAYOUT = "weights.bin", "layout.json"
RESIDUAL = "residual.bin"
"""What a generation learned and could not carry, where its recipe keeps it; laid out as WEIGHTS."""


@dataclass(frozen=True)
class TrainingArguments:
    """One generation to learn; travels to the worker process.

    Attributes:
        parent: Key of the job that left F_t.
        teachers: Keys of the jobs whose models are imitated.
    """

    recipe: str
    task: TaskName
    corpus_folder: Path
    evolution: Evolution
    model: str
    steps: int
    batch_size: int
    generation: int
    seed: int
    budget_bytes: int | None
    nominal_ratio: float | None
    parent: str | None = None
    teachers: tuple[str, ...] = ()


@dataclass(frozen=True)
class StaticArguments:
    """A generation 0 to measure on the tasks of all generations."""

    corpus_folder: Path
    evolution: Evolution
    model: str


def train(
    arguments: TrainingArguments, folder: Path, parents: Mapping[str, Path], progress: Progress
) -> Mapping[str, Any]:
    """Learn one generation and measure it; runs in a worker process."""
    # torch takes seconds to import, and only workers need it.
    import torch

    from server.training.recipes import train_generation
    from server.training.request import TrainingRequest
    from server.training.tasks import measure

    torch.set_num_threads(1)
    corpus = arguments.evolution.restrict(
        Corpus.read(arguments.corpus_folder), arguments.generation
    )
    parent = None if arguments.parent is None else parents[arguments.parent]
    base = None if parent is None else _read_weights(parent)
    request = TrainingRequest(
        recipe=arguments.recipe,
        task=arguments.task,
        corpus=corpus,
        base=base,
        residual=None if parent is None else _read_residual(parent),
        teachers=tuple(_read_weights(parents[key]) for key in arguments.teachers),
        base_card=None if parent is None else (parent / CARD).read_text(encoding="utf-8"),
        budget_bytes=arguments.budget_bytes,
        nominal_ratio=arguments.nominal_ratio,
        config=arguments.model,
        steps=arguments.steps,
        seed=arguments.seed,
        generation=arguments.generation,
        batch_size=arguments.batch_size,
        checkpoint=folder / CHECKPOINT,
    )
    trained = train_generation(request, progress)
    diff = decode(trained.diff, None if base is None else base.layout).diff
    weights = apply(base, diff)
    (folder / DIFF).write_bytes(trained.diff)
    (folder / GRAPH).write_bytes(trained.graph)
    (folder / CARD).write_text(trained.card, encoding="utf-8")
    (folder / LAYOUT).write_text(weights.layout.to_json(), encoding="utf-8")
    weights.write(folder / WEIGHTS)
    if trained.residual is not None:
        trained.residual.write(folder / RESIDUAL)
    parameters, test = weights.layout.parameter_count, corpus.split("test")
    return {
        "digest": weights.digest().hex(),
        "file_bytes": len(trained.diff),
        "paper_bytes": paper_bytes(arguments.recipe, trained.free_parameters, diff),
        "parameters": parameters,
        "nominal_ratio": parameters / max(1, trained.free_parameters),
        "score": measure(weights, arguments.model, test, trained.card),
        "note": trained.note,
        "loss": trained.loss,
        "seconds": trained.seconds,
    }


def measure_static(
    arguments: StaticArguments, _folder: Path, parents: Mapping[str, Path], _progress: Progress
) -> Mapping[str, Any]:
    """Measure a generation 0, with the card it has, on the tasks of all generations."""
    import torch

    from server.training.tasks import measure

    torch.set_num_threads(1)
    (first,) = parents.values()
    weights = _read_weights(first)
    card = (first / CARD).read_text(encoding="utf-8")
    corpus, evolution = Corpus.read(arguments.corpus_folder), arguments.evolution
    tests = (
        evolution.restrict(corpus, generation).split("test")
        for generation in range(evolution.generations)
    )
    return {"scores": [measure(weights, arguments.model, test, card) for test in tests]}


def _read_weights(folder: Path, name: str = WEIGHTS) -> ParameterSet:
    layout = Layout.from_json((folder / LAYOUT).read_text(encoding="utf-8"))
    return ParameterSet.read(folder / name, layout)


def _read_residual(folder: Path) -> ParameterSet | None:
    return _read_weights(folder, RESIDUAL) if (folder / RESIDUAL).exists() else None

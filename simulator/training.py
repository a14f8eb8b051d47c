"""The training jobs: what a worker process does to learn a generation, and to measure one.

A job leaves the encoded diff with graph and card, ready to be published, and the weights that
the diff leads to, for the jobs that build on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffcodec import Layout, ParameterSet, apply, decode
from simulator.jobs import Progress
from simulator.scenario import Scenario
from speech.card import Card
from speech.corpus import Corpus

DIFF, GRAPH, CARD = "generation.ndiff", "model.onnx", "card.json"
WEIGHTS, LAYOUT = "weights.bin", "layout.json"


@dataclass(frozen=True)
class TrainingArguments:
    """One generation to learn; travels to the worker process."""

    recipe: str
    corpus_folder: Path
    scenario: Scenario
    generation: int
    seed: int
    budget_bytes: int | None


@dataclass(frozen=True)
class StaticArguments:
    """A generation 0 to measure on the tasks of all generations."""

    corpus_folder: Path
    scenario: Scenario


def train(
    arguments: TrainingArguments, folder: Path, parents: Mapping[str, Path], progress: Progress
) -> Mapping[str, Any]:
    """Learn one generation and measure it; runs in a worker process."""
    # torch takes seconds to import, and only workers need it.
    import torch

    from server.training.recipes import TrainingRequest, train_generation
    from server.training.slu.evaluate import accuracy
    from server.training.slu.model import CONFIGS

    torch.set_num_threads(1)
    scenario = arguments.scenario
    corpus = scenario.restrict(Corpus.read(arguments.corpus_folder), arguments.generation)
    base = _read_weights(next(iter(parents.values()))) if parents else None
    request = TrainingRequest(
        recipe=arguments.recipe,
        corpus=corpus,
        base=base,
        budget_bytes=arguments.budget_bytes,
        config=scenario.model,
        steps=getattr(scenario.steps, arguments.recipe),
        seed=arguments.seed,
        generation=arguments.generation,
        batch_size=scenario.batch_size,
    )
    trained = train_generation(request, progress)
    weights = apply(base, decode(trained.diff, None if base is None else base.layout).diff)
    (folder / DIFF).write_bytes(trained.diff)
    (folder / GRAPH).write_bytes(trained.graph)
    (folder / CARD).write_text(trained.card.to_json(), encoding="utf-8")
    (folder / LAYOUT).write_text(weights.layout.to_json(), encoding="utf-8")
    weights.write(folder / WEIGHTS)
    test = corpus.split("test")
    parameters = weights.layout.parameter_count
    return {
        "digest": weights.digest().hex(),
        "file_bytes": len(trained.diff),
        "parameters": parameters,
        "nominal_ratio": parameters / max(1, trained.free_parameters),
        "accuracy": accuracy(weights, CONFIGS[scenario.model], test, trained.card.phrases),
        "loss": trained.loss,
        "seconds": trained.seconds,
    }


def measure_static(
    arguments: StaticArguments, _folder: Path, parents: Mapping[str, Path], _progress: Progress
) -> Mapping[str, Any]:
    """Measure a generation 0, with the phrases it knows, on the tasks of all generations."""
    import torch

    from server.training.slu.evaluate import accuracy
    from server.training.slu.model import CONFIGS

    torch.set_num_threads(1)
    (first,) = parents.values()
    weights = _read_weights(first)
    phrases = Card.from_json((first / CARD).read_text(encoding="utf-8")).phrases
    scenario, corpus = arguments.scenario, Corpus.read(arguments.corpus_folder)
    tests = (
        scenario.restrict(corpus, generation).split("test")
        for generation in range(len(scenario.generations))
    )
    config = CONFIGS[scenario.model]
    return {"accuracies": [accuracy(weights, config, test, phrases) for test in tests]}


def _read_weights(folder: Path) -> ParameterSet:
    layout = Layout.from_json((folder / LAYOUT).read_text(encoding="utf-8"))
    return ParameterSet.read(folder / WEIGHTS, layout)

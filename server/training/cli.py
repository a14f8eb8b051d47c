"""`ota-server train`: learn the next generation of a model from a corpus, and publish it.

Torch is imported when the command runs, not when the command line is read.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from diffcodec import ParameterSet, parse_size
from server.domain import Generation
from server.home import ServerHome
from server.publishing import publish, weights_of
from speech.corpus import Corpus

if TYPE_CHECKING:
    from server.training.recipes import TrainedGeneration, TrainingRequest


class ModelKind(StrEnum):
    """Architectures that can be trained."""

    SLU = "slu"


class TrainingMethod(StrEnum):
    """Recipes: dense and compressed learn from scratch, the others a diff on the head."""

    DENSE = "dense"
    COMPRESSED = "compressed"
    SPARSE = "sparse"
    HASH = "hash"


BUILDS_ON_HEAD = {TrainingMethod.SPARSE, TrainingMethod.HASH}


def train(
    home: Annotated[Path, typer.Argument(metavar="HOME", help="The server's folder.")],
    corpus: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder with manifest.csv and audio.")
    ],
    method: Annotated[TrainingMethod, typer.Option(help="How to learn the generation.")],
    model: Annotated[ModelKind, typer.Option(help="What kind of model to train.")] = ModelKind.SLU,
    line: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The line to publish into; else the kind's name."),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most bytes of the diff file, such as 40KB.")
    ] = None,
    texts: Annotated[
        str | None, typer.Option(metavar="A,B", help="Learn these texts only; else all.")
    ] = None,
    domains: Annotated[
        str | None, typer.Option(metavar="A,B", help="Learn these domains only; else all.")
    ] = None,
    config: Annotated[
        str, typer.Option(metavar="NAME", help="Size of a model from scratch: tiny, small, paper.")
    ] = "small",
    steps: Annotated[int, typer.Option(min=20, help="Optimiser steps.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Draws weights, batches and dropout.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train the next generation from a corpus and publish it.

    The first generation is dense. A sparse or hash diff then learns on top of the newest one and
    fits the budget; the generation *is* what the diff file leads to.

    Examples:
        ota-server train srv --corpus fsdd --method dense --texts zero,one,two

        ota-server train srv --corpus fsdd --method sparse --budget 40KB
    """
    budget_bytes = _check_budget(method, budget)
    name = line or model.value
    chosen = Corpus.read(corpus).restrict(texts=_listed(texts), domains=_listed(domains))
    opened = ServerHome.open(home)
    try:
        request = _request(opened, name, method, chosen, budget_bytes, config, steps, seed)
        trained = _learn(request)
        generation = publish(
            opened, name, trained.diff, graph=trained.graph, card=trained.card.to_json()
        )
        accuracy = _accuracy(opened, generation, request)
    finally:
        opened.close()
    _print_trained(generation, trained, accuracy, chosen.is_real, as_json)


def _check_budget(method: TrainingMethod, budget: str | None) -> int | None:
    if method is TrainingMethod.DENSE:
        if budget is not None:
            raise typer.BadParameter("a dense model has no budget", param_hint="--budget")
        return None
    if budget is None:
        raise typer.BadParameter(f"--method {method} needs a --budget", param_hint="--budget")
    return parse_size(budget)


def _listed(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names is not None else None


def _request(
    home: ServerHome,
    line: str,
    method: TrainingMethod,
    corpus: Corpus,
    budget_bytes: int | None,
    config: str,
    steps: int,
    seed: int,
) -> "TrainingRequest":
    from server.training.errors import RequestError
    from server.training.recipes import TrainingRequest

    head = home.registry.head(line)
    base: ParameterSet | None = None
    if method in BUILDS_ON_HEAD:
        if head is None:
            raise RequestError(
                f"expected a first generation of {line!r} to build upon, found none; "
                "train one by --method dense"
            )
        base = weights_of(home, line, head.number)
    number = head.number + 1 if head is not None else 0
    if base is not None:
        config = _config_of(base)
    return TrainingRequest(method.value, corpus, base, budget_bytes, config, steps, seed, number)


def _config_of(base: ParameterSet) -> str:
    """The configuration whose layout is that of the weights to build upon."""
    from server.training.errors import RequestError
    from server.training.model import CONFIGS
    from server.training.parameters import layout_of

    for name, config in CONFIGS.items():
        if layout_of(config) == base.layout:
            return name
    raise RequestError(
        "expected a head that was trained here as a spoken-command model "
        f"({', '.join(CONFIGS)}), found weights of another layout"
    )


def _learn(request: "TrainingRequest") -> "TrainedGeneration":
    """Train with a progress bar on stderr."""
    from server.training.recipes import train_generation

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(f"training {request.recipe}", total=request.steps, loss=float("nan"))
        return train_generation(
            request, lambda step, _steps, loss: bars.update(bar, completed=step, loss=loss)
        )


def _accuracy(home: ServerHome, generation: Generation, request: "TrainingRequest") -> float:
    from server.training.evaluate import accuracy
    from server.training.model import CONFIGS

    weights = weights_of(home, generation.model, generation.number)
    test = request.corpus.split("test")
    return accuracy(weights, CONFIGS[request.config], test, request.corpus.phrases())


def _print_trained(
    generation: Generation,
    trained: "TrainedGeneration",
    accuracy: float,
    is_real: bool,
    as_json: bool,
) -> None:
    speech = "real" if is_real else "synthetic"
    facts = {
        "model": generation.model,
        "generation": generation.number,
        "digest": generation.digest.hex(),
        "bytes": len(trained.diff),
        "accuracy": round(accuracy, 4),
        "test_speech": speech,
        "training_seconds": round(trained.seconds, 1),
    }
    if as_json:
        print(json.dumps(facts))
        return
    print(f"generation {generation.number} of {generation.model}")
    print(f"digest     {generation.digest.hex()}")
    print(f"bytes      {len(trained.diff)}")
    print(f"accuracy   {100 * accuracy:.1f} % ({speech} test speech)")

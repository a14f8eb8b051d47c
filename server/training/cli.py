"""`ota-server train`: learn the next generation of a model from a corpus, and publish it.

Torch is imported when the command runs, not when the command line is read.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from diffcodec import CodecError, ParameterSet, apply, decode, parse_size
from server.home import ServerHome
from server.publishing import publish, require_model_name, weights_of
from speech.card import Card
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


stderr = Console(stderr=True)

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
        str | None,
        typer.Option(metavar="NAME", help="Size: tiny, small, paper. Else the head's, or small."),
    ] = None,
    steps: Annotated[int, typer.Option(min=20, help="Optimiser steps.")] = 1500,
    seed: Annotated[int, typer.Option(min=0, help="Draws weights, batches and dropout.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train the next generation from a corpus and publish it.

    The first generation is dense. A sparse or hash diff then learns on top of the newest one and
    fits the budget; the generation *is* what the diff file leads to. A generation knows the phrases
    it is trained on and no others: name the old ones too, or none to know all of the corpus.

    Examples:
        ota-server train srv --corpus fsdd --method dense --texts zero,one,two

        ota-server train srv --corpus fsdd --method sparse --budget 40KB
    """
    budget_bytes = _budget_of(method, budget)
    name = line or model.value
    chosen = Corpus.read(corpus).restrict(texts=_listed(texts), domains=_listed(domains))
    opened = ServerHome.open(home)
    try:
        request = _request(opened, name, method, chosen, budget_bytes, config, steps, seed)
        trained = _learn(request)
        accuracy = _accuracy(trained, request)
        forgotten = _forgotten(opened, name, trained.card)
        generation = publish(
            opened,
            name,
            trained.diff,
            graph=trained.graph,
            card=trained.card.to_json(),
            # Another one may have been published in all that time.
            expected_head=request.generation - 1 if request.generation else None,
        )
    finally:
        opened.close()
    facts = {
        "model": generation.model,
        "generation": generation.number,
        "digest": generation.digest.hex(),
        "bytes": len(trained.diff),
        "accuracy": round(accuracy, 4),
        "test_speech": "real" if chosen.is_real else "synthetic",
        "training_seconds": round(trained.seconds, 1),
        "forgotten": forgotten,
    }
    _print_trained(facts, as_json)


def _budget_of(method: TrainingMethod, budget: str | None) -> int | None:
    if method is TrainingMethod.DENSE:
        if budget is not None:
            stderr.print("note: a dense generation travels whole; the budget is for updates")
        return None
    if budget is None:
        raise typer.BadParameter(f"--method {method} needs a --budget", param_hint="--budget")
    try:
        return parse_size(budget)
    except CodecError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error


def _listed(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names is not None else None


def _request(
    home: ServerHome,
    line: str,
    method: TrainingMethod,
    corpus: Corpus,
    budget_bytes: int | None,
    config: str | None,
    steps: int,
    seed: int,
) -> "TrainingRequest":
    from server.training.errors import TrainingRequestError
    from server.training.recipes import TrainingRequest

    if not corpus.split("test").utterances:
        raise TrainingRequestError(
            "expected recordings of the test split to measure on, found none"
        )
    require_model_name(line)
    head = home.registry.head(line)
    base: ParameterSet | None = None
    if method in BUILDS_ON_HEAD:
        if head is None:
            raise TrainingRequestError(
                f"expected a first generation of {line!r} to build upon, found none; "
                "train one by --method dense"
            )
        base = weights_of(home, line, head.number)
        of_head = _config_of(base)
        if config not in (None, of_head):
            raise TrainingRequestError(
                f"expected the head's configuration {of_head!r}, found {config!r}"
            )
        config = of_head
    number = head.number + 1 if head is not None else 0
    return TrainingRequest(
        method.value, corpus, base, budget_bytes, config or "small", steps, seed, number
    )


def _config_of(base: ParameterSet) -> str:
    """The configuration whose layout is that of the weights to build upon."""
    from server.training.errors import TrainingRequestError
    from server.training.parameters import layout_of
    from server.training.slu.model import CONFIGS

    for name, config in CONFIGS.items():
        if layout_of(config) == base.layout:
            return name
    raise TrainingRequestError(
        "expected a head that was trained here as a spoken-command model "
        f"({', '.join(CONFIGS)}), found weights of another layout"
    )


def _learn(request: "TrainingRequest") -> "TrainedGeneration":
    """Train with a progress bar on stderr."""
    from server.training.recipes import train_generation

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as bars:
        bar = bars.add_task(f"training {request.recipe}", total=None, state="reading recordings")

        def show(step: int, steps: int, loss: float) -> None:
            state = f"step {step} of {steps}, loss {loss:.3f}"
            bars.update(bar, completed=step, total=steps, state=state)

        return train_generation(request, show)


def _accuracy(trained: "TrainedGeneration", request: "TrainingRequest") -> float:
    """What the generation will do: the decoded diff, applied."""
    from server.training.slu.evaluate import accuracy
    from server.training.slu.model import CONFIGS

    layout = request.base.layout if request.base is not None else None
    weights = apply(request.base, decode(trained.diff, layout))
    test = request.corpus.split("test")
    return accuracy(weights, CONFIGS[request.config], test, trained.card.phrases)


def _forgotten(home: ServerHome, line: str, card: Card) -> list[str]:
    """Phrases of the head that the next generation does not know."""
    head = home.registry.head(line)
    if head is None or head.card is None:
        return []
    content = home.artifacts.read(head.card.sha256, 0, head.card.length)
    return sorted(set(Card.from_json(content.decode()).phrases) - set(card.phrases))


def _print_trained(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    print(f"generation {facts['generation']} of {facts['model']}")
    print(f"digest     {facts['digest']}")
    print(f"bytes      {facts['bytes']}")
    print(f"accuracy   {100 * facts['accuracy']:.1f} % ({facts['test_speech']} test speech)")
    if facts["forgotten"]:
        print(f"forgotten  {', '.join(facts['forgotten'])}")

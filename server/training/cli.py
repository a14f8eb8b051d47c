"""`ota-server train`: learn the next generation of a model from a corpus, and publish it.

Torch is imported when the command runs, not when the command line is read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from diffcodec import CodecError, ParameterSet, apply, decode, parse_size
from server.home import ServerHome
from server.publishing import publish, require_model_name, weights_of
from speech.card import Card, read_card
from speech.corpus import Corpus

if TYPE_CHECKING:
    from server.training.request import TrainedGeneration, TrainingRequest


class ModelKind(StrEnum):
    """Architectures that can be trained."""

    SLU = "slu"
    RNNT = "rnnt"


class TrainingMethod(StrEnum):
    """Recipes (server.training.recipes): dense learns from scratch, quantise not at all."""

    DENSE = "dense"
    FINETUNE = "finetune"
    AUTO = "auto"
    SPARSE = "sparse"
    HASH = "hash"
    LOWRANK = "lowrank"
    PAPER_SPARSE = "paper_sparse"
    PAPER_HASH = "paper_hash"
    QUANTISE = "quantise"
    INT8 = "int8"


stderr = Console(stderr=True)

METRICS = {ModelKind.SLU: "accuracy", ModelKind.RNNT: "wer"}
TRAININGS = "training"
"""The folder of a home where interrupted trainings wait to go on."""

WITHOUT_BUDGET = {TrainingMethod.DENSE, TrainingMethod.FINETUNE, TrainingMethod.QUANTISE}
UNTEACHABLE = {*WITHOUT_BUDGET, TrainingMethod.INT8}
"""Teachers are in float32, and so is what imitates them."""


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
        typer.Option(metavar="NAME", help="Size: tiny, small, paper; else the head's, or small."),
    ] = None,
    steps: Annotated[int, typer.Option(min=20, help="Optimiser steps.")] = 1500,
    has_teachers: Annotated[
        bool,
        typer.Option(
            "--teachers",
            help="Learn models without a budget first, which the diff then imitates.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Draws weights, batches and dropout.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train the next generation from a corpus and publish it.

    The first generation is dense. A diff then learns on top of the newest one and fits the budget;
    the generation *is* what the diff file leads to. auto takes the method that measured best at
    such a budget. A generation knows the phrases it is trained on and no others: name the old ones
    too, or none to know all of the corpus.

    quantise publishes the newest generation in int8, for devices that compute in it; int8 learns
    diffs from there on.

    With --teachers a diff of spoken commands comes nearer to what models without a budget do, in
    about three times the time; the smaller the budget, the more it gains. They are not published.

    Ctrl-C loses at most a minute: the same command goes on where it was.

    Examples:
        ota-server train srv --corpus fsdd --method dense --texts zero,one,two

        ota-server train srv --corpus fsdd --method auto --budget 16KB

        ota-server train srv --corpus fsdd --method sparse --budget 3KB --teachers

        ota-server train srv --corpus sentences --model rnnt --method dense
    """
    from server.training import parallel
    from server.training.teaching import learn_taught

    budget_bytes = _budget_of(method, budget)
    if has_teachers and (model is not ModelKind.SLU or method in UNTEACHABLE):
        raise typer.BadParameter(
            "expected a diff in float32 of spoken commands to teach, "
            f"found --method {method} of --model {model}",
            param_hint="--teachers",
        )
    name = line or model.value
    chosen = Corpus.read(corpus).restrict(texts=_listed(texts), domains=_listed(domains))
    opened = ServerHome.open(home)
    try:
        head = _head_of(opened, name, model, method, config)
        request = _request(head, model, method, chosen, budget_bytes, steps, seed, home / TRAININGS)
        with parallel.world():
            trained = learn_taught(request, _learn) if has_teachers else _learn(request)
            if parallel.rank():
                return  # the first process speaks for all
        score = _score(trained, request)
        forgotten = sorted(set(_phrases(head.card)) - set(_phrases(trained.card)))
        generation = publish(
            opened,
            name,
            trained.diff,
            graph=trained.graph,
            card=trained.card,
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
        METRICS[model]: round(score, 4),
        "test_speech": "real" if chosen.is_real else "synthetic",
        "training_seconds": round(trained.seconds, 1),
        "forgotten": forgotten,
        "note": trained.note,
    }
    _print_trained(facts, as_json)


def _budget_of(method: TrainingMethod, budget: str | None) -> int | None:
    if method in WITHOUT_BUDGET:
        if budget is not None:
            stderr.print(f"note: a {method} generation travels whole; the budget is for updates")
        return None
    if budget is None:
        raise typer.BadParameter(f"--method {method} needs a --budget", param_hint="--budget")
    try:
        return parse_size(budget)
    except CodecError as error:
        raise typer.BadParameter(str(error), param_hint="--budget") from error


def _listed(names: str | None) -> list[str] | None:
    return [name.strip() for name in names.split(",")] if names is not None else None


@dataclass(frozen=True)
class _Head:
    """What the next generation follows.

    Attributes:
        number: Of the newest generation; -1 where there is none.
        base: Its weights, where the method builds upon them.
        card: Its card, where it has one.
        config: The configuration to train.
    """

    number: int
    base: ParameterSet | None
    card: str | None
    config: str


def _head_of(
    home: ServerHome, line: str, model: ModelKind, method: TrainingMethod, config: str | None
) -> _Head:
    from server.training.errors import TrainingRequestError

    require_model_name(line)
    head = home.registry.head(line)
    if head is None:
        if method is not TrainingMethod.DENSE:
            raise TrainingRequestError(
                f"expected a first generation of {line!r} to build upon, found none; "
                "train one by --method dense"
            )
        return _Head(-1, None, None, config or "small")
    card: str | None = None
    if head.card is not None:
        card = home.artifacts.read(head.card.sha256, 0, head.card.length).decode()
    if method is TrainingMethod.DENSE:
        return _Head(head.number, None, card, config or "small")
    base = weights_of(home, line, head.number)
    of_head = _config_of(base, model)
    if config not in (None, of_head):
        raise TrainingRequestError(
            f"expected the head's configuration {of_head!r}, found {config!r}"
        )
    if method is TrainingMethod.QUANTISE:
        of_head = _in_int8(of_head)
    return _Head(head.number, base, card, of_head)


def _in_int8(config: str) -> str:
    from server.training.errors import TrainingRequestError
    from server.training.slu.model import INT8

    if config.endswith(INT8):
        raise TrainingRequestError("expected a head in float32 to quantise, found one in int8")
    return config + INT8


def _config_of(base: ParameterSet, model: ModelKind) -> str:
    """The configuration whose layout is that of the weights to build upon."""
    from server.training.errors import TrainingRequestError
    from server.training.tasks import CONFIGS, layout_of

    for name in CONFIGS[model]:
        if layout_of(model, name) == base.layout:
            return name
    raise TrainingRequestError(
        f"expected a head that was trained here as a model of kind {model} "
        f"({', '.join(CONFIGS[model])}), found weights of another layout"
    )


def _request(
    head: _Head,
    model: ModelKind,
    method: TrainingMethod,
    corpus: Corpus,
    budget_bytes: int | None,
    steps: int,
    seed: int,
    trainings: Path,
) -> "TrainingRequest":
    from server.training.errors import TrainingRequestError
    from server.training.request import TrainingRequest
    from server.training.teaching import checkpoint_of

    if not corpus.split("test").utterances:
        raise TrainingRequestError(
            "expected recordings of the test split to measure on, found none"
        )
    request = TrainingRequest(
        recipe=method.value,
        corpus=corpus,
        base=head.base,
        config=head.config,
        seed=seed,
        generation=head.number + 1,
        task=model.value,
        base_card=head.card if head.base is not None else None,
        budget_bytes=budget_bytes,
        steps=steps,
    )
    trainings.mkdir(exist_ok=True)
    return replace(request, checkpoint=checkpoint_of(request, trainings))


def _learn(request: "TrainingRequest") -> "TrainedGeneration":
    """Train with a progress bar on stderr."""
    from server.training import parallel
    from server.training.recipes import train_generation

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    # Of several processes the first speaks for all.
    with Progress(*columns, console=stderr, disable=parallel.rank() > 0) as bars:
        bar = bars.add_task(f"training {request.recipe}", total=None, state="reading recordings")

        def show(step: int, steps: int, loss: float) -> None:
            state = f"step {step} of {steps}, loss {loss:.3f}"
            bars.update(bar, completed=step, total=steps, state=state)

        return train_generation(request, show)


def _score(trained: "TrainedGeneration", request: "TrainingRequest") -> float:
    """What the generation will do: the decoded diff, applied."""
    from server.training.tasks import measure

    layout = request.base.layout if request.base is not None else None
    weights = apply(request.base, decode(trained.diff, layout))
    return measure(weights, request.config, request.corpus.split("test"), trained.card)


def _phrases(card: str | None) -> tuple[str, ...]:
    """The phrases that a card names; a recogniser of sentences has none."""
    known = None if card is None else read_card(card)
    return known.phrases if isinstance(known, Card) else ()


def _print_trained(facts: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(facts))
        return
    print(f"generation {facts['generation']} of {facts['model']}")
    print(f"digest     {facts['digest']}")
    print(f"bytes      {facts['bytes']}")
    for metric in METRICS.values():
        if metric in facts:
            score = f"{100 * facts[metric]:.1f} %"
            print(f"{metric:<10} {score} ({facts['test_speech']} test speech)")
    if facts["forgotten"]:
        print(f"forgotten  {', '.join(facts['forgotten'])}")
    if facts["note"]:
        print(f"method     {facts['note']}")

"""Diffs that training made, for judging a codec on more than one model.

A base is trained, then a delta on it is learned on shifted data while its smallest entries are
pruned on the cubic schedule, down to each density in turn; then every weight is fine-tuned, for
lossless diffs. Four architectures, sizes that are no powers of two, so that rows, gates, fused
projections and convolutions all occur:

    lstm         two LSTM encoders with one embedding space         SOURCE a corpus folder
    transformer  self-attention over log-mel frames, words          SOURCE a corpus folder
    conv         separable convolutions over log-mel frames, words  SOURCE a corpus folder
    gru          bidirectional GRU over words, intents              SOURCE a CSV of texts

The shift is in the labels (the base heard half of them, the delta learns all) or in the speakers
(the base heard half of them, the delta learns the others). Same options, same files, on one
machine. A folder of results is what `benchmarks.run --diffs` and `diffcodec bench` read:

    base.safetensors  delta_d10.npz ... delta_d1.npz  tuned.safetensors  about.json

    python -m benchmarks.own_diffs lstm fsdd --seed 1 --out runs/diffs/digits-lstm
"""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn, Protocol

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from benchmarks.architectures import ConvClassifier, GruClassifier, TransformerClassifier
from diffcodec.parameters import ParameterSet
from diffcodec.weights import write_weights
from server.training.learned import Dense, LearnedDiff, Pruning, Sparse
from server.training.parameters import Weights
from server.training.schedule import CubicSchedule, LearningRate
from server.training.sequences import Padded
from server.training.slu.examples import Examples, pad_phrases
from server.training.slu.loss import triplet_loss
from server.training.slu.model import ModelConfig, SpokenCommandModel
from speech.corpus import Corpus
from speech.errors import SpeechError

BATCH_SIZE = 32
LEARNING_RATE = 2e-3
# As the product's recipe: pruned early, then the rest goes on learning.
PRUNE_FROM, PRUNE_TO = 0.10, 0.60
DENSITIES = (0.10, 0.05, 0.025, 0.01)
LABEL_COLUMNS = ("action", "intent")
VOCABULARY_SIZE = 3000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
progress = Console(stderr=True)


class Architecture(StrEnum):
    """What is trained."""

    LSTM = "lstm"
    TRANSFORMER = "transformer"
    CONV = "conv"
    GRU = "gru"


class Shift(StrEnum):
    """What the delta learns that the base did not."""

    LABELS = "labels"
    SPEAKERS = "speakers"


class Task(Protocol):
    """A model, and its loss on a random batch before and after the shift."""

    @property
    def model(self) -> nn.Module:
        """The architecture, with the weights that training starts from."""

    def loss(self, is_shifted: bool, rng: np.random.Generator) -> Tensor:
        """The loss on a batch drawn from the data of the base or of the delta."""


@dataclass(frozen=True)
class Sizes:
    """Of a model.

    Attributes:
        hidden: Its width; divisible by four.
        layers: Of a kind; a two-encoder model has them in the speech encoder and one for text.
    """

    hidden: int
    layers: int


@dataclass(frozen=True)
class Corpora:
    """The data of the base and of the delta."""

    before: Examples
    after: Examples

    def of(self, is_shifted: bool) -> Examples:
        """One of the two."""
        return self.after if is_shifted else self.before


class TwoEncoders:
    """Recordings and phrases that meet in one space: the product's own model."""

    def __init__(self, corpora: Corpora, sizes: Sizes) -> None:
        self._corpora = corpora
        self._phrases = {
            shifted: pad_phrases(corpora.of(shifted).phrases) for shifted in (False, True)
        }
        config = ModelConfig(
            speech_layers=sizes.layers,
            text_layers=1,
            hidden=sizes.hidden,
            embedding=sizes.hidden // 2,
            token_embedding=56,
            dropout=0.1,
        )
        self.model: nn.Module = SpokenCommandModel(config)

    def loss(self, is_shifted: bool, rng: np.random.Generator) -> Tensor:
        """The triplet loss that the product trains with."""
        features, labels = self._corpora.of(is_shifted).draw(BATCH_SIZE, rng)
        phrases = self._phrases[is_shifted]
        speech, text = self.model(
            features.values, features.lengths, phrases.values, phrases.lengths
        )
        return triplet_loss(speech, text, labels)


class Classification:
    """Sequences with one label each, told apart by cross-entropy."""

    def __init__(
        self, model: nn.Module, draw: Callable[[bool, np.random.Generator], tuple[Padded, Tensor]]
    ) -> None:
        self.model = model
        self._draw = draw

    def loss(self, is_shifted: bool, rng: np.random.Generator) -> Tensor:
        """Cross-entropy."""
        sequences, labels = self._draw(is_shifted, rng)
        answers = self.model(sequences.values, sequences.lengths)
        return nn.functional.cross_entropy(answers, labels)


@app.command()
def run(
    architecture: Annotated[Architecture, typer.Argument(help="What to train.")],
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A corpus folder; for gru a CSV of texts.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for what comes of it.")],
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of weights and batches.")] = 1,
    hidden: Annotated[
        int, typer.Option(min=4, metavar="H", help="Width, a multiple of four.")
    ] = 120,
    layers: Annotated[int, typer.Option(min=1, help="Of the model, or of its first part.")] = 3,
    shift: Annotated[Shift, typer.Option(help="What is new to the delta.")] = Shift.LABELS,
    base_steps: Annotated[int, typer.Option(min=1, help="Optimiser steps of the base.")] = 400,
    steps: Annotated[int, typer.Option(min=10, help="Optimiser steps of each delta.")] = 300,
    density: Annotated[
        list[float] | None, typer.Option(help="Share of non-zeros; repeat it. Else 10 to 1 %.")
    ] = None,
) -> None:
    """Train a base and deltas of several densities on it."""
    if out.exists():
        _fail(f"{out}: expected a new folder")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    try:
        sizes = Sizes(hidden, layers)
        task = _task(architecture, source, shift, sizes, np.random.default_rng([seed, 0]))
    except (SpeechError, OSError, ValueError) as error:
        _fail(str(error))
    out.mkdir(parents=True)
    dense = Dense(task.model)
    losses = {"base": _fit(task, dense, False, base_steps, np.random.default_rng([seed, 1]))}
    base = _weights(task.model)
    _write(out / "base.safetensors", base)
    for number, share in enumerate(density or DENSITIES):
        name = f"d{100 * share:g}"
        delta, losses[name] = _delta(task, base, share, steps, seed, number)
        np.savez_compressed(out / f"delta_{name}.npz", allow_pickle=False, **delta)
    _load(task.model, base)
    tuned = Dense(task.model)
    losses["tuned"] = _fit(task, tuned, True, steps, np.random.default_rng([seed, 2]))
    _write(out / "tuned.safetensors", _weights(task.model))
    about = {
        "command": ["python", "-m", "benchmarks.own_diffs", *sys.argv[1:]],
        "parameters": sum(w.numel() for w in base.values()),
        "final losses": losses,
    }
    (out / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    progress.print(f"{out}: {about['parameters']:,} parameters, losses {losses}")


def _task(
    architecture: Architecture, source: Path, shift: Shift, sizes: Sizes, rng: np.random.Generator
) -> Task:
    if architecture is Architecture.GRU:
        return _intents(source, sizes, rng)
    corpora = _corpora(Corpus.read(source).split("train"), shift, rng)
    if architecture is Architecture.LSTM:
        return TwoEncoders(corpora, sizes)
    labels = len(corpora.after.phrases)
    model = (
        TransformerClassifier(sizes.hidden, sizes.layers, labels)
        if architecture is Architecture.TRANSFORMER
        else ConvClassifier(sizes.hidden, sizes.layers, labels)
    )
    return Classification(model, lambda shifted, rng: corpora.of(shifted).draw(BATCH_SIZE, rng))


def _corpora(corpus: Corpus, shift: Shift, rng: np.random.Generator) -> Corpora:
    """The phrases of both are numbered alike, those of the base first."""
    phrases = tuple(map(str, rng.permutation(corpus.phrases())))
    known = phrases[: len(phrases) // 2]
    if shift is Shift.LABELS:
        before = corpus.restrict(texts=known)
        return Corpora(Examples.of(before, known), Examples.of(corpus, phrases))
    speakers = rng.permutation(sorted({u.speaker for u in corpus.utterances}))
    heard = set(speakers[: len(speakers) // 2])
    halves = [
        tuple(k for k, u in enumerate(corpus.utterances) if (u.speaker in heard) == is_heard)
        for is_heard in (True, False)
    ]
    everything = Examples.of(corpus, phrases)
    return Corpora(*(_chosen(everything, half) for half in halves))


def _chosen(examples: Examples, numbers: Sequence[int]) -> Examples:
    features = tuple(examples.features[k] for k in numbers)
    return Examples(features, examples.labels[list(numbers)], examples.phrases)


def _intents(path: Path, sizes: Sizes, rng: np.random.Generator) -> Task:
    """Texts by words, the most frequent ones numbered from 1; 0 is any other."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    column = next((name for name in LABEL_COLUMNS if rows and name in rows[0]), None)
    if column is None or "text" not in rows[0]:
        raise ValueError(f"{path}: expected columns text and one of {', '.join(LABEL_COLUMNS)}")
    names = [str(name) for name in rng.permutation(sorted({row[column] for row in rows}))]
    labels = np.asarray([names.index(row[column]) for row in rows])
    words = _numbered([row["text"] for row in rows])
    known = np.flatnonzero(labels < len(names) // 2)

    def draw(is_shifted: bool, rng: np.random.Generator) -> tuple[Padded, Tensor]:
        chosen = rng.choice(np.arange(len(rows)) if is_shifted else known, BATCH_SIZE)
        lengths = torch.tensor([len(words[k]) for k in chosen])
        tokens = nn.utils.rnn.pad_sequence([torch.from_numpy(words[k]) for k in chosen])
        return Padded(tokens, lengths), torch.from_numpy(labels[chosen])

    model = GruClassifier(sizes.hidden, sizes.layers, VOCABULARY_SIZE, len(names))
    return Classification(model, draw)


def _numbered(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    split = [text.lower().split() or ["."] for text in texts]
    counts: dict[str, int] = {}
    for word in (word for words in split for word in words):
        counts[word] = counts.get(word, 0) + 1
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    numbers = {word: k + 1 for k, word in enumerate(ranked[: VOCABULARY_SIZE - 1])}
    return [np.asarray([numbers.get(word, 0) for word in words]) for words in split]


def _delta(
    task: Task, base: Weights, density: float, steps: int, seed: int, number: int
) -> tuple[dict[str, NDArray[np.float32]], float]:
    _load(task.model, base)
    pruning = CubicSchedule(1.0 - density, int(PRUNE_FROM * steps), int(PRUNE_TO * steps))
    sparse = Sparse(task.model, Pruning(pruning))
    loss = _fit(task, sparse, True, steps, np.random.default_rng([seed, 3, number]))
    learned = _weights(task.model)
    return {name: (w - base[name]).numpy() for name, w in learned.items()}, loss


def _fit(
    task: Task, learned: LearnedDiff, is_shifted: bool, steps: int, rng: np.random.Generator
) -> float:
    """Adam with the product's schedule; the mean loss of the last tenth of the steps."""
    optimizer = torch.optim.Adam(learned.free(), lr=LEARNING_RATE)
    learned.attach(optimizer)
    rate = LearningRate(steps, LEARNING_RATE)
    losses = []
    task.model.train()
    torch.manual_seed(int(rng.integers(2**31)))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate.at(step)
        loss = task.loss(is_shifted, rng)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learned.free(), max_norm=5.0)
        optimizer.step()
        if step % 50 == 0:
            progress.print(f"step {step} of {steps}, loss {losses[-1]:.3f}", highlight=False)
    return round(float(np.mean(losses[-max(1, steps // 10) :])), 4)


def _weights(model: nn.Module) -> Weights:
    return {name: w.detach().clone() for name, w in model.named_parameters()}


def _load(model: nn.Module, weights: Weights) -> None:
    model.load_state_dict(dict(weights), strict=False)


def _write(path: Path, weights: Weights) -> None:
    write_weights(path, ParameterSet.from_arrays({name: w.numpy() for name, w in weights.items()}))


def _fail(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()

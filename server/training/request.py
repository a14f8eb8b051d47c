"""What is asked of a training, and what it gives."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from diffcodec import ParameterSet
from speech.corpus import Corpus


@dataclass(frozen=True)
class TrainingRequest:
    """One generation to learn.

    Attributes:
        recipe: A name of recipes.RECIPES.
        corpus: What the generation must know; its train split is learned from.
        base: F_t, for the recipes that build upon it.
        config: Name of a model configuration of the task.
        seed: Draws weights, batches, dropout.
        generation: Its number t + 1; hash functions are reseeded by it.
        task: A name of tasks.TASKS.
        base_card: The card of F_t.
        teachers: Models of the configuration that the generation imitates beside learning the
            corpus, such as one without any budget: they must know the same phrases.
        residual: Where `sparse_feedback` starts: that of the generation before; None: at F_t.
        budget_bytes: Limit of the encoded file.
        nominal_ratio: Instead of it: parameters per free value, as the paper counts.
        steps: Optimiser steps; None: the paper's.
        batch_size: Recordings a step.
        checkpoint: Where an interrupted training goes on from; None: it does not.
    """

    recipe: str
    corpus: Corpus
    base: ParameterSet | None
    config: str
    seed: int
    generation: int
    task: str = "slu"
    base_card: str | None = None
    residual: ParameterSet | None = None
    teachers: tuple[ParameterSet, ...] = ()
    budget_bytes: int | None = None
    nominal_ratio: float | None = None
    steps: int | None = None
    batch_size: int = 64
    checkpoint: Path | None = None

    def fingerprint(self) -> str:
        """Hex SHA-256 over all that the training depends on."""
        content = [
            self.recipe,
            self.corpus.digest(),
            None if self.base is None else self.base.digest().hex(),
            None if self.residual is None else self.residual.digest().hex(),
            self.config,
            self.seed,
            self.generation,
            self.task,
            self.budget_bytes,
            self.nominal_ratio,
            self.steps,
            self.batch_size,
            [teacher.digest().hex() for teacher in self.teachers],
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True)
class TrainedGeneration:
    """A learned generation as it is published.

    Attributes:
        diff: An encoded .ndiff: a snapshot, or a diff on the base.
        graph: The ONNX model that runs it.
        card: What a device needs to know beside the weights, as JSON.
        loss: Mean training loss of the last steps.
        seconds: How long learning took.
        free_parameters: Values that were free in the end: non-zeros, entries of arrays, factors.
        note: Why `auto` chose what it chose; else empty.
        residual: What `sparse_feedback` learned and the diff could not carry.
    """

    diff: bytes
    graph: bytes
    card: str
    loss: float
    seconds: float
    free_parameters: int
    note: str = ""
    residual: ParameterSet | None = None

"""Spoken commands as the training recipes see them (server.training.task.Task)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import Layout
from server.training.errors import TrainingRequestError
from server.training.parameters import seeded
from server.training.sequences import Padded
from server.training.slu.examples import Examples, pad_phrases
from server.training.slu.graph import build_graph
from server.training.slu.loss import triplet_loss
from server.training.slu.model import CONFIGS, ModelConfig, SpokenCommandModel
from speech.card import Card
from speech.corpus import Corpus

IMITATION = 10.0
"""What a squared difference from the teachers' similarities weighs beside the triplet loss."""


@dataclass(frozen=True)
class Batch:
    """Utterances, the phrases of the set, and which phrase each utterance is.

    Attributes:
        utterances: float32 (T, B, 192).
        phrases: int64 (L, C).
        labels: int64 (B,).
    """

    utterances: Padded
    phrases: Padded
    labels: Tensor


@dataclass(frozen=True, eq=False)
class SluTask:
    """A spoken-command model, its phrases, and the utterances that it learns from.

    Attributes:
        teachers: Models of the same phrases, to be imitated beside learning the labels.
    """

    config: ModelConfig
    examples: Examples
    phrases: Padded
    teachers: tuple[nn.Module, ...] = ()

    @classmethod
    def of(cls, corpus: Corpus, config: str) -> "SluTask":
        """Prepare to learn the train split of a corpus and to know all its phrases.

        Raises:
            TrainingRequestError: no such configuration, fewer than two phrases, or nothing to
                learn from.
            AudioError: a recording cannot be read.
        """
        if config not in CONFIGS:
            raise TrainingRequestError(
                f"expected a configuration of {', '.join(CONFIGS)}, found {config!r}"
            )
        phrases, train = corpus.phrases(), corpus.split("train")
        if len(phrases) < 2:
            raise TrainingRequestError(
                f"expected at least two phrases to tell apart, found {list(phrases)}"
            )
        if not train.utterances:
            raise TrainingRequestError("expected recordings of the train split, found none")
        sizes = CONFIGS[config]
        examples = Examples.of(train, phrases)
        return cls(sizes, examples, pad_phrases(phrases, sizes.tokens))

    def taught_by(self, teachers: Sequence[nn.Module]) -> "SluTask":
        """The same, imitating teachers: models of the configuration, which are not learned here."""
        return replace(self, teachers=tuple(teacher.eval() for teacher in teachers))

    @property
    def layout(self) -> Layout:
        """The canonical tensors of the model, as a device stores them."""
        return self.config.layout

    def new_model(self, seed: int) -> SpokenCommandModel:
        """A model with random weights that depend on the seed alone."""
        return seeded(partial(SpokenCommandModel, self.config), seed)

    def draw(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """A random, augmented batch of utterances of similar lengths, and all phrases."""
        utterances, labels = self.examples.draw(batch_size, rng)
        return Batch(utterances, self.phrases, labels)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The triplet loss of utterances against every phrase, and what teachers add to it.

        Teachers say more about an utterance than its label: how near every phrase is (Hinton et
        al. 2015). The model is drawn to the mean of their cosine similarities, which, unlike
        embeddings, models that were learned apart have in common.
        """
        speech, text = _embedded(model, batch)
        loss = triplet_loss(speech, text, batch.labels)
        if not self.teachers:
            return loss
        with torch.no_grad():
            said = torch.stack([s @ t.T for s, t in (_embedded(m, batch) for m in self.teachers)])
        return loss + IMITATION * nn.functional.mse_loss(speech @ text.T, said.mean(dim=0))

    def graph(self) -> bytes:
        """The ONNX model that runs the weights on a device."""
        return build_graph(self.config, self.layout)

    def card(self) -> str:
        """The card of the generation, as JSON: its phrases, and how they become tokens."""
        return Card(self.examples.phrases, self.config.tokens).to_json()


def _embedded(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Utterances (B, E) and phrases (C, E), of unit length."""
    utterances, phrases = batch.utterances, batch.phrases
    speech, text = model(utterances.values, utterances.lengths, phrases.values, phrases.lengths)
    return speech, text

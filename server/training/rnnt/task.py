"""Speech recognition as the training recipes see it (server.training.task.Task)."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor, nn

from diffcodec import Layout
from server.training.errors import TrainingRequestError
from server.training.parameters import layout_of, seeded
from server.training.rnnt.examples import Batch, Examples
from server.training.rnnt.graph import build_graph
from server.training.rnnt.loss import transducer_loss
from server.training.rnnt.model import BLANK, CONFIGS, ModelConfig, RnntModel
from server.training.rnnt.pieces import Pieces
from speech.card import TransducerCard, read_card
from speech.corpus import Corpus


@dataclass(frozen=True, eq=False)
class RnntTask:
    """An RNN-T, the pieces that it writes, and the utterances that it learns from."""

    config: ModelConfig
    pieces: Pieces
    examples: Examples

    @classmethod
    def of(cls, corpus: Corpus, config: str, base_card: str | None = None) -> "RnntTask":
        """Prepare to learn the train split of a corpus.

        Args:
            corpus: Its train split is learned.
            config: Name of a model configuration (model.CONFIGS).
            base_card: The card of the generation that is built upon, whose pieces are kept;
                None learns pieces from the texts.

        Raises:
            TrainingRequestError: no such configuration, nothing to learn from, a base of another
                task or of other sizes, or a text that its pieces cannot spell.
            CardError: not a card.
            AudioError: a recording cannot be read.
        """
        if config not in CONFIGS:
            raise TrainingRequestError(
                f"expected a configuration of {', '.join(CONFIGS)}, found {config!r}"
            )
        train, sizes = corpus.split("train"), CONFIGS[config]
        if not train.utterances:
            raise TrainingRequestError("expected recordings of the train split, found none")
        if base_card is None:
            pieces = Pieces.learn(train.phrases(), sizes.vocabulary)
        else:
            pieces = pieces_of(base_card, sizes)
        return cls(sizes, pieces, Examples.of(train, pieces))

    @property
    def layout(self) -> Layout:
        """The canonical tensors of the model, float32."""
        return layout_of(partial(RnntModel, self.config))

    def new_model(self, seed: int) -> RnntModel:
        """A model with random weights that depend on the seed alone."""
        return seeded(partial(RnntModel, self.config), seed)

    def draw(self, batch_size: int, rng: np.random.Generator) -> Batch:
        """A random, augmented batch of utterances of similar lengths."""
        return self.examples.draw(batch_size, rng, self.config.has_masks)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Nats a piece: the RNN-T loss of all utterances over the pieces in them.

        In training, the CTC loss of the encoder alone is added, as the configuration weighs it.
        """
        sizes = batch.frames, batch.counts
        said = model(batch.features, batch.frames, batch.pieces, batch.counts)
        total = transducer_loss(said.blank, said.piece, *sizes).sum()
        if said.unaided is not None:
            # Texts with more pieces than frames have no CTC path; they teach the RNN-T alone.
            ctc = nn.functional.ctc_loss(
                said.unaided, batch.pieces.T, *sizes, BLANK, reduction="sum", zero_infinity=True
            )
            total = total + self.config.ctc_weight * ctc
        return total / batch.counts.sum()

    def graph(self) -> bytes:
        """The ONNX model that runs the weights on a device."""
        return build_graph(self.config, self.layout)

    def card(self) -> str:
        """The card of the generation, as JSON: its pieces and the sizes of its states."""
        layers = self.config.encoder_layers, self.config.prediction_layers
        return TransducerCard(self.pieces.pieces, *layers, self.config.hidden).to_json()


def pieces_of(card: str, config: ModelConfig) -> Pieces:
    """The pieces on a card.

    Raises:
        TrainingRequestError: not the card of a recogniser, or a model of these sizes has more
            pieces or fewer.
        CardError: not a card.
    """
    known = read_card(card)
    if not isinstance(known, TransducerCard):
        raise TrainingRequestError("expected a base that writes word pieces, found spoken commands")
    if known.vocabulary != config.vocabulary:
        raise TrainingRequestError(
            f"expected a base with {config.vocabulary - 1} word pieces, as the configuration has, "
            f"found {known.vocabulary - 1}"
        )
    return Pieces(known.pieces)

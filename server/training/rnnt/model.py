"""The RNN-T (Graves 2012) as the neural diff paper has it (4.1): unidirectional, so it streams.

    encoder      features -> N LSTM layers -> projection                    (T, B, E)
    prediction   previous piece -> embedding -> M LSTM layers -> projection (U + 1, B, E)
    joint        tanh(encoder + prediction) -> linear                       V logits

"Both networks apply a final projection" is one dense layer after the last LSTM of each, and every
LSTM has a single bias: that gives the paper's 64.1M parameters (64,142,532).

Letters: B batch, T feature frames, U pieces of a text, H hidden units, E width of the
projections, V pieces and blank.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from server.training.lstm import OnnxLstmLayer, State
from server.training.rnnt.joint import emission_log_probs
from speech.features import FEATURE_DIM

BLANK = 0
"""The piece that says nothing and moves on to the next frame; also what a text starts from."""

ENCODER_GAIN = 4.0
"""How much louder than the prediction network the encoder starts. Else a model first learns what
texts are like, for hundreds of steps, before it begins to listen."""

BLANK_SHARE = 0.75
"""The probability of blank to start from: most frames begin no piece. Else the first gradients are
so large that Adam takes small steps for a thousand steps after them."""

States = tuple[State, ...]
"""One state for each LSTM layer."""


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of an RNN-T, and how it learns.

    Attributes:
        vocabulary: V.
        dropout: Of the prediction network.
        ctc_weight: How much a CTC loss of the encoder alone counts beside the RNN-T loss. Where
            texts are easier to guess than to hear, a model else learns to guess them and listens
            only much later. It costs no parameters: the joint layer reads the encoder alone.
        has_masks: Whether SpecAugment masks what is heard. In trainings of minutes a model listens
            only after twice as many steps with them.
    """

    encoder_layers: int
    prediction_layers: int
    hidden: int
    projection: int
    embedding: int
    vocabulary: int
    dropout: float = 0.3
    ctc_weight: float = 0.0
    has_masks: bool = True


CONFIGS = {
    "tiny": ModelConfig(1, 1, hidden=48, projection=32, embedding=16, vocabulary=48, dropout=0.0),
    "small": ModelConfig(
        2,
        1,
        hidden=160,
        projection=96,
        embedding=64,
        vocabulary=96,
        ctc_weight=1.0,
        has_masks=False,
    ),
    "paper": ModelConfig(6, 2, hidden=1024, projection=640, embedding=256, vocabulary=2500),
}


class Encoder(nn.Module):
    """LSTM layers over feature frames, then a projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.lstm = _layers(FEATURE_DIM, config.hidden, config.encoder_layers)
        self.projection = nn.Linear(config.hidden, config.projection)
        with torch.no_grad():
            self.projection.weight.mul_(ENCODER_GAIN)

    def forward(self, features: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Encode frames, from the states that the frames before them left.

        Args:
            features: float32 (T, B, 192).
            states: Of every layer; None at the start of a recording.

        Returns:
            (T, B, E) and the states after the last frame.
        """
        x, after = _run(self.lstm, features, states, nn.Identity())
        return self.projection(x), after


class Prediction(nn.Module):
    """An embedding and LSTM layers over the pieces so far, then a projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.vocabulary, config.embedding)
        self.lstm = _layers(config.embedding, config.hidden, config.prediction_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(config.hidden, config.projection)

    def forward(self, pieces: Tensor, states: States | None = None) -> tuple[Tensor, States]:
        """Read pieces, from the states that the pieces before them left.

        Args:
            pieces: int64 (U, B); the first of a text is BLANK.
            states: Of every layer; None at the start of a text.

        Returns:
            (U, B, E) and the states after the last piece.
        """
        embedded = self.dropout(self.embedding(pieces))
        x, after = _run(self.lstm, embedded, states, self.dropout)
        return self.projection(x), after


class Emissions(NamedTuple):
    """Log-probabilities of the right emissions, in every cell of the lattice.

    Attributes:
        blank: (B, T, U + 1).
        piece: (B, T, U), of the text's next piece.
        unaided: (T, B, V), of every piece if the joint layer reads the encoder alone; None if the
            model does not learn from that.
    """

    blank: Tensor
    piece: Tensor
    unaided: Tensor | None


class RnntModel(nn.Module):
    """Both networks and the joint layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.prediction = Prediction(config)
        self.joint = nn.Linear(config.projection, config.vocabulary)
        with torch.no_grad():
            odds = BLANK_SHARE / (1.0 - BLANK_SHARE)
            self.joint.bias[BLANK] = math.log(odds * (config.vocabulary - 1))

    def forward(
        self, features: Tensor, frames: Tensor, pieces: Tensor, counts: Tensor
    ) -> Emissions:
        """Log-probabilities of the right emissions, as the losses take them.

        Args:
            features: float32 (T, B, 192), padded at the end.
            frames: int64 (B,), frames that count.
            pieces: int64 (U, B), the texts, padded at the end by any piece.
            counts: int64 (B,), pieces that count.
        """
        encoded, _ = self.encoder(features)
        start = pieces.new_full((1, pieces.shape[1]), BLANK)
        predicted, _ = self.prediction(torch.cat([start, pieces]))
        blank, piece = emission_log_probs(
            encoded, predicted, self.joint.weight, self.joint.bias, pieces, frames, counts
        )
        learns_unaided = self.training and self.config.ctc_weight > 0.0
        unaided = self.log_probs(encoded, torch.zeros_like(encoded)) if learns_unaided else None
        return Emissions(blank, piece, unaided)

    def log_probs(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """(..., E) and (..., E) -> (..., V): the joint network on single pairs, for decoding."""
        return torch.log_softmax(self.joint(torch.tanh(encoded + predicted)), dim=-1)


def _layers(inputs: int, hidden: int, count: int) -> nn.ModuleList:
    sizes = [inputs] + [hidden] * (count - 1)
    layers = nn.ModuleList(OnnxLstmLayer(size, hidden, biases=1) for size in sizes)
    with torch.no_grad():
        for layer in layers:
            # Gates lie as i, o, f, c. A cell that remembers from the start learns sooner what
            # matters only frames later (Jozefowicz et al. 2015).
            cast(OnnxLstmLayer, layer).B[:, 2 * hidden : 3 * hidden] = 1.0
    return layers


def _run(
    layers: nn.ModuleList, x: Tensor, states: States | None, dropout: nn.Module
) -> tuple[Tensor, States]:
    """One layer after the other, dropout after each; returns outputs and final states."""
    after = []
    for k, layer in enumerate(layers):
        x, state = cast(OnnxLstmLayer, layer).run(x, states[k] if states else None)
        x = dropout(x)
        after.append(state)
    return x, tuple(after)

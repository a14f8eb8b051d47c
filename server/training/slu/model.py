"""The spoken-command model: a speech encoder and a text encoder with one embedding space.

Neural diff paper, section 4.2: LSTM layers with a dense projection embed an utterance and the
text of a phrase, so that matching ones are close in L2 distance. Recognition is the nearest
phrase. Parameters lie in canonical (ONNX) order, so that what is learned, pruned or hashed
here is what travels and what the device stores: W (1, 4H, I), R (1, 4H, H), B (1, 8H) with
gates i, o, f, c. Of the models that run on a device in int8 the matrices lie the other way
(lstm.OnnxLstmLayer); the module itself computes in float32 whichever it is.

Letters: B batch, T feature frames, L tokens, D input size, H hidden units, E embedding size.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from diffcodec import Layout
from server.training.grid import on_grid
from server.training.lstm import OnnxLstmLayer
from server.training.parameters import layout_of
from speech.features import FEATURE_DIM
from speech.tokens import BYTES, PIECES, VOCABULARY_SIZES


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of a spoken-command model.

    `paper` is the model of section 4.2, 1.1 million parameters; its 4,500 word pieces are hashed
    ones, which need no vocabulary on the way to the device. The others are for a CPU. Each has a
    twin, `paper-int8` and so on, whose matrices lie on a device in int8.
    """

    speech_layers: int
    text_layers: int
    hidden: int
    embedding: int
    token_embedding: int
    dropout: float = 0.2
    tokens: str = BYTES
    is_int8: bool = False

    @property
    def layout(self) -> Layout:
        """The canonical tensors of the model, as a device stores them."""
        floats = layout_of(partial(SpokenCommandModel, self))
        return on_grid(floats) if self.is_int8 else floats


FLOAT_CONFIGS = {
    "tiny": ModelConfig(1, 1, hidden=32, embedding=32, token_embedding=16, dropout=0.0),
    "small": ModelConfig(2, 1, hidden=128, embedding=64, token_embedding=32, dropout=0.1),
    "paper": ModelConfig(4, 2, hidden=128, embedding=128, token_embedding=64, tokens=PIECES),
}
INT8 = "-int8"
"""Ends the name of a configuration in int8."""
CONFIGS = FLOAT_CONFIGS | {
    name + INT8: replace(config, is_int8=True) for name, config in FLOAT_CONFIGS.items()
}


class Encoder(nn.Module):
    """LSTM layers with dropout, the mean over time, a projection, unit length."""

    def __init__(self, config: ModelConfig, inputs: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs] + [config.hidden] * (layers - 1)
        self.lstm = nn.ModuleList(
            OnnxLstmLayer(size, config.hidden, is_input_major=config.is_int8) for size in sizes
        )
        self.dropout = nn.Dropout(config.dropout)
        self.projection = nn.Linear(config.hidden, config.embedding)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Embed padded sequences.

        Args:
            x: (T, B, D), padded at the end.
            lengths: int64 (B,), how much of each sequence counts.

        Returns:
            (B, E), of unit L2 length.
        """
        for layer in self.lstm:
            x = self.dropout(layer(x))
        return nn.functional.normalize(self.projection(mean_over_time(x, lengths)), dim=-1)


class SpokenCommandModel(nn.Module):
    """Embeds utterances and phrases into one space."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.speech = Encoder(config, FEATURE_DIM, config.speech_layers)
        self.tokens = nn.Embedding(VOCABULARY_SIZES[config.tokens], config.token_embedding)
        self.text = Encoder(config, config.token_embedding, config.text_layers)

    def forward(
        self, features: Tensor, frames: Tensor, tokens: Tensor, token_counts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed a batch of utterances and a set of phrases.

        The mean over an utterance is taken out of its features first, which removes what the
        microphone and the room add to every frame.

        Args:
            features: float32 (T, B, 192), padded at the end.
            frames: int64 (B,), frames that count.
            tokens: int64 (L, C), padded at the end.
            token_counts: int64 (C,), tokens that count.

        Returns:
            Speech embeddings (B, E) and text embeddings (C, E), of unit L2 length.
        """
        centred = features - mean_over_time(features, frames)
        return self.speech(centred, frames), self.text(self.tokens(tokens), token_counts)


def mean_over_time(x: Tensor, lengths: Tensor) -> Tensor:
    """(T, B, D) with lengths (B,) -> (B, D); padding does not count."""
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    mask = (steps < lengths[None, :]).to(x.dtype)
    return (x * mask[:, :, None]).sum(dim=0) / lengths[:, None]

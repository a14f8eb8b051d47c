"""Small classifiers of sequences, unlike the product's model: to see what their diffs look like.

Each takes padded sequences, time first, and their lengths, and answers with logits (B, C).

Letters: B batch, T frames or words, D input size, H width, C labels.
"""

import torch
from torch import Tensor, nn

from server.training.slu.model import mean_over_time
from speech.features import FEATURE_DIM, MEL_BANDS, STACK

MOST_FRAMES = 512


class TransformerClassifier(nn.Module):
    """Pre-norm self-attention layers over frames with learned positions, then the mean."""

    def __init__(self, hidden: int, layers: int, labels: int) -> None:
        super().__init__()
        self.frames = nn.Linear(FEATURE_DIM, hidden)
        self.positions = nn.Parameter(0.02 * torch.randn(MOST_FRAMES, hidden))
        layer = nn.TransformerEncoderLayer(
            hidden, nhead=4, dim_feedforward=4 * hidden, dropout=0.1, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, num_layers=layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(hidden)
        self.labels = nn.Linear(hidden, labels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, 192) and lengths (B,) -> (B, C)."""
        h = self.frames(x) + self.positions[: x.shape[0], None]
        padding = torch.arange(x.shape[0])[None] >= lengths[:, None]
        h = self.layers(h, src_key_padding_mask=padding)
        return self.labels(mean_over_time(self.norm(h), lengths))  # type: ignore[no-any-return]


class ConvClassifier(nn.Module):
    """A strided convolution over time and bands, separable ones, the mean."""

    def __init__(self, hidden: int, layers: int, labels: int) -> None:
        super().__init__()
        self.image = nn.Conv2d(1, hidden, (7, 8), stride=(3, 4), padding=(3, 2))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(4, hidden),
                nn.GELU(),
                nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden),
                nn.Conv2d(hidden, hidden, 1),
            )
            for _ in range(layers)
        )
        self.norm = nn.GroupNorm(4, hidden)
        self.mixing = nn.Conv2d(hidden, 2 * hidden, 3, stride=2)
        self.labels = nn.Linear(2 * hidden, labels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, 192) and lengths (B,) -> (B, C); padding counts."""
        frames, batch, _ = x.shape
        centred = x - mean_over_time(x, lengths)
        h = self.image(centred.transpose(0, 1).reshape(batch, 1, frames * STACK, MEL_BANDS))
        for block in self.blocks:
            h = h + block(h)
        h = nn.functional.gelu(self.mixing(nn.functional.gelu(self.norm(h))))
        return self.labels(h.mean(dim=(2, 3)))  # type: ignore[no-any-return]


class GruClassifier(nn.Module):
    """Word embeddings, bidirectional GRU layers, the mean, a hidden layer."""

    def __init__(self, hidden: int, layers: int, vocabulary: int, labels: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, hidden // 2)
        self.gru = nn.GRU(hidden // 2, hidden, num_layers=layers, bidirectional=True, dropout=0.1)
        self.mixing = nn.Linear(2 * hidden, hidden)
        self.labels = nn.Linear(hidden, labels)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Word numbers (T, B) and lengths (B,) -> (B, C)."""
        h, _ = self.gru(self.words(x))
        return self.labels(torch.relu(self.mixing(mean_over_time(h, lengths))))  # type: ignore[no-any-return]

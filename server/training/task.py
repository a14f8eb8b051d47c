"""What a recipe knows of an architecture: a layout, random weights, batches and a loss.

The recipes (`server.training.recipes`) learn any task; the two of the neural diff paper are
`server.training.slu` (spoken commands) and `server.training.rnnt` (speech recognition).
"""

from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from diffcodec import Layout


class Task(Protocol):
    """A model and what it is to learn."""

    @property
    def layout(self) -> Layout:
        """The canonical tensors of the model: float32, or int8 on a grid (server.training.grid)."""

    def new_model(self, seed: int) -> nn.Module:
        """A model with random weights that depend on the seed alone.

        Its named parameters are the tensors of the layout, in float32.
        """

    def draw(self, batch_size: int, rng: np.random.Generator) -> Any:
        """A random, augmented batch: tensors, or tuples and dataclasses of them, on the CPU."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar loss of a model on a batch, on the device where both are."""

    def graph(self) -> bytes:
        """The ONNX model that runs the weights on a device."""

    def card(self) -> str:
        """The card of the generation, as JSON: what a device needs to know beside the weights."""

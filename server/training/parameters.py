"""Between a torch model and the canonical parameters that travel."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import Dtype, Layout, ParameterSet, TensorSpec
from server.training.slu.model import ModelConfig, SpokenCommandModel

Weights = Mapping[str, Tensor]
"""Tensors by canonical name, as `torch.func.functional_call` takes them."""


def new_model(config: ModelConfig, seed: int) -> SpokenCommandModel:
    """A model with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SpokenCommandModel(config)


def layout_of(config: ModelConfig) -> Layout:
    """The canonical layout of a model of these sizes."""
    # On the meta device nothing is allocated and no randomness is drawn.
    with torch.device("meta"):
        model = SpokenCommandModel(config)
    return Layout.of(
        TensorSpec(name, Dtype.FLOAT32, tuple(p.shape)) for name, p in model.named_parameters()
    )


def to_parameters(model: nn.Module) -> ParameterSet:
    """Copy a model's weights out, float32."""
    return ParameterSet.from_arrays(
        {name: p.detach().cpu().numpy().astype(np.float32) for name, p in model.named_parameters()}
    )


def to_weights(parameters: ParameterSet) -> dict[str, Tensor]:
    """Copy canonical parameters into torch tensors without gradients."""
    return {name: torch.tensor(np.asarray(array)) for name, array in parameters.arrays.items()}

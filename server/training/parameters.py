"""Between a torch module and the canonical parameters that travel."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import Dtype, Layout, ParameterSet, TensorSpec

Weights = Mapping[str, Tensor]
"""Tensors by canonical name, as `torch.func.functional_call` takes them."""
Module = TypeVar("Module", bound=nn.Module)


def seeded(build: Callable[[], Module], seed: int) -> Module:
    """Build a module with random weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def layout_of(build: Callable[[], nn.Module]) -> Layout:
    """The canonical layout of what a function builds."""
    # On the meta device nothing is allocated and no randomness is drawn.
    with torch.device("meta"):
        model = build()
    return Layout.of(
        TensorSpec(name, Dtype.FLOAT32, tuple(t.shape)) for name, t in tensors_of(model).items()
    )


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """What a module's answer depends on: parameters, and buffers of floats, such as statistics."""
    kept = model.state_dict(keep_vars=True)
    buffers = {name: b for name, b in model.named_buffers() if name in kept}
    floats = {name: b for name, b in buffers.items() if b.is_floating_point()}
    return dict(model.named_parameters()) | floats


def to_parameters(model: nn.Module) -> ParameterSet:
    """Copy a module's tensors out, float32."""
    return ParameterSet.from_arrays(
        {name: t.detach().cpu().numpy().astype(np.float32) for name, t in tensors_of(model).items()}
    )


def to_weights(parameters: ParameterSet) -> dict[str, Tensor]:
    """Copy canonical parameters into torch tensors without gradients."""
    return {name: torch.tensor(np.asarray(array)) for name, array in parameters.arrays.items()}

"""Between a torch module and the canonical parameters that travel."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from diffcodec import Dtype, Layout, ParameterSet, TensorSpec
from server.training.errors import TrainingRequestError

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
    model = unwrapped(model)
    kept = model.state_dict(keep_vars=True)
    buffers = {name: b for name, b in model.named_buffers() if name in kept}
    floats = {name: b for name, b in buffers.items() if b.is_floating_point()}
    return dict(model.named_parameters()) | floats


def unwrapped(model: nn.Module) -> nn.Module:
    """The module that torch.compile or DistributedDataParallel was given: its names travel."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model.get_submodule("_orig_mod")
        else:
            return model


def to_parameters(model: nn.Module) -> ParameterSet:
    """Copy a module's tensors out, float32."""
    return ParameterSet.from_arrays(
        {name: t.detach().float().cpu().numpy().copy() for name, t in tensors_of(model).items()}
    )


@torch.no_grad()
def load_parameters(model: nn.Module, parameters: ParameterSet) -> None:
    """Put canonical parameters into a module, as `to_parameters` takes them out.

    Tied weights stay tied; what does not travel, such as counters, stays as it is.

    Raises:
        TrainingRequestError: the parameters are those of another module.
    """
    tensors = tensors_of(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = {name: array.shape for name, array in parameters.arrays.items()}
    wrong = sorted(name for name in shapes | found if shapes.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise TrainingRequestError(
            f"tensor {name}: expected shape {shapes.get(name, 'of no such tensor')}, "
            f"found {found.get(name, 'none')} ({len(wrong)} of {len(shapes)} tensors differ)"
        )
    for name, weight in to_weights(parameters).items():
        tensors[name].copy_(weight)


def to_weights(parameters: ParameterSet) -> dict[str, Tensor]:
    """Copy canonical parameters into torch tensors without gradients."""
    return {name: torch.tensor(np.asarray(array)) for name, array in parameters.arrays.items()}


def to_device(state: Any, device: torch.device) -> Any:
    """Tensors, and mappings, tuples and dataclasses of them, on a device."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, tuple):
        return tuple(to_device(part, device) for part in state)
    if isinstance(state, Mapping):
        return {name: to_device(part, device) for name, part in state.items()}
    if dataclasses.is_dataclass(state) and not isinstance(state, type):
        fields = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
        return type(state)(**to_device(fields, device))
    return state

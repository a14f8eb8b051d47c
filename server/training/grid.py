"""Weights on a grid: matrices as int8 levels with one scale a tensor, as a device runs them.

    weight = level * scale      level: int8, -127..127; scale: float32, `NAME.scale`, shape (1,)

There is no zero point: weights lie around zero, and integer kernels are faster without. Vectors
(biases, norms) stay float32: they are few, and what they are added to is float32. Training runs
on float32 modules whose weights are such products (learned.int8).

    device = quantise(weights)              # post-training, the nearest levels
    module.load_state_dict(to_weights(dequantise(device)))
"""

import numpy as np
from numpy.typing import NDArray

from diffcodec import Dtype, Layout, ParameterSet, TensorSpec

LARGEST_LEVEL = 127
"""-128 is left out, so that the grid is as wide on both sides."""
REACH = 2.0
"""How far a grid reaches over its tensor's largest weight. Diffs of later generations move weights
further out; where a grid ended at the largest, they found no room and lost entries. The bit that
it takes from the weights of today costs little (docs/guides/experiments.md)."""
SCALE = ".scale"
"""Ends the name of a tensor's scale."""


def on_grid(layout: Layout) -> Layout:
    """The layout of a float32 model whose matrices lie in int8."""
    specs = []
    for spec in layout.tensors:
        if min(spec.matrix) > 1:
            specs.append(TensorSpec(spec.name, Dtype.INT8, spec.shape))
            specs.append(TensorSpec(spec.name + SCALE, Dtype.FLOAT32, (1,)))
        else:
            specs.append(spec)
    return Layout.of(specs)


def is_on_grid(layout: Layout) -> bool:
    """Whether there is a tensor in int8."""
    return any(spec.dtype is Dtype.INT8 for spec in layout.tensors)


def quantise(weights: ParameterSet) -> ParameterSet:
    """The nearest weights on grids that reach `REACH` times as far as each tensor does.

    Args:
        weights: float32, finite.

    Returns:
        In the layout `on_grid(weights.layout)`.
    """
    arrays: dict[str, NDArray[np.generic]] = dict(weights.arrays)
    for spec in on_grid(weights.layout).tensors:
        if spec.dtype is Dtype.INT8:
            array = weights.arrays[spec.name]
            # A tensor of zeros has any scale.
            farthest = np.abs(array).max() or LARGEST_LEVEL
            scale = np.float32(REACH * farthest / LARGEST_LEVEL)
            levels = np.rint(array / scale).clip(-LARGEST_LEVEL, LARGEST_LEVEL)
            arrays[spec.name] = levels.astype(np.int8)
            arrays[spec.name + SCALE] = np.full(1, scale, np.float32)
    return ParameterSet.from_arrays(arrays)


def scales_of(weights: ParameterSet) -> dict[str, np.float32]:
    """The scale of every tensor in int8, by the tensor's name."""
    return {
        spec.name: weights.arrays[spec.name + SCALE][0]
        for spec in weights.layout.tensors
        if spec.dtype is Dtype.INT8
    }


def dequantise(weights: ParameterSet) -> ParameterSet:
    """What the weights are worth in float32, without the scales; floats as they are.

    The products are those that ONNX's DequantizeLinear makes.
    """
    scales = scales_of(weights)
    arrays = {
        name: array.astype(np.float32) * scales[name] if name in scales else array
        for name, array in weights.arrays.items()
        if name in scales or name.removesuffix(SCALE) not in scales
    }
    return ParameterSet.from_arrays(arrays)

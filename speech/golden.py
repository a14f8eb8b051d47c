"""Inputs that a server and a device compute alike, to compare what a model answers to them.

A golden run in a manifest names its inputs by a few numbers instead of carrying them, and keeps
some values of each output. Integer arithmetic and one exact division: the inputs are the same
bits on every processor. Outputs are not (kernels differ), so they are compared with a tolerance.

    >>> golden_values((2,), seed=1, bound=0)
    array([...], dtype=float32)
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_VALUES = 1 << 20
"""Of one input: what a manifest asks for must not be able to fill the memory."""
MOST_KEPT = 8


def golden_values(
    shape: Sequence[int], seed: int, bound: int
) -> NDArray[np.float32] | NDArray[np.int64]:
    """Pseudo-random values in C order.

    Args:
        shape: Of the result; at most MOST_VALUES values.
        seed: Another one gives other values.
        bound: int64 from 0 to less than this; 0: float32, at least -0.5 and less than 0.5.

    Raises:
        ValueError: too many values.
    """
    count = math.prod(shape)
    if count > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES} values, found {count}")
    words = np.arange(1, count + 1, dtype=np.uint32) * np.uint32(2_654_435_761)
    words = words + np.uint32(seed * 0x9E37_79B9 & 0xFFFF_FFFF)
    words = (words ^ (words >> np.uint32(16))) * np.uint32(0x85EB_CA6B)
    words ^= words >> np.uint32(13)
    if bound:
        return (words % np.uint32(bound)).astype(np.int64).reshape(shape)
    unit = (words >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)
    return (unit - np.float32(0.5)).reshape(shape)


def golden_sample(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most MOST_KEPT values, evenly spaced in C order, the first one included."""
    flat = output.reshape(-1)
    return flat[:: max(1, math.ceil(flat.size / MOST_KEPT))]

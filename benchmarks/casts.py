"""A pair of checkpoints in other dtypes, for lossless diffs: float16, bfloat16, int8.

    python -m benchmarks.casts runs/diffs/digits-lstm     # a folder of benchmarks.own_diffs

writes base.float16.safetensors, tuned.float16.safetensors and so on beside base and tuned.
bfloat16 is rounded to nearest even. int8 lies on the grid of the base, as a device keeps it: a
tensor's step is the base's largest magnitude / 127, and what training moved beyond is clipped.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import CodecError
from diffcodec.parameters import ParameterSet
from diffcodec.weights import read_weights, write_weights

Cast = Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.generic]]


def main(folder: Path) -> None:
    """Cast both, tensor by tensor."""
    base = read_weights(folder / "base.safetensors")
    tuned = read_weights(folder / "tuned.safetensors")
    base.layout.require(tuned.layout, "the base", "the tuned one")
    for dtype, cast in CASTS.items():
        for name, weights in (("base", base), ("tuned", tuned)):
            arrays = {n: cast(array, base.arrays[n]) for n, array in weights.arrays.items()}
            path = folder / f"{name}.{dtype}.safetensors"
            write_weights(path, ParameterSet.from_arrays(arrays))


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper halves of float32 bits, rounded to nearest even; of finite values."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(np.uint16)


def to_int8(values: NDArray[np.float32], base: NDArray[np.float32]) -> NDArray[np.int8]:
    """Whole multiples of the base's step."""
    step = max(float(np.abs(base).max()) / 127, float(np.finfo(np.float32).tiny))
    grid: NDArray[np.float32] = np.clip(np.rint(values / step), -127, 127)
    return grid.astype(np.int8)


CASTS: dict[str, Cast] = {
    "float16": lambda values, base: values.astype(np.float16),
    "bfloat16": lambda values, base: to_bfloat16(values),
    "int8": to_int8,
}

if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m benchmarks.casts DIR", file=sys.stderr)
        raise SystemExit(2)
    try:
        main(Path(sys.argv[1]))
    except (CodecError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None

"""What one machine makes of the golden files and of a few million weights, as JSON of digests.

    python -m tests.arm.digests          on any machine: the outputs must be the same

The weights are pseudo-random bits, denormals and negative zeros included: whatever rounds, fuses
or flushes to zero differently on another machine shows here.
"""

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffcodec import (
    Codebook,
    Diff,
    Dtype,
    HashDiff,
    Layout,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorDiff,
    TensorSpec,
    Uniform,
    apply,
    apply_file,
    decode,
)
from diffcodec.weights import read_weights
from tests.arm.plain_python import decoded_again
from tests.vectors import regenerate

GOLDEN = regenerate.FOLDER
SHAPE = (1000, 1000)


def golden_digests() -> dict[str, str]:
    """Every golden file, applied in memory and from disk to disk, and by the plain decoders."""
    base = read_weights(GOLDEN / "base.safetensors")
    digests = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "base.bin"
        base.write(store)
        for path in sorted(GOLDEN.glob("*.ndiff")):
            decoded = decode(path.read_bytes(), base.layout)
            start = base if decoded.diff.base_digest else None
            digests[f"{path.stem}, in memory"] = apply(start, decoded).digest().hex()
            if path.stem.endswith(".max"):
                again = decoded_again(path.read_bytes(), decoded.diff)
                digests[f"{path.stem}, in plain Python"] = apply(start, again).digest().hex()
            target = Path(scratch) / path.stem
            apply_file(store, base.layout, path, target)
            rebuilt = ParameterSet.read(target, decoded.diff.layout)
            digests[f"{path.stem}, streamed"] = rebuilt.digest().hex()
    return digests


def encoded_digests() -> dict[str, str]:
    """What this machine's encoders write for the golden diffs, by every coder."""
    names = regenerate.golden_files()
    return {name: hashlib.sha256(regenerate.encoded(name)).hexdigest() for name in names}


def all_digests() -> dict[str, dict[str, str]]:
    """Everything, by kind."""
    return {
        "golden": golden_digests(),
        "encoded": encoded_digests(),
        "arithmetic": arithmetic_digests(),
    }


def arithmetic_digests() -> dict[str, str]:
    """Reconstruction of pseudo-random weights by every method that computes, in every dtype."""
    digests = {}
    for dtype in Dtype:
        base = random_weights(dtype)
        digests[f"{dtype}, weights"] = base.digest().hex()
        for name, change in changes(base.layout.tensors[0]):
            diff = Diff.of(base.layout, base.digest(), {"weight": change}, 2**63 + 1)
            digests[f"{dtype}, {name}, applied"] = apply(base, diff).digest().hex()
    return digests


def random_weights(dtype: Dtype) -> ParameterSet:
    """One tensor of SHAPE: any bits that stay finite, or in range, when a diff is added."""
    kind = {1: np.uint8, 2: np.uint16, 4: np.uint32}[dtype.itemsize]
    bits = np.random.default_rng(1).integers(0, 2 ** (8 * dtype.itemsize), SHAPE, dtype=kind)
    if dtype is Dtype.INT8:
        bits = bits % 120 + 196  # -60 .. 59, wrapped around
    else:
        mantissa_bits = {Dtype.FLOAT32: 23, Dtype.FLOAT16: 10, Dtype.BFLOAT16: 7}[dtype]
        # No infinities, nor anything near: the highest bit of the exponent stays clear ...
        bits &= kind((1 << (8 * dtype.itemsize)) - 1 - (1 << (8 * dtype.itemsize - 2)))
        # ... and a quarter are denormals or zeros.
        bits[::4] &= kind((1 << mantissa_bits) - 1 | 1 << (8 * dtype.itemsize - 1))
    spec = TensorSpec("weight", dtype, SHAPE)
    return ParameterSet(Layout.of([spec]), {"weight": bits.view(dtype.storage)})


def changes(spec: TensorSpec) -> Iterator[tuple[str, TensorDiff]]:
    """Diffs whose steps are ordinary, tiny and denormal."""
    rng = np.random.default_rng(2)
    positions = np.flatnonzero(rng.integers(0, 3, spec.size) == 0)
    signs = 2 * rng.integers(0, 2, positions.size, dtype=np.int8) - 1
    levels = rng.integers(1, 8, positions.size, dtype=np.int8) * signs
    if spec.dtype is Dtype.INT8:
        yield "sparse", SparseDiff(positions, levels, Uniform(9.0))
        yield (
            "codebook",
            SparseDiff(positions, levels, Codebook((1.0, 2.0, 4.0, 9.0, 30.0, 60.0, 68.0))),
        )
        return
    array = rng.integers(-127, 128, spec.size // 50, dtype=np.int8)
    rows, columns = (rng.integers(-127, 128, (d, 4), dtype=np.int8) for d in spec.matrix)
    for step in map(float, np.float32([0.0123, 3e-8, 3e-40, 1e-45])):
        magnitudes = tuple(float(np.float32(step) * np.float32(k)) for k in range(1, 8))
        yield f"sparse {step:.2}", SparseDiff(positions, levels, Uniform(step))
        yield f"codebook {step:.2}", SparseDiff(positions, levels, Codebook(magnitudes))
        yield f"hash 3 {step:.2}", HashDiff(array, step, 3)
        yield f"low rank {step:.2}", LowRankDiff(rows, columns, step)
    yield "hash 4", HashDiff(array, float(np.float32(0.003)), 4)


def main() -> None:
    """Print the digests."""
    json.dump(all_digests(), sys.stdout)


if __name__ == "__main__":
    main()

"""Write the golden diff files: what every decoder must read, today and after every change.

    python -m tests.vectors.regenerate            write tests/vectors/diffs
    python -m tests.vectors.regenerate --check    exit 1 when a committed file differs

A file that differs is a change of the format: think twice, and say so in the changelog. Values
come from integer arithmetic alone, so they are the same on every machine and with every numpy;
compressed bytes also depend on the release of zstd, which the manifest names.
"""

import json
import sys
from pathlib import Path

import numpy as np
import zstandard

from diffcodec import (
    Diff,
    Dtype,
    HashDiff,
    Layout,
    LosslessDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
    Uniform,
    apply,
    encode,
    lossless_diff,
)
from diffcodec.weights import write_weights

FOLDER = Path(__file__).parent / "diffs"
SPECS = [
    TensorSpec("decoder.bias", Dtype.FLOAT32, (7,)),
    TensorSpec("decoder.scale", Dtype.FLOAT32, ()),
    TensorSpec("decoder.weight", Dtype.FLOAT32, (40, 25)),
    TensorSpec("empty", Dtype.FLOAT32, (0, 4)),
    TensorSpec("encoder.half", Dtype.FLOAT16, (4, 3)),
    TensorSpec("encoder.int8", Dtype.INT8, (11,)),
    TensorSpec("encoder.short", Dtype.BFLOAT16, (3, 5)),
    TensorSpec("wörter.weight", Dtype.FLOAT32, (30, 20)),
]


def pseudo_random(name: str, size: int) -> np.ndarray:
    """uint32 values that only integer arithmetic makes: Knuth's multiplicative hash."""
    seed = sum(name.encode())
    return np.array([(i + seed) * 2654435761 % 2**32 for i in range(1, size + 1)], np.uint32)


def base() -> ParameterSet:
    """Weights in (-1, 1), exact in every dtype."""
    arrays = {}
    for spec in SPECS:
        small = (pseudo_random(spec.name, spec.size) >> 25).astype(np.int64) - 64
        if spec.dtype is Dtype.INT8:
            values = small.astype(np.int8)
        elif spec.dtype is Dtype.BFLOAT16:
            values = ((small / 64).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        else:
            values = (small / 64).astype(spec.dtype.storage)
        arrays[spec.name] = values.reshape(spec.shape)
    return ParameterSet(Layout.of(SPECS), arrays)


def sparse(size: int, every: int, largest: int, step: float) -> SparseDiff:
    """An entry in about `every` elements, levels up to `largest`."""
    numbers = pseudo_random("sparse", size)
    positions = np.flatnonzero(numbers % every == 0)
    magnitudes = (numbers[positions] >> 8) % largest + 1
    signs = np.where(numbers[positions] >> 31, -1, 1)
    return SparseDiff(positions, (magnitudes * signs).astype(np.int8), Uniform(step))


def hashed(m: int, largest: int, step: float, hashes: int) -> HashDiff:
    """An array of m levels, zeros among them."""
    levels = (pseudo_random("hash", m) >> 8) % (2 * largest + 1)
    return HashDiff((levels.astype(np.int64) - largest).astype(np.int8), step, hashes)


def lossless(spec: TensorSpec) -> LosslessDiff:
    """XOR bytes, most of them zero."""
    numbers = pseudo_random("lossless", spec.nbytes)
    return LosslessDiff(np.where(numbers % 3 == 0, numbers >> 24, 0).astype(np.uint8))


def golden_files() -> dict[str, tuple[ParameterSet | None, Diff]]:
    """Every method, number of bits a level and dtype at least once."""
    start = base()
    by_name = start.layout.index
    digest = start.digest()

    def diff(tensors: dict, seed: int = 0) -> tuple[ParameterSet, Diff]:
        return start, Diff.of(start.layout, digest, tensors, seed)

    matrix, words = "decoder.weight", "wörter.weight"
    return {
        "unchanged": diff({}),
        "sparse-1-level": diff({matrix: sparse(1000, 10, 1, 0.125)}),
        "sparse-2-levels": diff(
            {matrix: sparse(1000, 7, 2, 0.1875), words: sparse(600, 400, 2, 0.5)}
        ),
        "sparse-8-levels": diff({words: sparse(600, 5, 8, 0.03125)}),
        "sparse-127-levels": diff({matrix: sparse(1000, 3, 127, 2.0**-10)}),
        "hash-1": diff({matrix: hashed(40, 1, 0.25, 1)}, seed=1),
        "hash-3": diff(
            {matrix: hashed(50, 7, 0.0625, 3), words: hashed(9, 3, 0.125, 3)}, 2**64 - 1
        ),
        "hash-4-wide": diff({words: hashed(60, 127, 2.0**-9, 4)}, seed=7),
        "lossless": diff({s.name: lossless(s) for s in SPECS if s.size}),
        "mixed": diff(
            {
                "decoder.bias": sparse(7, 2, 3, 0.5),
                matrix: hashed(30, 5, 0.125, 2),
                "encoder.half": lossless(by_name["encoder.half"]),
                "encoder.short": lossless(by_name["encoder.short"]),
                words: sparse(600, 9, 3, 0.25),
            },
            seed=12345,
        ),
        "snapshot": (None, lossless_diff(None, start)),
        "snapshot-sparse": (
            None,
            Diff.of(start.layout, None, {words: sparse(600, 9, 2, 0.25)}),
        ),
    }


def regenerate(folder: Path) -> None:
    """Write the base, every golden file and the manifest."""
    folder.mkdir(exist_ok=True)
    write_weights(folder / "base.safetensors", base())
    files = {}
    for name, (start, diff) in golden_files().items():
        (folder / f"{name}.ndiff").write_bytes(encode(diff, start))
        files[name] = apply(start, diff).digest().hex()
    manifest = {
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        "base_digest": base().digest().hex(),
        "target_digests": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main() -> int:
    if "--check" not in sys.argv[1:]:
        regenerate(FOLDER)
        return 0
    stale = [
        name
        for name, (start, diff) in golden_files().items()
        if (FOLDER / f"{name}.ndiff").read_bytes() != encode(diff, start)
    ]
    for name in stale:
        print(f"tests/vectors/diffs/{name}.ndiff is not what this code writes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

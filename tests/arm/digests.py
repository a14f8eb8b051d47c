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
    Diff,
    HashDiff,
    ParameterSet,
    SparseDiff,
    apply,
    apply_file,
    decode,
    encode,
)
from diffcodec.weights import read_weights

GOLDEN = Path(__file__).parents[1] / "vectors" / "diffs"
WEIGHTS = 3_000_000


def golden_digests() -> dict[str, str]:
    """Every golden file, applied in memory and from disk to disk."""
    base = read_weights(GOLDEN / "base.safetensors")
    digests = {}
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch) / "base.bin"
        base.write(store)
        for path in sorted(GOLDEN.glob("*.ndiff")):
            decoded = decode(path.read_bytes(), base.layout)
            start = base if decoded.diff.base_digest else None
            digests[f"{path.stem}, in memory"] = apply(start, decoded).digest().hex()
            target = Path(scratch) / path.stem
            apply_file(store, base.layout, path, target)
            rebuilt = ParameterSet.read(target, decoded.diff.layout)
            digests[f"{path.stem}, streamed"] = rebuilt.digest().hex()
    return digests


def arithmetic_digests() -> dict[str, str]:
    """Reconstruction of pseudo-random weights by every method that computes."""
    base = ParameterSet.from_arrays({"weight": random_weights()})
    digests = {"weights": base.digest().hex()}
    for name, change in changes():
        diff = Diff(base.layout, base.digest(), {"weight": change}, hash_seed=2**63 + 1)
        digests[f"{name}, applied"] = apply(base, diff).digest().hex()
        digests[f"{name}, encoded"] = hashlib.sha256(encode(diff, base)).hexdigest()
    return digests


def random_weights() -> np.ndarray:
    """float32, shape (WEIGHTS,): any bits that stay finite when a diff is added."""
    bits = np.random.default_rng(1).integers(0, 2**32, WEIGHTS, dtype=np.uint32)
    exponents = (bits >> 23) & 0xFF
    bits[exponents >= 0xF0] &= np.uint32(~(1 << 30) & 0xFFFFFFFF)
    bits[::4] &= np.uint32(0x807FFFFF)  # a denormal or a zero
    return bits.view(np.float32)


def changes() -> Iterator[tuple[str, SparseDiff | HashDiff]]:
    """Diffs whose steps are ordinary, tiny and denormal."""
    rng = np.random.default_rng(2)
    positions = np.flatnonzero(rng.integers(0, 3, WEIGHTS) == 0)
    levels = rng.integers(1, 128, positions.size) * (2 * rng.integers(0, 2, positions.size) - 1)
    array = rng.integers(-127, 128, WEIGHTS // 50).astype(np.int8)
    for step in (np.float32(0.0123), np.float32(3e-40), np.float32(1e-45)):
        yield f"sparse {step}", SparseDiff(positions, levels.astype(np.int8), float(step))
        yield f"hash 3 {step}", HashDiff(array, float(step), 3)
    yield "hash 4 0.3", HashDiff(array, float(np.float32(0.3)), 4)


def main() -> None:
    """Print the digests."""
    json.dump({"golden": golden_digests(), "arithmetic": arithmetic_digests()}, sys.stdout)


if __name__ == "__main__":
    main()

"""Write the golden diff files: what every decoder must read, today and after every change.

    python -m tests.vectors.regenerate            write tests/vectors/diffs
    python -m tests.vectors.regenerate --check    exit 1 when a committed file differs

A file that differs is a change of the format: think twice, and say so in the changelog. Values
come from integer arithmetic alone, so they are the same on every machine and with every numpy;
compressed bytes also depend on the release of zstd, which the manifest names.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import zstandard

from diffcodec import (
    Codebook,
    Coder,
    Diff,
    Dtype,
    HashDiff,
    Layer,
    Layout,
    LosslessDiff,
    LowRankDiff,
    ParameterSet,
    SparseDiff,
    TensorSpec,
    Uniform,
    apply,
    encode,
    lossless_diff,
)
from diffcodec.coders import fast, layers
from diffcodec.weights import write_weights

FOLDER = Path(__file__).parent / "diffs"
ENTRY_FORMS = {"gaps": fast.encode_gap_bytes, "rows": fast.encode_rows}
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


def sparse(size: int, every: int, largest: int, scale: float | tuple[float, ...]) -> SparseDiff:
    """An entry in about `every` elements, levels up to `largest`; a step, or magnitudes."""
    numbers = pseudo_random("sparse", size)
    positions = np.flatnonzero(numbers % every == 0)
    magnitudes = (numbers[positions] >> 8) % largest + 1
    signs = np.where(numbers[positions] >> 31, -1, 1)
    levels = (magnitudes * signs).astype(np.int8)
    if isinstance(scale, tuple):
        return SparseDiff(positions, levels, Codebook(tuple(map(rounded, scale))))
    return SparseDiff(positions, levels, Uniform(rounded(scale)))


def rounded(number: float) -> float:
    """The nearest float32."""
    return float(np.float32(number))


def clustered(rows: int, columns: int, largest: int, step: float) -> SparseDiff:
    """Entries that crowd in a few rows and columns, and signs that follow them."""
    row, column = (np.arange(n) for n in (rows, columns))
    crowd = (pseudo_random("rows", rows)[:, None] >> 26) * (pseudo_random("c", columns) >> 26)
    chance = pseudo_random("clustered", rows * columns).reshape(rows, columns) >> 20
    places = np.flatnonzero(chance < crowd)
    magnitudes = pseudo_random("levels", places.size) % largest + 1
    signs = np.where((row[places // columns] + column[places % columns]) % 3, 1, -1)
    return SparseDiff(places, (magnitudes * signs).astype(np.int8), Uniform(step))


def hashed(m: int, largest: int, step: float, hashes: int) -> HashDiff:
    """An array of m levels, zeros among them."""
    return HashDiff(levels("hash", m, largest), step, hashes)


def low_rank(rows: int, columns: int, rank: int, largest: int, step: float) -> LowRankDiff:
    """Factors with zeros among their levels."""
    left = levels("left", rows * rank, largest).reshape(rows, rank)
    return LowRankDiff(
        left, levels("right", columns * rank, largest).reshape(columns, rank), rounded(step)
    )


def levels(name: str, size: int, largest: int) -> np.ndarray:
    """int8 levels, zeros among them."""
    numbers = (pseudo_random(name, size) >> 8) % (2 * largest + 1)
    return (numbers.astype(np.int64) - largest).astype(np.int8)


def lossless(spec: TensorSpec) -> LosslessDiff:
    """XOR bytes, most of them zero."""
    numbers = pseudo_random("lossless", spec.nbytes)
    return LosslessDiff(np.where(numbers % 3 == 0, numbers >> 24, 0).astype(np.uint8))


def golden_diffs() -> dict[str, tuple[ParameterSet | None, Diff]]:
    """Every method, scale, number of bits a level, dtype and change of structure, at least once."""
    start = base()
    by_name = start.layout.index
    digest = start.digest()

    def diff(tensors: dict, seed: int = 0) -> tuple[ParameterSet, Diff]:
        return start, Diff.of(start.layout, digest, tensors, seed)

    matrix, words = "decoder.weight", "wörter.weight"
    half, int8, short = "encoder.half", "encoder.int8", "encoder.short"
    mixed = Layer(
        {
            "decoder.bias": sparse(7, 2, 3, 0.5),
            matrix: hashed(30, 5, 0.125, 2),
            half: lossless(by_name[half]),
            short: lossless(by_name[short]),
            words: sparse(600, 9, 3, 0.25),
        },
        hash_seed=12345,
    )
    later = Layer({matrix: sparse(1000, 20, 2, 0.25), half: sparse(12, 3, 1, 0.5)}, hash_seed=6)
    return {
        "unchanged": diff({}),
        "sparse-1-level": diff({matrix: sparse(1000, 10, 1, 0.125)}),
        "sparse-2-levels": diff(
            {matrix: sparse(1000, 7, 2, 0.1875), words: sparse(600, 400, 2, 0.5)}
        ),
        "sparse-8-levels": diff({words: sparse(600, 5, 8, 0.03125)}),
        "sparse-127-levels": diff({matrix: sparse(1000, 3, 127, 2.0**-10)}),
        "sparse-codebook": diff(
            {
                matrix: sparse(1000, 7, 3, (0.1, 0.25, 1.5)),
                words: sparse(600, 9, 1, (0.3,)),
            }
        ),
        "sparse-clustered": diff({matrix: clustered(40, 25, 4, 0.125)}),
        "sparse-dense": diff({words: sparse(600, 1, 2, 0.25)}),
        "sparse-dtypes": diff(
            {
                half: sparse(12, 2, 2, 0.3),
                int8: sparse(11, 2, 3, 2.0),
                short: sparse(15, 2, 2, (0.01, 0.7)),
            }
        ),
        "hash-1": diff({matrix: hashed(40, 1, 0.25, 1)}, seed=1),
        "hash-3": diff(
            {matrix: hashed(50, 7, 0.0625, 3), words: hashed(9, 3, 0.125, 3)}, 2**64 - 1
        ),
        "hash-4-wide": diff({words: hashed(60, 127, 2.0**-9, 4)}, seed=7),
        "hash-dtypes": diff({half: hashed(5, 3, 0.125, 2), short: hashed(6, 2, 0.25, 3)}, 8),
        "lowrank": diff(
            {matrix: low_rank(40, 25, 2, 7, 2.0**-6), words: low_rank(30, 20, 1, 127, 2.0**-14)}
        ),
        "lowrank-dtypes": diff(
            {half: low_rank(4, 3, 2, 3, 0.01), short: low_rank(3, 5, 1, 2, 0.1)}
        ),
        "lossless": diff({s.name: lossless(s) for s in SPECS if s.size}),
        "mixed": (start, Diff(start.layout, digest, (mixed,))),
        "layers": (start, Diff(start.layout, digest, (mixed, later, later))),
        "grown": (start, grown(start, digest)),
        "graph": (start, Diff(start.layout, digest, (later,), graph=b"a graph" * 20)),
        "snapshot": (None, lossless_diff(None, start)),
        "snapshot-sparse": (
            None,
            Diff.of(start.layout, None, {words: sparse(600, 9, 2, 0.25)}),
        ),
    }


def grown(start: ParameterSet, digest: bytes) -> Diff:
    """Tensors added, removed and grown along either axis, with changes in them."""
    specs = [
        TensorSpec("added", Dtype.FLOAT32, (5, 4)),
        TensorSpec("decoder.bias", Dtype.FLOAT32, (9,)),
        TensorSpec("decoder.scale", Dtype.FLOAT32, ()),
        TensorSpec("decoder.weight", Dtype.FLOAT32, (40, 27)),
        TensorSpec("encoder.half", Dtype.FLOAT16, (5, 4)),
        TensorSpec("encoder.int8", Dtype.FLOAT32, (11,)),
    ]
    changes = {
        "added": sparse(20, 2, 2, 0.5),
        "decoder.weight": sparse(1080, 11, 3, 0.25),
        "encoder.half": lossless(specs[4]),
    }
    return Diff(Layout.of(specs), digest, (Layer(changes),), base_layout=start.layout)


def golden_files() -> dict[str, tuple[ParameterSet | None, Diff, Coder]]:
    """Every golden diff by every coder; where nothing is coded by `max`, once."""
    files: dict[str, tuple[ParameterSet | None, Diff, Coder]] = {}
    for name, (start, diff) in golden_diffs().items():
        files[name] = (start, diff, Coder.FAST)
        if any(layer.tensors for layer in diff.layers):
            files[f"{name}.max"] = (start, diff, Coder.MAX)
    for name in ("sparse-1-level", "sparse-127-levels", "sparse-clustered", "sparse-dense"):
        for form in ENTRY_FORMS:
            files[f"{name}.{form}"] = files[name]
    return files


def encoded(name: str) -> bytes:
    """The bytes of a golden file.

    Entries of coder `fast` have two forms, of which an encoder takes the smaller; files named
    after a form hold that one.
    """
    start, diff, coder = golden_files()[name]
    form = ENTRY_FORMS.get(name.rpartition(".")[2])
    if form is None:
        return encode(diff, start, {coder})
    with only_form(form):
        return encode(diff, start, {coder})


@contextmanager
def only_form(form: layers.Form) -> Iterator[None]:
    """Leave the encoder a single form of entries."""
    forms = layers.ENTRIES_FORMS
    layers.ENTRIES_FORMS = ((Coder.FAST, form),)
    try:
        yield
    finally:
        layers.ENTRIES_FORMS = forms


def regenerate(folder: Path) -> None:
    """Write the base, every golden file and the manifest."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.ndiff"):
        old.unlink()
    write_weights(folder / "base.safetensors", base())
    digests = {}
    for name, (start, diff, _) in golden_files().items():
        (folder / f"{name}.ndiff").write_bytes(encoded(name))
        digests[name] = apply(start, diff).digest().hex()
    manifest = {
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
        "base_digest": base().digest().hex(),
        "target_digests": digests,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def main() -> int:
    if "--check" not in sys.argv[1:]:
        regenerate(FOLDER)
        return 0
    stale = [
        name for name in golden_files() if (FOLDER / f"{name}.ndiff").read_bytes() != encoded(name)
    ]
    for name in stale:
        print(f"tests/vectors/diffs/{name}.ndiff is not what this code writes", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())

"""What `benchmarks.recogniser` does to a recogniser before it is published, a process a stage.

    python -m benchmarks.recogniser_stages STAGE FOLDER CONFIG SEED

A stage reads and writes files of the folder and prints a Sample as JSON: seconds and peak memory
of its work alone, after what it needs was read.

    build              weights.safetensors, model.onnx, card.json    random weights
    make-up-sparse     sparse.ndiff         a diff on them, entries where a trained one has them
    make-up-hash       hash.ndiff           a diff on what the sparse one leads to
    encode-KIND-CODER  KIND-CODER.ndiff     the diff of KIND.ndiff, encoded anew

Making up is no stage of the product; it is not reported.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from diffcodec import Coder, Diff, Layout, ParameterSet, apply, decode, encode, sparse_diff
from diffcodec.bench.nncodec_worker import memory_bytes, reset_peak
from diffcodec.bench.results import Sample
from diffcodec.bench.rnnt import draw_delta, draw_densities
from diffcodec.bench.timing import timed
from diffcodec.changes import MAX_LEVEL
from diffcodec.fitting.hash_fit import array_lengths, quantise_arrays
from diffcodec.weights import read_weights, write_weights
from server.training.learned.hashed import FINE
from server.training.parameters import seeded, to_parameters
from server.training.rnnt.graph import build_graph
from server.training.rnnt.model import CONFIGS, RnntModel
from speech.card import Piece, TransducerCard

WEIGHTS, GRAPH, CARD = "weights.safetensors", "model.onnx", "card.json"
SHARE = 0.1
"""Values that a diff may choose freely, over parameters: the paper's 10x."""
HASHES = 3
ARRAY_SD = 0.05
"""Of made-up arrays: how far, relative to itself, a weight moves by each of them."""

T = TypeVar("T")


def main(stage: str, folder: Path, config: str, seed: int) -> None:
    """Do one stage, and say what it took."""
    work, *about = stage.split("-")
    if work == "build":
        sample = build(folder, config, seed)
    elif stage == "make-up-sparse":
        sample = make_up_sparse(folder, seed)
    elif stage == "make-up-hash":
        sample = make_up_hash(folder, seed)
    else:
        kind, coder = about
        sample = encode_again(folder, kind, Coder(coder))
    print(json.dumps(asdict(sample)))


def build(folder: Path, config: str, seed: int) -> Sample:
    """Make the model with random weights and export it: graph, card and weights."""
    sizes = CONFIGS[config]

    def export() -> None:
        weights = to_parameters(seeded(partial(RnntModel, sizes), seed))
        pieces = tuple(Piece(f"\u2581{k}", -float(k)) for k in range(1, sizes.vocabulary))
        layers = sizes.encoder_layers, sizes.prediction_layers
        (folder / CARD).write_text(TransducerCard(pieces, *layers, sizes.hidden).to_json())
        (folder / GRAPH).write_bytes(build_graph(sizes, weights.layout))
        write_weights(folder / WEIGHTS, weights)

    return measured(export, lambda _: (folder / WEIGHTS).stat().st_size)


def make_up_sparse(folder: Path, seed: int) -> Sample:
    """A tenth of the entries, where a trained diff has them (diffcodec.bench.rnnt)."""
    base, rng = read_weights(folder / WEIGHTS), np.random.default_rng([seed, 1])
    shapes = {spec.name: spec.shape for spec in base.layout.tensors}

    def make_up() -> bytes:
        deltas = {
            name: draw_delta(shapes[name], share, rng)
            for name, share in draw_densities(shapes, SHARE, rng).items()
        }
        return encode(sparse_diff(base, deltas, MAX_LEVEL), base)

    return measured(make_up, lambda data: (folder / "sparse.ndiff").write_bytes(data))


def make_up_hash(folder: Path, seed: int) -> Sample:
    """Arrays of a tenth of each tensor, normal, as finely stated as the paper's recipe does."""
    base = base_of("hash", folder)
    rng = np.random.default_rng([seed, 2])

    def make_up() -> bytes:
        arrays = {
            name: np.float32(ARRAY_SD) * rng.standard_normal(length, np.float32)
            for name, length in array_lengths(base.layout, SHARE).items()
        }
        return encode(quantise_arrays(base, arrays, HASHES, seed, FINE), base)

    return measured(make_up, lambda data: (folder / "hash.ndiff").write_bytes(data))


def encode_again(folder: Path, kind: str, coder: Coder) -> Sample:
    """Encode a diff: it is applied, both digests are taken, its numbers are coded."""
    base = base_of(kind, folder)
    diff = diff_of(kind, folder, base.layout)
    # Digests are kept once they are known: a base that was never asked takes the full time.
    fresh = ParameterSet.from_arrays(base.arrays)
    file = folder / f"{kind}-{coder}.ndiff"
    return measured(lambda: encode(diff, fresh, (coder,)), file.write_bytes)


def base_of(kind: str, folder: Path) -> ParameterSet:
    """What the sparse diff, or the hash diff after it, is made on."""
    first = read_weights(folder / WEIGHTS)
    return first if kind == "sparse" else apply(first, diff_of("sparse", folder, first.layout))


def diff_of(kind: str, folder: Path, layout: Layout) -> Diff:
    """The diff that was made up."""
    return decode((folder / f"{kind}.ndiff").read_bytes(), layout).diff


def measured(work: Callable[[], T], size_of: Callable[[T], int]) -> Sample:
    """What a piece of work takes; its peak holds what is in memory already."""
    reset_peak()
    start_bytes = memory_bytes("VmRSS")
    value, seconds = timed(work)
    peak_bytes = memory_bytes("VmHWM")
    return Sample(seconds, size_of(value), peak_bytes or None, start_bytes or None)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))

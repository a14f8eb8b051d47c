"""Diffs decoded once more where coder `max` wrote them: by its plain Python reference."""

from collections.abc import Iterator, Sequence

import numpy as np

from diffcodec import (
    Coder,
    Diff,
    HashDiff,
    Layer,
    LayerHeader,
    Layout,
    LosslessDiff,
    LowRankDiff,
    SectionKind,
    SparseDiff,
    TensorDiff,
    TensorRecord,
    TensorSpec,
    read_header,
)
from diffcodec.coders.max.reference import decode_bytes, decode_symbols
from diffcodec.coders.max.reference_sparse import decode_sparse
from diffcodec.file import CHECKSUM_BYTES

Change = tuple[TensorSpec, TensorRecord, TensorDiff]


def decoded_again(data: bytes, diff: Diff) -> Diff:
    """A file's diff with all that `max` coded taken from the reference.

    Args:
        data: The file.
        diff: What the C extension makes of it; gives the frame around the coded levels.
    """
    header = read_header(data)
    at = len(data) - CHECKSUM_BYTES - sum(section.coded_length for section in header.sections)
    layers = []
    for part, layer in zip(header.layers, diff.layers, strict=True):
        tensors = dict(layer.tensors)
        changes = list(_changes(part, layer, diff.layout))
        for section in part.sections:
            if section.coder is Coder.MAX:
                coded = data[at : at + section.coded_length]
                tensors |= _DECODERS[section.kind](coded, changes)
            at += section.coded_length
        layers.append(Layer(tensors, layer.hash_seed))
    return Diff(diff.layout, diff.base_digest, tuple(layers), diff.base_layout, diff.graph)


def _changes(part: LayerHeader, layer: Layer, layout: Layout) -> Iterator[Change]:
    for spec, record in zip(layout.tensors, part.records, strict=True):
        if spec.name in layer.tensors:
            yield spec, record, layer.tensors[spec.name]


def _entries(coded: bytes, changes: Sequence[Change]) -> dict[str, TensorDiff]:
    sparse = [(s, r, c) for s, r, c in changes if isinstance(c, SparseDiff)]
    dense = decode_sparse(coded, [(s.shape, r.count, r.largest) for s, r, _ in sparse])
    result = {}
    for (spec, _, change), levels in zip(sparse, dense, strict=True):
        found = np.array(levels, np.int8)
        positions = np.flatnonzero(found)
        result[spec.name] = SparseDiff(positions, found[positions], change.scale)
    return result


def _arrays(coded: bytes, changes: Sequence[Change]) -> dict[str, TensorDiff]:
    wanted = []
    for spec, record, change in changes:
        if isinstance(change, HashDiff):
            wanted.append((record.count, record.largest, 0))
        elif isinstance(change, LowRankDiff):
            rank = record.count
            wanted += [(size * rank, record.largest, rank) for size in spec.matrix]
    arrays = (np.array(levels, np.int8) for levels in decode_symbols(coded, wanted))
    result: dict[str, TensorDiff] = {}
    for spec, record, change in changes:
        if isinstance(change, HashDiff):
            result[spec.name] = HashDiff(next(arrays), change.step, change.hashes)
        elif isinstance(change, LowRankDiff):
            rows, columns = (next(arrays).reshape(-1, record.count) for _ in range(2))
            result[spec.name] = LowRankDiff(rows, columns, change.step)
    return result


def _bytes(coded: bytes, changes: Sequence[Change]) -> dict[str, TensorDiff]:
    specs = [spec for spec, _, change in changes if isinstance(change, LosslessDiff)]
    widths = [spec.matrix[1] if len(spec.shape) > 1 else 0 for spec in specs]
    wanted = [(s.nbytes, s.dtype.itemsize, w) for s, w in zip(specs, widths, strict=True)]
    xors = decode_bytes(coded, wanted)
    return {
        spec.name: LosslessDiff(np.frombuffer(xor, np.uint8))
        for spec, xor in zip(specs, xors, strict=True)
    }


_DECODERS = {
    SectionKind.ENTRIES: _entries,
    SectionKind.ARRAYS: _arrays,
    SectionKind.BYTES: _bytes,
}

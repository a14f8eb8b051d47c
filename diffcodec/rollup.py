"""Rolling a chain of diffs up into one file.

A device that missed generations would fetch and apply every diff of the chain. One file does the
same with fewer bytes: the chain's layers one after the other (which saves headers and passes over
the store), or, where that is smaller, a lossless diff between both ends. Laws:

    the digest of a roll-up is the chain's
    a roll-up is smaller than the chain, or there is none
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np

from diffcodec.changes import HashDiff, LosslessDiff, LowRankDiff, SparseDiff, TensorDiff
from diffcodec.diff import MAX_LAYERS, DecodedDiff, Diff, Layer, apply
from diffcodec.errors import CodecError, DigestError, InputError
from diffcodec.file import decode, pack
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.header import Coder
from diffcodec.parameters import Layout, ParameterSet, TensorSpec


def roll_up(
    base: ParameterSet | None,
    files: Sequence[bytes],
    coders: Collection[Coder] = (Coder.FAST,),
) -> bytes | None:
    """One file that leads where a chain of files leads; None where no smaller one does.

    Args:
        base: What the first file was made for; None where that is a snapshot.
        files: In the order of application, at least one.
        coders: What the target can decode.

    Raises:
        InputError: there are no files, or one does not continue the one before.
        CodecError: a file is not sound, or was made for other weights.
    """
    links, end = _walk(base, files)
    start = None if links[0].diff.base_digest is None else base
    found = []
    for way in (partial(_exact, links, start, end), partial(_layered, links)):
        # A tensor that went away and came back starts as zeros in the chain, but not in one
        # file: that may shrink it, lead elsewhere, or out of what it can hold. And the header of
        # many layers may be longer than a file's.
        with suppress(InputError, DigestError):
            diff = way()
            if diff is not None and apply(start, diff) == end:
                found.append(pack(diff, end.digest(), coders))
    smallest = min(found, key=len, default=None)
    return smallest if smallest and len(smallest) < sum(map(len, files)) else None


def _walk(
    base: ParameterSet | None, files: Sequence[bytes]
) -> tuple[list[DecodedDiff], ParameterSet]:
    """The decoded chain from its last snapshot on, and where it ends."""
    links: list[DecodedDiff] = []
    reached = base
    for number, data in enumerate(files, 1):
        try:
            link = decode(data, reached.layout if reached else None)
        except CodecError as exc:
            raise type(exc)(f"diff {number} of the chain: {exc}") from exc
        if links and link.diff.base_digest not in (None, links[-1].target_digest):
            raise InputError(
                f"expected diff {number} of the chain to start from {links[-1].target_digest.hex()}"
                f", found one from {(link.diff.base_digest or b'').hex()}"
            )
        reached = apply(reached, link)
        links = [link] if link.diff.base_digest is None else [*links, link]
    if reached is None or not links:
        raise InputError("expected a chain of at least one diff, found none")
    return links, reached


def _graph(links: Sequence[DecodedDiff]) -> bytes | None:
    graphs = [link.diff.graph for link in links if link.diff.graph is not None]
    return graphs[-1] if graphs else None


def _exact(links: Sequence[DecodedDiff], start: ParameterSet | None, end: ParameterSet) -> Diff:
    """What differs between both ends, whatever lies between them."""
    return replace(lossless_diff(start, end), graph=_graph(links))


def _layered(links: Sequence[DecodedDiff]) -> Diff | None:
    """All layers of a chain in one diff; None where one file cannot say the same."""
    first, last = links[0].diff, links[-1].diff
    layers: list[Layer] = []
    for at, link in enumerate(links):
        later = [after.diff.layout for after in links[at + 1 :]]
        for layer in link.diff.layers:
            moved = _moved(layer, link.diff.layout, later)
            if moved is None:
                return None
            layers = _joined(layers, moved)
    if len(layers) > MAX_LAYERS:
        return None
    base_layout = None if first.base_digest is None else first.starts_from
    return Diff(last.layout, first.base_digest, tuple(layers), base_layout, _graph(links))


def _corner(before: TensorSpec, after: TensorSpec) -> bool:
    return before.dtype is after.dtype and len(before.shape) == len(after.shape)


def _moved(layer: Layer, layout: Layout, later: Sequence[Layout]) -> Layer | None:
    """A layer as it must be to work on the chain's last layout; None: it cannot."""
    tensors = {}
    for name, change in layer.tensors.items():
        spec = layout.index[name]
        for after in later:
            target = after.index.get(name)
            if target is None or not _corner(spec, target):
                break  # what it changes goes away
            if target.shape != spec.shape:
                moved = _grown(change, spec, target)
                if moved is None:
                    return None
                change, spec = moved, target
        else:
            tensors[name] = change
    return Layer(tensors, layer.hash_seed)


def _grown(change: TensorDiff, before: TensorSpec, after: TensorSpec) -> TensorDiff | None:
    """A change of a tensor as a change of the tensor that it grows into; None: there is none."""
    if isinstance(change, SparseDiff):
        coordinates = np.unravel_index(change.positions, before.shape)
        positions = np.ravel_multi_index(coordinates, after.shape).astype(np.int64)
        return SparseDiff(positions, change.levels, change.scale)
    if isinstance(change, LosslessDiff):
        xor = np.zeros((*after.shape, after.dtype.itemsize), np.uint8)
        corner = tuple(slice(d) for d in before.shape)
        xor[corner] = change.xor.reshape(*before.shape, before.dtype.itemsize)
        return LosslessDiff(xor.reshape(-1))
    if isinstance(change, LowRankDiff) and _is_corner_of_matrix(before, after):
        more_rows, more_columns = (a - b for a, b in zip(after.matrix, before.matrix, strict=True))
        rows = np.pad(change.rows, ((0, more_rows), (0, 0)))
        return LowRankDiff(rows, np.pad(change.columns, ((0, more_columns), (0, 0))), change.step)
    return None


def _is_corner_of_matrix(before: TensorSpec, after: TensorSpec) -> bool:
    """Whether a tensor seen as a matrix is a corner of the one that it grows into."""
    if len(before.shape) <= 2:
        return True
    # Growing may move the split between rows and columns; what is left of it tells.
    return before.shape[1:] == after.shape[1:] and before.matrix[1] == after.matrix[1]


def _joined(layers: list[Layer], layer: Layer) -> list[Layer]:
    """The layers with one more, which is merged into the last where they touch other tensors."""
    if not layer.tensors:
        return layers
    if layers and not layers[-1].tensors.keys() & layer.tensors.keys():
        last = layers[-1]
        seeds = {part.hash_seed for part in (last, layer) if _hashes(part)}
        if len(seeds) <= 1:
            seed = seeds.pop() if seeds else 0
            return [*layers[:-1], Layer({**last.tensors, **layer.tensors}, seed)]
    return [*layers, layer]


def _hashes(layer: Layer) -> bool:
    return any(isinstance(change, HashDiff) for change in layer.tensors.values())

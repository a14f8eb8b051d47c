"""What a diff is, and what applying one means.

A diff names its base by digest and is a sequence of layers, applied one after the other; each
layer changes some tensors (`diffcodec.changes`). Most diffs have one layer; a chain that was
rolled up has those of its members, and low-rank factors may stand below sparse levels. Tensors
may be added, removed or grown, and the graph may be replaced. Values only: bytes and files are
the business of `diffcodec.file`.

Laws:
    decode(encode(d, base)).diff == d
    apply(base, lossless_diff(base, new)) == new
    apply(base, d) leaves base as it is
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from diffcodec.changes import MAX_HASH_ARRAY, SparseDiff, TensorDiff, array_entries
from diffcodec.errors import DigestError, InputError, LayoutError, WrongBaseError
from diffcodec.parameters import DIGEST_BYTES, Array, Layout, ParameterSet, TensorSpec

# A device keeps a reader open for each, of up to 7 MB; longer chains are rolled up in parts.
MAX_LAYERS = 6
MAX_GRAPH_BYTES = 2**24


@dataclass(frozen=True)
class Layer:
    """One change of the parameters.

    Attributes:
        tensors: What changes, by name. A tensor that is absent stays as it is.
        hash_seed: Seeds the position hashes, 0 <= seed < 2**64; a new one each generation.

    Raises:
        InputError: the seed is out of range.
    """

    tensors: Mapping[str, TensorDiff] = field(default_factory=dict)
    hash_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.hash_seed < 2**64:
            raise InputError(f"expected a hash seed of 64 bits, found {self.hash_seed}")


@dataclass(frozen=True)
class Diff:
    """What turns one set of parameters into another. Build a plain one with `Diff.of`.

    Attributes:
        layout: Of the result.
        base_digest: `ParameterSet.digest` of the base; None for a snapshot, whose base is zeros.
        layers: Applied in order; at most 6.
        base_layout: Of the base, where it is not the result's: tensors that only the result has
            start as zeros, and grown ones with the base's elements in the corner at index 0.
        graph: Bytes of the graph (`model.onnx`) that replaces the base's; None: it stays.

    Raises:
        InputError: a tensor is not in the layout, its change does not fit it, or there are too
            many layers.
    """

    layout: Layout
    base_digest: bytes | None
    layers: tuple[Layer, ...] = ()
    base_layout: Layout | None = None
    graph: bytes | None = None

    def __post_init__(self) -> None:
        if self.base_digest is not None and len(self.base_digest) != DIGEST_BYTES:
            raise InputError(f"expected a base digest of 32 bytes, found {len(self.base_digest)}")
        if len(self.layers) > MAX_LAYERS:
            raise InputError(f"expected at most {MAX_LAYERS} layers, found {len(self.layers)}")
        if self.graph is not None and not 1 <= len(self.graph) <= MAX_GRAPH_BYTES:
            raise InputError(
                f"expected a graph of 1 to {MAX_GRAPH_BYTES} bytes, found {len(self.graph)}"
            )
        if self.base_layout == self.layout or self.base_digest is None:
            object.__setattr__(self, "base_layout", None)
        held: Counter[str] = Counter()
        for name, change in self.changes():
            if name not in self.layout.index:
                raise InputError(f"tensor {name}: not in the layout of the diff")
            change.check(self.layout.index[name])
            held[name] += array_entries(change)
            if held[name] > MAX_HASH_ARRAY:
                raise InputError(
                    f"tensor {name}: expected arrays and factors of at most {MAX_HASH_ARRAY} "
                    f"entries over all layers, found {held[name]}"
                )

    @classmethod
    def of(
        cls,
        layout: Layout,
        base_digest: bytes | None,
        tensors: Mapping[str, TensorDiff],
        hash_seed: int = 0,
    ) -> Self:
        """A diff of one layer; of none where nothing changes.

        Raises:
            InputError: as the class.
        """
        return cls(layout, base_digest, (Layer(tensors, hash_seed),) if tensors else ())

    @property
    def starts_from(self) -> Layout:
        """The layout of the base; of a snapshot, its own."""
        return self.base_layout or self.layout

    @property
    def nonzeros(self) -> int:
        """Entries of all sparse tensors together."""
        sparse = (c for _, c in self.changes() if isinstance(c, SparseDiff))
        return sum(c.positions.size for c in sparse)

    def changes(self) -> Iterator[tuple[str, TensorDiff]]:
        """Every change with its tensor's name, layer by layer."""
        for layer in self.layers:
            yield from layer.tensors.items()


@dataclass(frozen=True)
class DecodedDiff:
    """A diff as a file states it.

    Attributes:
        diff: What changes.
        target_digest: Digest that the result must have, 32 bytes.
    """

    diff: Diff
    target_digest: bytes


def apply(base: ParameterSet | None, diff: Diff | DecodedDiff) -> ParameterSet:
    """Rebuild the parameters that a diff leads to. The base stays as it is.

    Args:
        base: What the diff was made for; ignored by a snapshot, which stands alone.
        diff: With a `DecodedDiff` the result's digest is checked too.

    Raises:
        WrongBaseError: the base's digest is not the one that the diff names.
        LayoutError: the base has another layout.
        DigestError: the result is not what the file promised, or holds infinities or NaN.
    """
    if isinstance(diff, DecodedDiff):
        result = apply(base, diff.diff)
        if result.digest() != diff.target_digest:
            raise DigestError(
                f"expected weights with digest {diff.target_digest.hex()}, "
                f"rebuilt {result.digest().hex()}"
            )
        return result
    start = _base_of(base, diff)
    arrays = dict(start.arrays)
    for layer in diff.layers:
        for name, change in layer.tensors.items():
            spec = diff.layout.index[name]
            arrays[name] = _changed(arrays[name], spec, change, layer.hash_seed)
    return ParameterSet(diff.layout, arrays)


def reshaped(base: ParameterSet, layout: Layout) -> ParameterSet:
    """The base in another layout, before anything changes.

    A tensor that both have, of one dtype and number of dimensions and not smaller in any of
    them, keeps its elements in the corner at index 0; everything else is zeros.

    Raises:
        LayoutError: a tensor would shrink.
    """
    if base.layout == layout:
        return base
    arrays = {}
    for spec in layout.tensors:
        array = np.zeros(spec.shape, spec.dtype.storage)
        before = kept(base.layout, spec)
        if before is not None:
            array[tuple(slice(d) for d in before.shape)] = base.arrays[spec.name]
        array.flags.writeable = False
        arrays[spec.name] = array
    return ParameterSet(layout, arrays)


def kept(base: Layout, spec: TensorSpec) -> TensorSpec | None:
    """The base's tensor whose elements one of the result starts with; None: it starts as zeros.

    Raises:
        LayoutError: the tensor would shrink.
    """
    before = base.index.get(spec.name)
    if before is None or (before.dtype, len(before.shape)) != (spec.dtype, len(spec.shape)):
        return None
    if not spec.holds(before):
        raise LayoutError(
            f"tensor {spec.name}: expected at least {before} as in the base, found {spec}; "
            f"tensors may grow but not shrink (a new name starts afresh)"
        )
    return before


def _base_of(base: ParameterSet | None, diff: Diff) -> ParameterSet:
    if diff.base_digest is None:
        return ParameterSet.zeros(diff.layout)
    if base is None:
        raise WrongBaseError(f"expected a base with digest {diff.base_digest.hex()}, found none")
    diff.starts_from.require(base.layout, "the diff", "the base")
    if base.digest() != diff.base_digest:
        raise WrongBaseError(
            f"expected a base with digest {diff.base_digest.hex()}, found {base.digest().hex()}"
        )
    return reshaped(base, diff.layout)


def _changed(array: Array, spec: TensorSpec, change: TensorDiff, hash_seed: int) -> Array:
    values = array.reshape(-1).copy()
    change.change(values, spec, hash_seed)
    values.flags.writeable = False
    return values.reshape(array.shape)

"""The header of a diff file as values, and the checks that make it safe to believe.

A header says how much every tensor and section holds. `Header.resolve` compares all of it with
the layout, which is trusted (or, where the file brings one, limited), before anything is
allocated.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from diffcodec.changes import (
    MAX_HASH_ARRAY,
    MAX_LEVEL,
    Scale,
    Uniform,
    magnitudes,
    why_no_rank,
    why_unsuited,
)
from diffcodec.coders.levels import array_bits, packed_bytes, sparse_bits
from diffcodec.diff import MAX_GRAPH_BYTES, kept
from diffcodec.errors import FormatError, LayoutError
from diffcodec.hashing import MAX_HASHES
from diffcodec.parameters import Dtype, Layout, TensorSpec

# What a file with a layout of its own may rebuild to unless the caller says otherwise: 64M
# float32 parameters take a quarter of it.
RESULT_LIMIT_BYTES = 2**30
# Far more than a speech model has; bounds what a header of empty records costs in memory.
MAX_TENSORS = 2**14
# All layers together.
MAX_RECORDS = 2**16
# Steps and magnitudes of all layers together.
MAX_SCALES = 2**16
LAYOUT_CHECK_BYTES = 8
NO_SCALE = Uniform(1.0)


class Method(StrEnum):
    """What one tensor receives."""

    UNCHANGED = "unchanged"
    SPARSE = "sparse"
    HASH = "hash"
    LOWRANK = "lowrank"
    LOSSLESS = "lossless"


class Coder(StrEnum):
    """How a section's bytes are compressed. A device that decodes `max` decodes `fast` too."""

    FAST = "fast"
    MAX = "max"


class SectionKind(StrEnum):
    """What a section holds, in the order of the file."""

    GAPS = "gaps"
    LEVELS = "levels"
    ENTRIES = "entries"
    ARRAYS = "arrays"
    BYTES = "bytes"
    GRAPH = "graph"


@dataclass(frozen=True)
class TensorRecord:
    """What one tensor of the layout receives from one layer.

    Attributes:
        method: Which of the fields below mean something; the others stay as they are here.
        count: sparse: non-zeros; hash: length of A; lowrank: rank.
        largest: sparse, hash, lowrank: no level is of larger magnitude.
        scale: sparse: what a level stands for; hash and lowrank: a `Uniform`.
        hashes: hash: number of hash functions.
    """

    method: Method = Method.UNCHANGED
    count: int = 0
    largest: int = 0
    scale: Scale = NO_SCALE
    hashes: int = 0

    @property
    def step(self) -> float:
        """The step of a `Uniform` scale, which hash and lowrank have."""
        return magnitudes(self.scale)[0]


@dataclass(frozen=True)
class Section:
    """A compressed run of bytes.

    Attributes:
        kind: What it holds.
        coder: How it is compressed.
        raw_length: Bytes before compression, where the form has such; else 0.
        coded_length: Bytes in the file.
    """

    kind: SectionKind
    coder: Coder
    raw_length: int
    coded_length: int


@dataclass(frozen=True)
class LayerHeader:
    """What one layer holds.

    Attributes:
        records: One a tensor of the result's layout, in its order.
        sections: In file order.
        hash_seed: Seeds the position hashes.
    """

    records: tuple[TensorRecord, ...]
    sections: tuple[Section, ...]
    hash_seed: int = 0


@dataclass(frozen=True)
class Header:
    """Everything that a diff file says about itself.

    Attributes:
        base_digest: 32 bytes; None in a snapshot.
        target_digest: 32 bytes.
        layout_check: First 8 bytes of the fingerprint of the base's layout, or a snapshot's own.
        layout: The result's: present in a snapshot, and where it is not the base's.
        layers: In the order of application.
        graph: The section of a graph that replaces the base's, and its SHA-256; None: it stays.
    """

    base_digest: bytes | None
    target_digest: bytes
    layout_check: bytes
    layout: Layout | None
    layers: tuple[LayerHeader, ...]
    graph: tuple[Section, bytes] | None = None

    @property
    def is_snapshot(self) -> bool:
        """Whether the file stands alone."""
        return self.base_digest is None

    @property
    def records(self) -> Iterator[TensorRecord]:
        """The records of all layers."""
        return (record for layer in self.layers for record in layer.records)

    @property
    def sections(self) -> tuple[Section, ...]:
        """All sections in file order."""
        graph = (self.graph[0],) if self.graph else ()
        return (*(s for layer in self.layers for s in layer.sections), *graph)

    @property
    def coders(self) -> frozenset[Coder]:
        """What a device must be able to decode."""
        return frozenset(section.coder for section in self.sections)

    @property
    def methods(self) -> Mapping[Method, int]:
        """How many changes of tensors each method makes; what stays unchanged is not counted."""
        return Counter(r.method for r in self.records if r.method is not Method.UNCHANGED)

    @property
    def nonzeros(self) -> int:
        """Entries of all sparse tensors together."""
        return sum(r.count for r in self.records if r.method is Method.SPARSE)

    def resolve(self, base: Layout | None, result_limit_bytes: int) -> Layout:
        """The layout of the result, once all that the header says fits it.

        Args:
            base: The base's layout; a snapshot ignores it.
            result_limit_bytes: Largest flat store that a file with a layout of its own may
                rebuild to.

        Raises:
            LayoutError: the diff was made for another layout, or no layout is known.
            FormatError: a record or section says what cannot be.
        """
        layout = self._layout(base, result_limit_bytes)
        for layer in self.layers:
            if len(layer.records) != len(layout.tensors):
                raise FormatError(
                    f"expected {len(layout.tensors)} tensor records, found {len(layer.records)}"
                )
            for record, spec in zip(layer.records, layout.tensors, strict=True):
                _CHECKS[record.method](record, spec)
            _check_sections(layer, layout)
        self._check_arrays(layout)
        self._check_graph()
        return layout

    def _layout(self, base: Layout | None, result_limit_bytes: int) -> Layout:
        start = self.layout if self.is_snapshot else base
        if start is None:
            raise LayoutError("expected the layout of the diff's base, found none")
        if start.fingerprint[:LAYOUT_CHECK_BYTES] != self.layout_check:
            raise LayoutError(
                f"expected a diff for layout {start.fingerprint[:LAYOUT_CHECK_BYTES].hex()}, "
                f"found one for {self.layout_check.hex()}"
            )
        if self.layout is None:
            return start
        if self.layout.file_bytes > result_limit_bytes:
            raise FormatError(
                f"expected a result of at most {result_limit_bytes} bytes, "
                f"found {self.layout.file_bytes}"
            )
        if not self.is_snapshot:
            if self.layout == start:
                raise FormatError("expected another layout than the base's, found the same")
            for spec in self.layout.tensors:
                kept(start, spec)
        return self.layout

    def _check_arrays(self, layout: Layout) -> None:
        """A device holds the arrays of one tensor, of all layers, at once."""
        for index, spec in enumerate(layout.tensors):
            held = sum(sum(_array_sizes(layer.records[index], spec)) for layer in self.layers)
            if held > MAX_HASH_ARRAY:
                raise FormatError(
                    f"tensor {spec.name}: expected arrays and factors of at most "
                    f"{MAX_HASH_ARRAY} entries over all layers, found {held}"
                )

    def _check_graph(self) -> None:
        if self.graph is None:
            return
        section, _ = self.graph
        if (section.kind, section.coder) != (SectionKind.GRAPH, Coder.FAST):
            raise FormatError(f"expected a graph section of coder fast, found {section}")
        _require_raw(section, range(1, MAX_GRAPH_BYTES + 1))


# What may hold the entries of a layer's sparse tensors.
_ENTRY_FORMS = (
    ((SectionKind.GAPS, Coder.FAST), (SectionKind.LEVELS, Coder.FAST)),
    ((SectionKind.ENTRIES, Coder.FAST),),
    ((SectionKind.ENTRIES, Coder.MAX),),
)


def _check_sections(layer: LayerHeader, layout: Layout) -> None:
    """Require exactly the sections that the records need, of possible lengths."""
    forms = [[*form] for form in _ENTRY_FORMS] if _has(layer, {Method.SPARSE}) else [[]]
    for kind, methods in (
        (SectionKind.ARRAYS, {Method.HASH, Method.LOWRANK}),
        (SectionKind.BYTES, {Method.LOSSLESS}),
    ):
        if _has(layer, methods):
            forms = [[*form, (kind, coder)] for form in forms for coder in Coder]
    found = [(section.kind, section.coder) for section in layer.sections]
    if found not in forms:
        shown = ", ".join(f"{kind} ({coder})" for kind, coder in found) or "none"
        raise FormatError(f"expected the sections that the tensor records need, found {shown}")
    for section in layer.sections:
        _require_raw(section, _raw_lengths(section, layer, layout))


def _has(layer: LayerHeader, methods: set[Method]) -> bool:
    return any(record.method in methods for record in layer.records)


def _raw_lengths(section: Section, layer: LayerHeader, layout: Layout) -> range:
    """Raw lengths that a section may have by its layer's records."""
    if section.coder is Coder.MAX or section.kind is SectionKind.ENTRIES:
        return range(1)
    pairs = list(zip(layer.records, layout.tensors, strict=True))
    sparse = [(r, s) for r, s in pairs if r.method is Method.SPARSE]
    if section.kind is SectionKind.GAPS:
        entries = sum(record.count for record, _ in sparse)
        # An escape skips 255 elements.
        escapes = sum((spec.size - record.count) // 255 for record, spec in sparse)
        return range(entries, entries + escapes + 1)
    if section.kind is SectionKind.LEVELS:
        length = sum(packed_bytes(r.count, sparse_bits(r.largest)) for r, _ in sparse)
    elif section.kind is SectionKind.ARRAYS:
        length = sum(
            packed_bytes(size, array_bits(record.largest))
            for record, spec in pairs
            for size in _array_sizes(record, spec)
        )
    else:
        length = sum(spec.nbytes for record, spec in pairs if record.method is Method.LOSSLESS)
    return range(length, length + 1)


def _require_raw(section: Section, lengths: range) -> None:
    if section.raw_length not in lengths:
        wanted = f"{lengths[0]} to {lengths[-1]}" if len(lengths) > 1 else str(lengths[0])
        raise FormatError(
            f"section {section.kind}: expected {wanted} raw bytes from the tensor records, "
            f"found {section.raw_length}"
        )


def _array_sizes(record: TensorRecord, spec: TensorSpec) -> tuple[int, ...]:
    """Levels of a hash array, or of both factors of a low-rank change."""
    if record.method is Method.HASH:
        return (record.count,)
    if record.method is Method.LOWRANK:
        return tuple(length * record.count for length in spec.matrix)
    return ()


def _check_unchanged(record: TensorRecord, spec: TensorSpec) -> None:
    """The wire has no place where such a record could say anything."""


def _check_sparse(record: TensorRecord, spec: TensorSpec) -> None:
    if not 1 <= record.count <= spec.size:
        raise FormatError(
            f"tensor {spec.name}: expected 1 to {spec.size} non-zeros, found {record.count}"
        )
    _check_largest(record, spec)
    reason = why_unsuited(record.scale, record.largest, spec)
    if reason:
        raise FormatError(reason)


def _check_hash(record: TensorRecord, spec: TensorSpec) -> None:
    _check_floats(record, spec)
    longest = min(spec.size, MAX_HASH_ARRAY)
    if not 1 <= record.count <= longest:
        raise FormatError(
            f"tensor {spec.name}: expected 1 to {longest} hashed levels, found {record.count}"
        )
    if not 1 <= record.hashes <= MAX_HASHES:
        raise FormatError(
            f"tensor {spec.name}: expected 1 to {MAX_HASHES} hashes, found {record.hashes}"
        )
    _check_largest(record, spec)


def _check_lowrank(record: TensorRecord, spec: TensorSpec) -> None:
    _check_floats(record, spec)
    reason = why_no_rank(*spec.matrix, record.count)
    if reason:
        raise FormatError(f"tensor {spec.name}: {reason}")
    _check_largest(record, spec)


def _check_lossless(record: TensorRecord, spec: TensorSpec) -> None:
    if not spec.nbytes:
        raise FormatError(f"tensor {spec.name}: expected elements to change, found none")


def _check_floats(record: TensorRecord, spec: TensorSpec) -> None:
    if spec.dtype is Dtype.INT8:
        raise FormatError(f"tensor {spec.name}: expected floats for {record.method}, found int8")


def _check_largest(record: TensorRecord, spec: TensorSpec) -> None:
    if not 1 <= record.largest <= MAX_LEVEL:
        raise FormatError(
            f"tensor {spec.name}: expected levels up to a K of 1 to {MAX_LEVEL}, "
            f"found {record.largest}"
        )


_CHECKS = {
    Method.UNCHANGED: _check_unchanged,
    Method.SPARSE: _check_sparse,
    Method.HASH: _check_hash,
    Method.LOWRANK: _check_lowrank,
    Method.LOSSLESS: _check_lossless,
}

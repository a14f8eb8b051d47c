"""The header of a diff file as values, and the checks that make it safe to believe.

A header says how much every tensor and section holds. `Header.resolve` compares all of it with
the layout, which is trusted (or, in a snapshot, limited), before anything is allocated.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from diffcodec.coders.gaps import ESCAPE
from diffcodec.coders.levels import LEVEL_BITS, packed_bytes
from diffcodec.diff import FLOAT32_MAX, MAX_HASH_ARRAY
from diffcodec.errors import FormatError, LayoutError
from diffcodec.hashing import MAX_HASHES
from diffcodec.parameters import Dtype, Layout, TensorSpec

# What a snapshot may rebuild to unless the caller says otherwise: 64M float32 parameters take
# a quarter of it.
SNAPSHOT_LIMIT_BYTES = 2**30
# Far more than a speech model has; bounds what a header of empty records costs in memory.
MAX_TENSORS = 2**14


class Method(StrEnum):
    """What one tensor receives."""

    UNCHANGED = "unchanged"
    SPARSE = "sparse"
    HASH = "hash"
    LOSSLESS = "lossless"


class Coder(StrEnum):
    """How a section's bytes are compressed."""

    FAST = "fast"


class SectionKind(StrEnum):
    """What a section holds, in the order of the file."""

    GAPS = "gaps"
    LEVELS = "levels"
    HASH_LEVELS = "hash levels"
    LOSSLESS = "lossless"


@dataclass(frozen=True)
class TensorRecord:
    """What one tensor of the layout receives.

    Attributes:
        method: Which of the fields below mean something; the others are zero.
        count: sparse: non-zeros; hash: length of A.
        escapes: sparse: escape bytes among the count + escapes gap bytes.
        step: sparse and hash: value = level * step, a float32.
        hashes: hash: number of hash functions.
    """

    method: Method = Method.UNCHANGED
    count: int = 0
    escapes: int = 0
    step: float = 0.0
    hashes: int = 0


@dataclass(frozen=True)
class Section:
    """A compressed run of bytes. Lengths are in bytes; level_bits is 0 where no levels are."""

    kind: SectionKind
    coder: Coder
    raw_length: int
    coded_length: int
    level_bits: int = 0


@dataclass(frozen=True)
class Header:
    """Everything that a diff file says about itself.

    Attributes:
        base_digest: 32 bytes; None in a snapshot.
        target_digest: 32 bytes.
        layout_fingerprint: 32 bytes.
        layout: Present in a snapshot; elsewhere it is the base's.
        records: One a tensor of the layout, in its order.
        sections: In file order.
        hash_seed: Seeds the position hashes.
    """

    base_digest: bytes | None
    target_digest: bytes
    layout_fingerprint: bytes
    layout: Layout | None
    records: tuple[TensorRecord, ...]
    sections: tuple[Section, ...]
    hash_seed: int

    @property
    def is_snapshot(self) -> bool:
        """Whether the file stands alone."""
        return self.base_digest is None

    @property
    def methods(self) -> Mapping[Method, int]:
        """How many tensors each method changes, or leaves unchanged."""
        return Counter(record.method for record in self.records)

    @property
    def nonzeros(self) -> int:
        """Entries of all sparse tensors together."""
        return sum(r.count for r in self.records if r.method is Method.SPARSE)

    def resolve(self, base: Layout | None, snapshot_limit_bytes: int) -> Layout:
        """The layout to decode into, once all that the header says fits it.

        Args:
            base: The base's layout; a snapshot ignores it.
            snapshot_limit_bytes: Largest flat store that a snapshot may rebuild to.

        Raises:
            LayoutError: the diff was made for another layout, or no layout is known.
            FormatError: a record or section says what cannot be.
        """
        layout = self._layout(base, snapshot_limit_bytes)
        if len(self.records) != len(layout.tensors):
            raise FormatError(
                f"expected {len(layout.tensors)} tensor records, found {len(self.records)}"
            )
        for record, spec in zip(self.records, layout.tensors, strict=True):
            _CHECKS[record.method](record, spec)
        self._check_sections(layout)
        return layout

    def _layout(self, base: Layout | None, snapshot_limit_bytes: int) -> Layout:
        layout = self.layout if self.is_snapshot else base
        if layout is None:
            raise LayoutError("expected the layout of the diff's base, found none")
        if self.is_snapshot and layout.file_bytes > snapshot_limit_bytes:
            raise FormatError(
                f"expected a snapshot of at most {snapshot_limit_bytes} bytes, "
                f"found {layout.file_bytes}"
            )
        if layout.fingerprint != self.layout_fingerprint:
            raise LayoutError(
                f"expected layout {layout.fingerprint.hex()}, "
                f"found a diff for {self.layout_fingerprint.hex()}"
            )
        return layout

    def _check_sections(self, layout: Layout) -> None:
        """Each kind that has bytes stands once, in order, with the length the records add up to."""
        by_kind = {section.kind: section for section in self.sections}
        expected = {kind: self._raw_length(kind, by_kind.get(kind), layout) for kind in SectionKind}
        present = [kind for kind, length in expected.items() if length]
        if [section.kind for section in self.sections] != present:
            raise FormatError(
                f"expected sections [{', '.join(present)}], "
                f"found [{', '.join(s.kind for s in self.sections)}]"
            )
        for section in self.sections:
            if section.raw_length != expected[section.kind]:
                raise FormatError(
                    f"section {section.kind}: expected {expected[section.kind]} raw bytes from "
                    f"the tensor records, found {section.raw_length}"
                )

    def _raw_length(self, kind: SectionKind, section: Section | None, layout: Layout) -> int:
        bits = section.level_bits if section else 8
        is_levels = kind in (SectionKind.LEVELS, SectionKind.HASH_LEVELS)
        if section and bits not in (LEVEL_BITS if is_levels else (0,)):
            raise FormatError(f"section {kind}: found {bits} bits a level")
        sparse = [r for r in self.records if r.method is Method.SPARSE]
        if kind is SectionKind.GAPS:
            return sum(r.count + r.escapes for r in sparse)
        if kind is SectionKind.LEVELS:
            return sum(packed_bytes(r.count, bits) for r in sparse)
        if kind is SectionKind.HASH_LEVELS:
            hashed = [r for r in self.records if r.method is Method.HASH]
            return sum(packed_bytes(r.count, bits) for r in hashed)
        pairs = zip(self.records, layout.tensors, strict=True)
        return sum(spec.nbytes for record, spec in pairs if record.method is Method.LOSSLESS)


def _check_unchanged(record: TensorRecord, spec: TensorSpec) -> None:
    # -0.0 equals 0.0, and would give one diff two files.
    is_negative_zero = math.copysign(1.0, record.step) < 0
    if record != TensorRecord(record.method) or is_negative_zero:
        raise FormatError(f"tensor {spec.name}: expected no fields when {record.method}")


def _check_sparse(record: TensorRecord, spec: TensorSpec) -> None:
    _check_step(record, spec)
    if record.hashes:
        raise FormatError(f"tensor {spec.name}: expected no hashes when sparse")
    if not 1 <= record.count <= spec.size:
        raise FormatError(
            f"tensor {spec.name}: expected 1 to {spec.size} non-zeros, found {record.count}"
        )
    if record.count + record.escapes * ESCAPE > spec.size:
        raise FormatError(
            f"tensor {spec.name}: expected gaps within {spec.size} elements, found "
            f"{record.count} entries and {record.escapes} escapes"
        )


def _check_hash(record: TensorRecord, spec: TensorSpec) -> None:
    _check_step(record, spec)
    longest = min(spec.size, MAX_HASH_ARRAY)
    if not 1 <= record.count <= longest or record.escapes:
        raise FormatError(
            f"tensor {spec.name}: expected 1 to {longest} hashed levels, found {record.count}"
        )
    if not 1 <= record.hashes <= MAX_HASHES:
        raise FormatError(
            f"tensor {spec.name}: expected 1 to {MAX_HASHES} hashes, found {record.hashes}"
        )


def _check_lossless(record: TensorRecord, spec: TensorSpec) -> None:
    _check_unchanged(record, spec)
    if not spec.nbytes:
        raise FormatError(f"tensor {spec.name}: expected elements to change, found none")


def _check_step(record: TensorRecord, spec: TensorSpec) -> None:
    if spec.dtype is not Dtype.FLOAT32:
        raise FormatError(
            f"tensor {spec.name}: expected float32 for {record.method}, found {spec.dtype}"
        )
    if not 0 < record.step <= FLOAT32_MAX:
        raise FormatError(
            f"tensor {spec.name}: expected a positive finite step, found {record.step}"
        )


_CHECKS = {
    Method.UNCHANGED: _check_unchanged,
    Method.SPARSE: _check_sparse,
    Method.HASH: _check_hash,
    Method.LOSSLESS: _check_lossless,
}

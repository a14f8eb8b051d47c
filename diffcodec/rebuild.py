"""Applying a diff file to a flat store on disk, in bounded memory: what a device does.

The base is read, never written or mapped: a session may be serving from it. Memory stays the
same whatever the model's size: chunks of 131,072 elements, up to four zstd windows of 1 MiB (one a
section), and the arrays of hash diffs.

    applied = apply_file(slot_a / "weights.bin", layout, Path("g7.ndiff"), slot_b / "weights.bin")
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np

from diffcodec.arithmetic import CHUNK_ELEMENTS, add_hashed, add_sparse, xor_bytes
from diffcodec.coders.fast import read_hash, read_lossless, read_sparse
from diffcodec.coders.sections import SectionReader
from diffcodec.diff import require_finite
from diffcodec.durable import new_file
from diffcodec.errors import DigestError, WrongBaseError
from diffcodec.file import OpenDiff, open_path
from diffcodec.header import SNAPSHOT_LIMIT_BYTES, Method, SectionKind, TensorRecord
from diffcodec.parameters import Array, Layout, TensorSpec, as_bytes

HASH_READ_BYTES = 2**20

Readers: TypeAlias = Mapping[SectionKind, SectionReader]


@dataclass(frozen=True)
class Applied:
    """What was rebuilt.

    Attributes:
        target_digest: Of the new store, 32 bytes; as the diff promised.
        base_digest: Of the store it was rebuilt from; None for a snapshot.
        layout: Of the new store.
        diff_bytes: Size of the diff file.
        target_bytes: Size of the new store.
    """

    target_digest: bytes
    base_digest: bytes | None
    layout: Layout
    diff_bytes: int
    target_bytes: int


def apply_file(
    base: Path | None,
    layout: Layout | None,
    diff: Path,
    target: Path,
    *,
    snapshot_limit_bytes: int = SNAPSHOT_LIMIT_BYTES,
) -> Applied:
    """Rebuild a flat store from another one and a diff file.

    The base is hashed before anything is written, and the result while it is; the target is
    fsynced, and its folder too. On any error, a full disk and an interrupt included, the target
    is removed again. A power cut may leave a part of it, so give a name that nothing trusts yet.

    Args:
        base: The flat store that the diff was made for; a snapshot ignores it.
        layout: The base's layout; a snapshot brings its own.
        diff: The diff file.
        target: Where to write; nothing may be there.
        snapshot_limit_bytes: Largest flat store that a snapshot may rebuild to.

    Raises:
        FormatError: the diff is not a sound file.
        LayoutError: the diff was made for another layout.
        WrongBaseError: the base is missing or has another digest.
        DigestError: the result is not what the file promised, or holds infinities or NaN.
        FileExistsError: something is at target (it is left alone).
        OSError: reading or writing failed, as it came from the system.
    """
    with open_path(diff) as opened:
        header = opened.header
        layout = header.resolve(layout, snapshot_limit_bytes)
        readers = opened.readers()
        with _open_base(base, layout, header.base_digest) as store, new_file(target) as file:
            out = _HashedFile(file, layout)
            _rebuild(store, layout, opened, readers, out)
            out.require(header.target_digest)
    return Applied(
        header.target_digest, header.base_digest, layout, opened.file_bytes, layout.file_bytes
    )


def _rebuild(
    store: BinaryIO | None,
    layout: Layout,
    opened: OpenDiff,
    readers: Readers,
    out: "_HashedFile",
) -> None:
    """Write every tensor of the result, padding included."""
    for record, (spec, padding) in zip(opened.header.records, layout.pieces(), strict=True):
        out.write(bytes(padding))
        if store is not None:
            store.seek(padding, os.SEEK_CUR)
        change = _change(readers, record, spec, opened.header.hash_seed)
        for start in range(0, spec.size, CHUNK_ELEMENTS):
            values = _read_chunk(store, spec, min(CHUNK_ELEMENTS, spec.size - start))
            change.change(start, values)
            out.write(as_bytes(values).data)
        change.finish()
    for reader in readers.values():
        reader.finish()


class _Unchanged:
    """Changes the chunks of one tensor, in order; this one leaves them as they are."""

    def change(self, start: int, values: Array) -> None:
        """Turn elements start .. start + S - 1 of the base, shape (S,), into the result's."""

    def finish(self) -> None:
        """Check what can only be checked at the end."""


class _Sparse(_Unchanged):
    def __init__(self, readers: Readers, record: TensorRecord, spec: TensorSpec) -> None:
        self._runs = read_sparse(readers, record, spec)
        self._positions = np.empty(0, dtype=np.int64)
        self._levels = np.empty(0, dtype=np.int8)
        self._step, self._name = record.step, spec.name

    def change(self, start: int, values: Array) -> None:
        end = start + values.size
        while not self._positions.size or self._positions[-1] < end:
            run = next(self._runs, None)
            if run is None:
                break
            self._positions = np.concatenate([self._positions, run[0]])
            self._levels = np.concatenate([self._levels, run[1]])
        here = int(np.searchsorted(self._positions, end))
        add_sparse(values, self._positions[:here] - start, self._levels[:here], self._step)
        require_finite(values, self._name)
        self._positions, self._levels = self._positions[here:], self._levels[here:]

    def finish(self) -> None:
        # All entries lie inside the tensor, so only the iterator's last checks are left to run.
        for _ in self._runs:
            pass


class _Hash(_Unchanged):
    def __init__(
        self, readers: Readers, record: TensorRecord, spec: TensorSpec, hash_seed: int
    ) -> None:
        self._levels = read_hash(readers, record, spec)
        self._record, self._name, self._seed = record, spec.name, hash_seed

    def change(self, start: int, values: Array) -> None:
        step, hashes = self._record.step, self._record.hashes
        add_hashed(values, self._levels, step, hashes, self._name, self._seed, start)
        require_finite(values, self._name)


class _Lossless(_Unchanged):
    def __init__(self, readers: Readers, spec: TensorSpec) -> None:
        self._chunks = read_lossless(readers, spec)

    def change(self, start: int, values: Array) -> None:
        xor_bytes(as_bytes(values), next(self._chunks))


def _change(readers: Readers, record: TensorRecord, spec: TensorSpec, hash_seed: int) -> _Unchanged:
    match record.method:
        case Method.SPARSE:
            return _Sparse(readers, record, spec)
        case Method.HASH:
            return _Hash(readers, record, spec, hash_seed)
        case Method.LOSSLESS:
            return _Lossless(readers, spec)
        case Method.UNCHANGED:
            return _Unchanged()


def _read_chunk(store: BinaryIO | None, spec: TensorSpec, size: int) -> Array:
    values = np.zeros(size, dtype=spec.dtype.storage)
    if store is not None and store.readinto(as_bytes(values).data) != values.nbytes:  # type: ignore[attr-defined]
        raise WrongBaseError(f"tensor {spec.name}: the base ended early; it changed while read")
    return values


@contextmanager
def _open_base(
    base: Path | None, layout: Layout, base_digest: bytes | None
) -> Iterator[BinaryIO | None]:
    """The store to read from, once its digest is right; None for a snapshot."""
    if base_digest is None:
        yield None
        return
    if base is None:
        raise WrongBaseError(f"expected a base with digest {base_digest.hex()}, found none")
    with base.open("rb") as store:
        sha = hashlib.sha256(layout.fingerprint)
        while block := store.read(HASH_READ_BYTES):
            sha.update(block)
        if sha.digest() != base_digest:
            raise WrongBaseError(
                f"{base}: expected a base with digest {base_digest.hex()}, found {sha.hexdigest()}"
            )
        store.seek(0)
        yield store


class _HashedFile:
    """Writes a store and digests it on the way."""

    def __init__(self, out: BinaryIO, layout: Layout) -> None:
        self._out = out
        self._sha = hashlib.sha256(layout.fingerprint)

    def write(self, data: bytes | memoryview) -> None:
        self._sha.update(data)
        self._out.write(data)

    def require(self, digest: bytes) -> None:
        if self._sha.digest() != digest:
            raise DigestError(
                f"expected weights with digest {digest.hex()}, rebuilt {self._sha.hexdigest()}"
            )

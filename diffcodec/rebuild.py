"""Applying a diff file to a flat store on disk, in bounded memory: what a device does.

The base is read, never written or mapped: a session may be serving from it. Memory stays the
same whatever the model's size: chunks of 131,072 elements, a window of 256 KiB for each section,
and the arrays and factors of the tensor at hand.

    applied = apply_file(slot_a / "weights.bin", layout, Path("g7.ndiff"), slot_b / "weights.bin")
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from diffcodec.arithmetic import CHUNK_ELEMENTS, add_at, add_hashed, add_low_rank, xor_bytes
from diffcodec.coders.layers import LayerReader
from diffcodec.diff import kept
from diffcodec.durable import new_file
from diffcodec.errors import DigestError, WrongBaseError
from diffcodec.file import OpenDiff, open_path
from diffcodec.header import RESULT_LIMIT_BYTES, Method, TensorRecord
from diffcodec.parameters import Array, Layout, TensorSpec, as_bytes

HASH_READ_BYTES = 2**20


@dataclass(frozen=True)
class Applied:
    """What was rebuilt.

    Attributes:
        target_digest: Of the new store, 32 bytes; as the diff promised.
        base_digest: Of the base that the diff names; None for a snapshot.
        layout: Of the new store.
        diff_bytes: Size of the diff file.
        target_bytes: Size of the new store.
        graph: Bytes of the graph that replaces the base's; None: it stays.
    """

    target_digest: bytes
    base_digest: bytes | None
    layout: Layout
    diff_bytes: int
    target_bytes: int
    graph: bytes | None = None


def apply_file(
    base: Path | None,
    layout: Layout | None,
    diff: Path,
    target: Path,
    *,
    result_limit_bytes: int = RESULT_LIMIT_BYTES,
) -> Applied:
    """Rebuild a flat store from another one and a diff file.

    The result is hashed while it is written: its digest vouches for the base too, which is hashed
    only to name the cause where the result is wrong (on a small device a digest takes longer than
    all the rest). The target is fsynced, and its folder too. On any error, a full disk and an
    interrupt included, the target is removed again. A power cut may leave a part of it, so give a
    name that nothing trusts yet.

    Args:
        base: The flat store that the diff was made for; a snapshot ignores it.
        layout: The base's layout; a snapshot brings its own.
        diff: The diff file.
        target: Where to write; nothing may be there.
        result_limit_bytes: Largest flat store that a file with a layout of its own may rebuild to.

    Raises:
        FormatError: the diff is not a sound file.
        UnsupportedError: its version, or a coder, is not known here.
        LayoutError: the diff was made for another layout.
        WrongBaseError: the base is missing or has another digest.
        DigestError: the result is not what the file promised, or holds infinities or NaN.
        FileExistsError: something is at target (it is left alone).
        OSError: reading or writing failed, as it came from the system.
    """
    with open_path(diff) as opened:
        header = opened.header
        result = header.resolve(layout, result_limit_bytes)
        readers = opened.layers()
        graph = opened.graph()
        start = result if layout is None else layout
        with _open_base(base, start, header.base_digest) as store, new_file(target) as file:
            out = _HashedFile(file, result)
            _rebuild(store, start, result, opened, readers, out)
            out.require(header.target_digest)
    return Applied(
        target_digest=header.target_digest,
        base_digest=header.base_digest,
        layout=result,
        diff_bytes=opened.file_bytes,
        target_bytes=result.file_bytes,
        graph=graph,
    )


def _rebuild(
    store: BinaryIO | None,
    start: Layout,
    result: Layout,
    opened: OpenDiff,
    readers: list[LayerReader],
    out: "_HashedFile",
) -> None:
    """Write every tensor of the result, padding included."""
    layers = list(zip(opened.header.layers, readers, strict=True))
    for index, (spec, padding) in enumerate(result.pieces()):
        out.write(bytes(padding))
        changes = [
            _change(reader, layer.records[index], spec, layer.hash_seed)
            for layer, reader in layers
            if layer.records[index].method is not Method.UNCHANGED
        ]
        for at, values in _chunks(store, start, spec):
            for change in changes:
                change.change(at, values)
            out.write(as_bytes(values).data)
        for change in changes:
            change.finish()
    for reader in readers:
        reader.finish()


class _Change(Protocol):
    """Changes the chunks of one tensor, in order."""

    def change(self, start: int, values: Array) -> None:
        """Turn elements start .. start + S - 1 of the base, shape (S,), into the result's."""

    def finish(self) -> None:
        """Check what can only be checked at the end."""


class _Sparse:
    def __init__(self, reader: LayerReader, record: TensorRecord, spec: TensorSpec) -> None:
        self._runs = reader.entries(record, spec)
        self._scale, self._spec = record.scale, spec
        self._positions = np.empty(0, dtype=np.int64)
        self._levels = np.empty(0, dtype=np.int8)

    def change(self, start: int, values: Array) -> None:
        end = start + values.size
        while not self._positions.size or self._positions[-1] < end:
            run = next(self._runs, None)
            if run is None:
                break
            self._positions = np.concatenate([self._positions, run[0]])
            self._levels = np.concatenate([self._levels, run[1]])
        here = int(np.searchsorted(self._positions, end))
        amounts = self._scale.amounts(self._levels[:here])
        positions = self._positions[:here] - start
        add_at(values, self._spec.dtype, positions, amounts, self._spec.name)
        self._positions, self._levels = self._positions[here:], self._levels[here:]

    def finish(self) -> None:
        # All entries lie inside the tensor, so only the iterator's last checks are left to run.
        for _ in self._runs:
            pass


class _Hash:
    def __init__(
        self, reader: LayerReader, record: TensorRecord, spec: TensorSpec, hash_seed: int
    ) -> None:
        self._levels = reader.array(record, spec)
        self._record, self._spec, self._seed = record, spec, hash_seed

    def change(self, start: int, values: Array) -> None:
        step, hashes, spec = self._record.step, self._record.hashes, self._spec
        add_hashed(values, spec.dtype, self._levels, step, hashes, spec.name, self._seed, start)

    def finish(self) -> None:
        """The array was read whole."""


class _LowRank:
    def __init__(self, reader: LayerReader, record: TensorRecord, spec: TensorSpec) -> None:
        self._rows, self._columns = reader.factors(record, spec)
        self._step, self._spec = record.step, spec

    def change(self, start: int, values: Array) -> None:
        spec = self._spec
        add_low_rank(values, spec.dtype, self._rows, self._columns, self._step, spec.name, start)

    def finish(self) -> None:
        """The factors were read whole."""


class _Lossless:
    def __init__(self, reader: LayerReader, spec: TensorSpec) -> None:
        self._chunks = reader.xor(spec)

    def change(self, start: int, values: Array) -> None:
        xor_bytes(as_bytes(values), next(self._chunks))

    def finish(self) -> None:
        for _ in self._chunks:
            pass


def _change(reader: LayerReader, record: TensorRecord, spec: TensorSpec, hash_seed: int) -> _Change:
    match record.method:
        case Method.SPARSE:
            return _Sparse(reader, record, spec)
        case Method.HASH:
            return _Hash(reader, record, spec, hash_seed)
        case Method.LOWRANK:
            return _LowRank(reader, record, spec)
        case _:
            return _Lossless(reader, spec)


def _chunks(store: BinaryIO | None, start: Layout, spec: TensorSpec) -> Iterator[tuple[int, Array]]:
    """What a tensor of the result starts as: first element and values of each chunk.

    The values are good until the next chunk is asked for: all share one buffer.
    """
    before = None if store is None else kept(start, spec)
    buffer = np.zeros(min(CHUNK_ELEMENTS, spec.size), dtype=spec.dtype.storage)
    for at in range(0, spec.size, CHUNK_ELEMENTS):
        values = buffer[: min(CHUNK_ELEMENTS, spec.size - at)]
        if store is None or before is None:
            values.fill(0)
        elif before.shape == spec.shape:
            _read_into(values, store, start.offset_of[before.name], at, before)
        else:
            values.fill(0)
            _read_corner(values, store, start.offset_of[before.name], at, before, spec)
        yield at, values


def _read_into(values: Array, store: BinaryIO, offset: int, first: int, spec: TensorSpec) -> None:
    """Read elements of the base's tensor, from number `first` on."""
    store.seek(offset + first * spec.dtype.itemsize)
    data, filled = as_bytes(values).data, 0
    while filled < values.nbytes:
        got = store.readinto(data[filled:])  # type: ignore[attr-defined]
        if not got:
            raise WrongBaseError(
                f"tensor {spec.name}: expected {values.nbytes - filled} more bytes of the base, "
                f"found its end"
            )
        filled += got


def _read_corner(
    values: Array, store: BinaryIO, offset: int, first: int, before: TensorSpec, spec: TensorSpec
) -> None:
    """Read what the base has of a chunk of a tensor that has grown."""
    inside, places = _places(first, values.size, before, spec)
    if places.size:
        span = np.empty(int(places[-1] - places[0]) + 1, dtype=values.dtype)
        _read_into(span, store, offset, int(places[0]), before)
        values[inside] = span[places - places[0]]


def _places(
    at: int, size: int, before: TensorSpec, spec: TensorSpec
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which elements of a chunk of a grown tensor the base has, and their numbers in it.

    The numbers increase, and span no more elements than the chunk: growing only pulls elements
    apart.
    """
    numbers = np.arange(at, at + size)
    coordinates = np.unravel_index(numbers, spec.shape)
    inside = np.ones(size, dtype=bool)
    for along, dimension in zip(coordinates, before.shape, strict=True):
        inside &= along < dimension
    kept_coordinates = tuple(along[inside] for along in coordinates)
    return inside, np.ravel_multi_index(kept_coordinates, before.shape).astype(np.int64)


@contextmanager
def _open_base(
    base: Path | None, layout: Layout, base_digest: bytes | None
) -> Iterator[BinaryIO | None]:
    """The store to read from; None for a snapshot. A wrong result is blamed on a wrong base."""
    if base_digest is None:
        yield None
        return
    if base is None:
        raise WrongBaseError(f"expected a base with digest {base_digest.hex()}, found none")
    with base.open("rb", buffering=0) as store:
        try:
            yield store
        except DigestError as exc:
            found = _digest_of(store, layout)
            if found == base_digest:
                raise
            raise WrongBaseError(
                f"{base}: expected a base with digest {base_digest.hex()}, found {found.hex()}"
            ) from exc


def _digest_of(store: BinaryIO, layout: Layout) -> bytes:
    sha = hashlib.sha256(layout.fingerprint)
    store.seek(0)
    while block := store.read(HASH_READ_BYTES):
        sha.update(block)
    return sha.digest()


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

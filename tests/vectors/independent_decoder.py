"""A second decoder, written from docs/diff-format-v1.md alone: it imports nothing of diffcodec.

It shows that the document is complete, and catches a mistake that encoder and decoder share. It
is simple and slow, trusts its input, and keeps to numpy's scalar float32 for the arithmetic.
Numbers in brackets are sections of the document. Its parts, in reading order:

    independent_decoder      the file (2), the start of the result (3.1), applying (5)
    independent_header       the layout (1), the header (3)
    independent_sections     sections of coder `fast` (4.1 to 4.4)
    independent_rows         row classes (4.5), above independent_rans, their stream and models
    independent_max          arrays and bytes of coder `max` (4.6), above independent_votes
    independent_max_entries  entries of coder `max` (4.6), above the same
"""

import hashlib
import itertools
import struct

import numpy as np
import xxhash

from tests.vectors.independent_header import (
    CODEBOOK,
    HASH,
    ITEM_BYTES,
    LOSSLESS,
    LOW_RANK,
    SPARSE,
    Change,
    Entries,
    Layout,
    digest,
    fields,
    fingerprint,
    offsets,
    read_changes,
    read_tensor,
    store_bytes,
)
from tests.vectors.independent_sections import (
    Reader,
    read_arrays,
    read_bytes,
    read_entries,
    read_section,
)


def apply_file(data: bytes, layout: Layout, base: bytes) -> tuple[Layout, bytes, bytes | None]:
    """The layout, flat store and new graph that a diff file leads to, its digests checked.

    A snapshot ignores layout and base.
    """
    magic, version, reserved, header_bytes = struct.unpack_from("<8sHHI", data)
    assert (magic, version, reserved) == (b"\x8eNDIFF\r\n", 1, 0)
    assert xxhash.xxh3_128_digest(data[:-16]) == data[-16:]
    header = fields(data[16 : 16 + header_bytes])
    body = Reader(data[16 + header_bytes : -16])

    new = [read_tensor(t) for t in fields(header[4][0]).get(1, [])] if 4 in header else layout
    if 1 not in header:
        layout, base = new, bytes(store_bytes(new))
    else:
        assert digest(layout, base) == header[1][0]
    assert fingerprint(layout)[:8] == header[3][0]

    store = restructured(layout, base, new)
    for layer in header.get(5, []):
        apply_layer(fields(layer), body, new, store)
    graph = None
    if 6 in header:
        _, _, graph = read_section(header[6][0], body)
        assert hashlib.sha256(graph).digest() == header[7][0]
    body.expect_end()
    assert digest(new, bytes(store)) == header[2][0]
    return new, bytes(store), graph


def restructured(old: Layout, base: bytes, new: Layout) -> bytearray:
    """The base's elements at their own indices in the result's layout, zeros elsewhere (3.1)."""
    store = bytearray(store_bytes(new))
    at = dict(zip([t.name for t in old], zip(old, offsets(old), strict=True), strict=True))
    for tensor, offset in zip(new, offsets(new), strict=True):
        before, before_offset = at.get(tensor.name, (None, 0))
        if before is None or before.dtype != tensor.dtype or len(before.shape) != len(tensor.shape):
            continue
        assert all(o <= n for o, n in zip(before.shape, tensor.shape, strict=True))
        width = ITEM_BYTES[tensor.dtype]
        for source, index in enumerate(itertools.product(*map(range, before.shape))):
            target = 0
            for i, dimension in zip(index, tensor.shape, strict=True):
                target = target * dimension + i
            place = before_offset + source * width
            store[offset + target * width : offset + (target + 1) * width] = base[
                place : place + width
            ]
    return store


def apply_layer(layer: dict[int, list], body: Reader, layout: Layout, store: bytearray) -> None:
    changes = read_changes(layer, layout)
    seed = struct.unpack("<Q", layer[6][0])[0] if 6 in layer else 0
    sparse = [c for c in changes if c.method in (SPARSE, CODEBOOK)]
    dense = [c for c in changes if c.method in (HASH, LOW_RANK)]
    lossless = [c for c in changes if c.method == LOSSLESS]
    sections = {}
    for message in layer.get(7, []):
        kind, coder, content = read_section(message, body)
        sections[kind] = coder, content

    at = dict(zip(layout, offsets(layout), strict=True))
    for change, entries in zip(sparse, read_entries(sparse, sections), strict=True):
        apply_sparse(store, at[change.tensor], change, entries)
    for change, levels in zip(dense, read_arrays(dense, sections), strict=True):
        apply_dense = apply_hash if change.method == HASH else apply_low_rank
        apply_dense(store, at[change.tensor], change, levels, seed)
    for change, xor in zip(lossless, read_bytes(lossless, sections), strict=True):
        for i, byte in enumerate(xor):
            store[at[change.tensor] + i] ^= byte


# Applying (5)


def apply_sparse(store: bytearray, offset: int, change: Change, entries: Entries) -> None:
    for position, level in entries:
        if change.method == CODEBOOK:
            value = change.scales[abs(level) - 1] * np.float32(np.sign(level))
        else:
            value = np.float32(level) * change.scales[0]
        old = element(store, offset, change.tensor.dtype, position)
        set_element(store, offset, change.tensor.dtype, position, old + value)


def apply_hash(
    store: bytearray, offset: int, change: Change, levels: list[list[int]], seed: int
) -> None:
    name, dtype, _ = change.tensor
    a = [np.float32(level) * change.scales[0] for level in levels[0]]
    texts = [f"{name}\0{seed}\0{k}" for k in range(change.hashes)]
    seeds = [xxhash.xxh3_64_intdigest(text.encode()) for text in texts]
    for position in range(change.tensor.size):
        total = a[bucket(seeds[0], position, len(a))]
        for s in seeds[1:]:
            total = total + a[bucket(s, position, len(a))]
        old = element(store, offset, dtype, position)
        set_element(store, offset, dtype, position, old + np.abs(old) * total)


def bucket(s: int, position: int, m: int) -> int:
    a = (position * ((s >> 32) | 1) + (s & 0xFFFFFFFF)) & 0xFFFFFFFF
    a ^= a >> 16
    a = a * 0x85EBCA6B & 0xFFFFFFFF
    a ^= a >> 13
    a = a * 0xC2B2AE35 & 0xFFFFFFFF
    a ^= a >> 16
    return a * m >> 32


def apply_low_rank(
    store: bytearray, offset: int, change: Change, levels: list[list[int]], seed: int
) -> None:
    dtype, rank, (rows, columns) = change.tensor.dtype, change.count, change.tensor.matrix
    left, right = levels
    for i, j in itertools.product(range(rows), range(columns)):
        total = sum(left[i * rank + t] * right[j * rank + t] for t in range(rank))
        old = element(store, offset, dtype, i * columns + j)
        value = old + np.float32(total) * change.scales[0]
        set_element(store, offset, dtype, i * columns + j, value)


def element(store: bytearray, offset: int, dtype: int, position: int) -> np.float32:
    width = ITEM_BYTES[dtype]
    data = bytes(store[offset + position * width : offset + (position + 1) * width])
    if dtype == 3:
        return np.frombuffer(b"\0\0" + data, "<f4")[0]
    return np.float32(np.frombuffer(data, {1: "<f4", 2: "<f2", 4: "i1"}[dtype])[0])


def set_element(
    store: bytearray, offset: int, dtype: int, position: int, value: np.float32
) -> None:
    """Round to the tensor's dtype, ties to even."""
    assert np.isfinite(value)
    if dtype == 3:
        bits = struct.unpack("<I", value.tobytes())[0]
        data = struct.pack("<H", bits + 0x7FFF + (bits >> 16 & 1) >> 16)
    else:
        data = value.astype({1: "<f4", 2: "<f2", 4: "i1"}[dtype]).tobytes()
    store[offset + position * len(data) : offset + (position + 1) * len(data)] = data

"""The layout and the header of a diff file (1 and 3 of docs/diff-format-v1.md)."""

import hashlib
import math
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ITEM_BYTES = {1: 4, 2: 2, 3: 2, 4: 1}
DTYPE_NAMES = {1: "float32", 2: "float16", 3: "bfloat16", 4: "int8"}
SPARSE, HASH, LOW_RANK, LOSSLESS, CODEBOOK = 1, 2, 3, 4, 5
Entries = list[tuple[int, int]]  # position, level


class Tensor(NamedTuple):
    name: str
    dtype: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEM_BYTES[self.dtype]

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns (1)."""
        if len(self.shape) < 2:
            return 1, self.size
        splits = range(1, len(self.shape))
        pairs = [(math.prod(self.shape[:d]), math.prod(self.shape[d:])) for d in splits]
        return min(pairs, key=max)


Layout = list[Tensor]


class Change(NamedTuple):
    """What a layer's header says of one tensor that it changes."""

    tensor: Tensor
    method: int
    count: int = 0
    largest: int = 0
    scales: tuple[np.float32, ...] = ()
    hashes: int = 0

    @property
    def parts(self) -> list[int]:
        """Entries of the hash array, or of the factors U and V (3.3)."""
        if self.method == HASH:
            return [self.count]
        return [lines * self.count for lines in self.tensor.matrix]


# The layout (1)


def offsets(layout: Layout) -> list[int]:
    found, end = [], 0
    for tensor in layout:
        found.append((end + 4095) // 4096 * 4096)
        end = found[-1] + tensor.nbytes
    return found


def store_bytes(layout: Layout) -> int:
    return offsets(layout)[-1] + layout[-1].nbytes if layout else 0


def fingerprint(layout: Layout) -> bytes:
    lines = (f"{n}\t{DTYPE_NAMES[d]}\t{'x'.join(map(str, shape))}\n" for n, d, shape in layout)
    return hashlib.sha256("".join(lines).encode()).digest()


def digest(layout: Layout, store: bytes) -> bytes:
    return hashlib.sha256(fingerprint(layout) + store).digest()


# The header (3)


def read_changes(layer: dict[int, list], layout: Layout) -> list[Change]:
    """The tensors that a layer changes, in layout order (3.2)."""
    methods = packed(layer, 1)
    scaled = sum(m in (SPARSE, HASH, LOW_RANK, CODEBOOK) for m in methods)
    counts, scales = iter(packed(layer, 2)), iter(packed(layer, 4))
    largest = iter(spread(packed(layer, 3), scaled))
    hashes = iter(spread(packed(layer, 5), methods.count(HASH)))
    changes = []
    for tensor, method in zip(layout, methods, strict=True):
        if method == LOSSLESS:
            changes.append(Change(tensor, method))
        elif method:
            count, k = next(counts), next(largest)
            some = [scale(next(scales)) for _ in range(k if method == CODEBOOK else 1)]
            terms = next(hashes) if method == HASH else 0
            changes.append(Change(tensor, method, count, k, tuple(some), terms))
    return changes


def spread(items: list[int], count: int) -> list[int]:
    """Equal items are written as one."""
    return items * count if len(items) == 1 else items


def scale(number: int) -> np.float32:
    bits = int(f"{number:031b}"[::-1], 2)
    return np.frombuffer(struct.pack("<I", bits), "<f4")[0]


def read_tensor(message: bytes) -> Tensor:
    found = fields(message)
    return Tensor(found[1][0].decode(), found[2][0], tuple(packed(found, 3)))


def packed(message: dict[int, list], number: int) -> list[int]:
    items, rest = [], iter(message.get(number, [b""])[0])
    for byte in rest:
        items.append(varint(byte, rest))
    return items


def fields(message: bytes) -> dict[int, list]:
    """Protobuf fields by number: varints as int, everything else as bytes."""
    found: dict[int, list] = {}
    rest = iter(message)
    for byte in rest:
        key = varint(byte, rest)
        if key & 7 == 0:
            value = varint(next(rest), rest)
        else:
            length = {1: 8, 5: 4}.get(key & 7) or varint(next(rest), rest)
            value = bytes(next(rest) for _ in range(length))
        found.setdefault(key >> 3, []).append(value)
    return found


def varint(first: int, rest: Iterator[int]) -> int:
    value, shift = first & 0x7F, 7
    while first & 0x80:
        first = next(rest)
        value |= (first & 0x7F) << shift
        shift += 7
    return value

"""A second decoder, written from docs/diff-format-v1.md alone: it imports nothing of diffcodec.

It shows that the document is complete, and catches a mistake that encoder and decoder share. It
is simple and slow, trusts its input, and keeps to numpy's scalar float32 for the arithmetic.
"""

import hashlib
import struct
from collections.abc import Iterator

import numpy as np
import xxhash
import zstandard

ITEM_BYTES = {1: 4, 2: 2, 3: 2, 4: 1}
DTYPE_NAMES = {1: "float32", 2: "float16", 3: "bfloat16", 4: "int8"}
Spec = tuple[str, int, tuple[int, ...]]  # name, dtype number, shape


def apply_file(data: bytes, layout: list[Spec], base: bytes) -> tuple[list[Spec], bytes]:
    """The layout and flat store that a diff file leads to, its digests checked.

    A snapshot ignores layout and base.
    """
    magic, version, reserved, header_bytes = struct.unpack_from("<8sHHI", data)
    assert (magic, version, reserved) == (b"\x8eNDIFF\r\n", 1, 0)
    assert xxhash.xxh3_128_digest(data[:-16]) == data[-16:]
    header = fields(data[16 : 16 + header_bytes])
    if 1 in header:
        assert digest(layout, base) == header[1][0]
    else:
        layout = [read_spec(fields(t)) for t in fields(header[4][0]).get(1, [])]
        base = bytes(file_bytes(layout))
    assert fingerprint(layout) == header[3][0]

    sections, bits, at = {}, {}, 16 + header_bytes
    for message in map(fields, header.get(6, [])):
        kind, coded_length = message[1][0], message[4][0]
        sections[kind] = iter(zstandard.decompress(data[at : at + coded_length]))
        bits[kind] = message.get(5, [0])[0]
        assert message[2][0] == 1
        at += coded_length
    assert at == len(data) - 16

    seed = struct.unpack("<Q", header[7][0])[0] if 7 in header else 0
    store = bytearray(base)
    for record, spec, offset in zip(
        map(fields, header.get(5, [])), layout, offsets(layout), strict=True
    ):
        change = {0: unchanged, 1: sparse, 2: hashed, 4: lossless}[record.get(1, [0])[0]]
        change(store, offset, spec, record, sections, bits, seed)
    assert all(next(section, None) is None for section in sections.values())
    assert digest(layout, bytes(store)) == header[2][0]
    return layout, bytes(store)


def unchanged(*_) -> None:
    pass


def sparse(store, offset, spec, record, sections, bits, seed) -> None:
    count, step = record[2][0], step_of(record)
    symbols = unpack(sections[2], count, bits[2])
    position = -1
    for symbol in symbols:
        position += 1
        while (gap := next(sections[1])) == 255:
            position += 255
        position += gap
        level = (symbol // 2 + 1) * (-1 if symbol % 2 else 1)
        place = offset + 4 * position
        value = np.frombuffer(store[place : place + 4], "<f4")[0]
        value = value + np.float32(level) * step
        store[place : place + 4] = value.tobytes()


def hashed(store, offset, spec, record, sections, bits, seed) -> None:
    m, step, hashes = record[2][0], step_of(record), record[5][0]
    symbols = unpack(sections[3], m, bits[3])
    a = [np.float32((s + 1) // 2 * (1 if s % 2 else -1)) * step for s in symbols]
    seeds = [xxhash.xxh3_64_intdigest(f"{spec[0]}\0{seed}\0{k}".encode()) for k in range(hashes)]
    for position in range(size(spec)):
        place = offset + 4 * position
        value = np.frombuffer(store[place : place + 4], "<f4")[0]
        total = a[bucket(seeds[0], position, m)]
        for s in seeds[1:]:
            total = total + a[bucket(s, position, m)]
        value = value + np.abs(value) * total
        store[place : place + 4] = value.tobytes()


def lossless(store, offset, spec, record, sections, bits, seed) -> None:
    width = ITEM_BYTES[spec[1]]
    for start in range(0, size(spec), 131_072):
        elements = min(131_072, size(spec) - start)
        for plane in range(width):
            for element in range(elements):
                store[offset + (start + element) * width + plane] ^= next(sections[4])


def bucket(s: int, position: int, m: int) -> int:
    a = (position * ((s >> 32) | 1) + (s & 0xFFFFFFFF)) & 0xFFFFFFFF
    a ^= a >> 16
    a = a * 0x85EBCA6B & 0xFFFFFFFF
    a ^= a >> 13
    a = a * 0xC2B2AE35 & 0xFFFFFFFF
    a ^= a >> 16
    return a * m >> 32


def unpack(section: Iterator[int], count: int, bits: int) -> list[int]:
    symbols: list[int] = []
    while len(symbols) < count:
        byte = next(section)
        symbols += [byte >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
    assert not any(symbols[count:])
    return symbols[:count]


def step_of(record) -> np.float32:
    return np.frombuffer(record[4][0], "<f4")[0]


def size(spec: Spec) -> int:
    return int(np.prod(spec[2], dtype=object))


def offsets(layout: list[Spec]) -> list[int]:
    found, end = [], 0
    for spec in layout:
        found.append((end + 4095) // 4096 * 4096)
        end = found[-1] + size(spec) * ITEM_BYTES[spec[1]]
    return found


def file_bytes(layout: list[Spec]) -> int:
    return offsets(layout)[-1] + size(layout[-1]) * ITEM_BYTES[layout[-1][1]] if layout else 0


def fingerprint(layout: list[Spec]) -> bytes:
    lines = (f"{n}\t{DTYPE_NAMES[d]}\t{'x'.join(map(str, shape))}\n" for n, d, shape in layout)
    return hashlib.sha256("".join(lines).encode()).digest()


def digest(layout: list[Spec], store: bytes) -> bytes:
    return hashlib.sha256(fingerprint(layout) + store).digest()


def read_spec(message: dict) -> Spec:
    shape = []
    packed = iter(message.get(3, [b""])[0])
    for byte in packed:
        shape.append(varint(byte, packed))
    return message[1][0].decode(), message[2][0], tuple(shape)


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

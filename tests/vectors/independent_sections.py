"""The sections of a diff file (3.3 and 4 of docs/diff-format-v1.md) but 4.5 and 4.6."""

import zstandard

from tests.vectors import independent_max, independent_max_entries, independent_rows
from tests.vectors.independent_header import ITEM_BYTES, Change, Entries, fields

GAPS, LEVELS, ENTRIES, ARRAYS, BYTES = 1, 2, 3, 4, 5
FAST, MAX = 1, 2
Sections = dict[int, tuple[int, bytes]]  # coder and content by kind


class Reader:
    """Bytes taken from the front."""

    def __init__(self, data: bytes):
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        assert self.at <= len(self.data)
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def expect_end(self) -> None:
        assert self.at == len(self.data)


def read_section(message: bytes, body: Reader) -> tuple[int, int, bytes]:
    """A section's kind, its coder and its bytes, those of zstd unpacked (3.3)."""
    section = fields(message)
    kind, coder, raw_length = section[1][0], section[2][0], section.get(3, [0])[0]
    content = body.take(section[4][0])
    if coder == FAST and kind != ENTRIES:
        content = zstandard.decompress(content)
        assert len(content) == raw_length
    return kind, coder, content


def read_entries(sparse: list[Change], sections: Sections) -> list[Entries]:
    """Positions and levels of every sparse tensor (4.1, 4.2, or 4.5, or 4.6)."""
    if not sparse:
        return []
    if ENTRIES in sections:
        coder, content = sections[ENTRIES]
        decode = (
            independent_rows.decode if coder == FAST else independent_max_entries.decode_entries
        )
        return decode(content, sparse)
    gaps, symbols = (Reader(sections[kind][1]) for kind in (GAPS, LEVELS))
    found = []
    for change in sparse:
        position, entries = -1, []
        for symbol in unpack(symbols, change.count, 2 * change.largest):
            position += 1
            while (gap := gaps.byte()) == 255:
                position += 255
            position += gap
            entries.append((position, (symbol // 2 + 1) * (-1 if symbol % 2 else 1)))
        found.append(entries)
    gaps.expect_end()
    symbols.expect_end()
    return found


def read_arrays(dense: list[Change], sections: Sections) -> list[list[list[int]]]:
    """The levels of every hash array, and of both factors of every low-rank tensor (4.3)."""
    if not dense:
        return []
    coder, content = sections[ARRAYS]
    if coder == MAX:
        return independent_max.decode_arrays(content, dense)
    symbols, found = Reader(content), []
    for change in dense:
        values = [unpack(symbols, length, 2 * change.largest + 1) for length in change.parts]
        found.append([[(s + 1) // 2 * (1 if s % 2 else -1) for s in part] for part in values])
    symbols.expect_end()
    return found


def read_bytes(lossless: list[Change], sections: Sections) -> list[bytes]:
    """The XOR of every lossless tensor, its byte planes put together again (4.4)."""
    if not lossless:
        return []
    coder, content = sections[BYTES]
    if coder == MAX:
        return independent_max.decode_bytes(content, lossless)
    planes, found = Reader(content), []
    for tensor, *_ in lossless:
        xor, width = bytearray(tensor.nbytes), ITEM_BYTES[tensor.dtype]
        for start in range(0, tensor.size, 131_072):
            stop = min(start + 131_072, tensor.size)
            for plane in range(width):
                for element in range(start, stop):
                    xor[element * width + plane] = planes.byte()
        found.append(bytes(xor))
    planes.expect_end()
    return found


def unpack(section: Reader, count: int, alphabet: int) -> list[int]:
    bits = next(b for b in (1, 2, 4, 8) if alphabet <= 2**b)
    symbols: list[int] = []
    while len(symbols) < count:
        byte = section.byte()
        symbols += [byte >> shift & (1 << bits) - 1 for shift in range(0, 8, bits)]
    assert not any(symbols[count:])
    return symbols[:count]

"""Arrays and bytes of coder `max` (4.6 of docs/diff-format-v1.md), one level or element in turn."""

from tests.vectors.independent_header import HASH, ITEM_BYTES, Change
from tests.vectors.independent_votes import RangeDecoder, Votes

LEAST_RATE = 96


def decode_arrays(section: bytes, dense: list[Change]) -> list[list[list[int]]]:
    """The levels of every part of every hash or low-rank tensor."""
    stream = RangeDecoder(section)
    arrays = Arrays(stream)
    found = []
    for change in dense:
        width = change.count if change.method != HASH and change.count > 1 else 0
        found.append([arrays.part(length, change.largest, width) for length in change.parts])
    stream.expect_end()
    return found


class Arrays:
    """The three questions of a level."""

    def __init__(self, stream: RangeDecoder):
        self.other, self.positive, self.magnitude = (Votes(stream, LEAST_RATE) for _ in range(3))

    def part(self, length: int, largest: int, width: int) -> list[int]:
        levels: list[int] = []
        for i in range(length):
            x, y = earlier(levels, 1), earlier(levels, 2)
            u = earlier(levels, width) if width else 0
            column = i % width if width else 0
            levels.append(self.level(x, y, u, column, largest))
        return levels

    def level(self, x: int, y: int, u: int, column: int, largest: int) -> int:
        lx, ly, lu = (abs(level).bit_length() for level in (x, y, u))
        t = (abs(x) + abs(y) + 2 * abs(u)).bit_length()
        if not self.other.bit((0, 8 * lx + ly, lu, min(column, 63), t)):
            return 0
        sx, sy, su = map(sign_class, (x, y, u))
        is_positive = self.positive.bit((0, 3 * sx + sy, su, min(column, 63), 3 * sx + su))
        digits = (largest - 1).bit_length()
        magnitude = 1 + self.magnitude.number(largest - 1, digits, (0, lx, lu, min(column, 9), t))
        return magnitude if is_positive else -magnitude


def sign_class(level: int) -> int:
    return 0 if level == 0 else 1 if level > 0 else 2


def earlier(items: list[int], back: int) -> int:
    return items[-back] if len(items) >= back else 0


def decode_bytes(section: bytes, lossless: list[Change]) -> list[bytes]:
    """The XOR of every lossless tensor, in the order of its elements."""
    stream = RangeDecoder(section)
    elements, found = Elements(stream), []
    for tensor, *_ in lossless:
        columns = tensor.matrix[1]
        width = columns if len(tensor.shape) >= 2 and 2 <= columns <= 2**20 else 0
        item_bytes = ITEM_BYTES[tensor.dtype]
        numbers = elements.tensor(tensor.size, item_bytes, width)
        found.append(b"".join(e.to_bytes(item_bytes, "little") for e in numbers))
    stream.expect_end()
    return found


class Elements:
    """The questions of an element of lossless tensors."""

    def __init__(self, stream: RangeDecoder):
        self.stream = stream
        self.other, self.length, self.high, self.zero_byte = (
            Votes(stream, LEAST_RATE) for _ in range(4)
        )

    def tensor(self, size: int, item_bytes: int, width: int) -> list[int]:
        found: list[int] = []
        lengths: list[int] = []
        h = z = 0
        for _ in range(size):
            x, y = earlier(lengths, 1), earlier(lengths, 2)
            u = earlier(lengths, width) if width else 0
            e, z = self.element(item_bytes, x, y, u, h, z)
            h = (2 * h + (e == 0)) % 32
            found.append(e)
            lengths.append(e.bit_length())
        return found

    def element(self, item_bytes: int, x: int, y: int, u: int, h: int, z: int) -> tuple[int, int]:
        """The next element, and the next z."""
        c = 5 * (x // 8) + u // 8
        if not self.other.bit((0, x, u, h, 10 * (x == 0) + 5 * (y == 0) + (u + 7) // 8)):
            return 0, z
        length = 1 + self.length_less_one(
            {1: 3, 2: 4, 4: 5}[item_bytes], (0, x, u, (x + y) // 2, c)
        )
        classes = (0, length, x, u, c)
        node, a = 1, min(length - 1, {1: 7, 2: 4, 4: 3}[item_bytes])
        for _ in range(a):
            node = 2 * node + self.high.bit([(k, node) for k in classes])
        r, k = length - 1 - a, 0
        while r - 8 * k >= 8 and self.zero_byte.bit([(i, k) for i in (0, length, x, z, c)]):
            k += 1
        return node << r | self.raw(r - 8 * k) << 8 * k, k

    def length_less_one(self, digits: int, classes: tuple[int, ...]) -> int:
        node = 1
        for _ in range(digits):
            node = 2 * node + self.length.bit([(k, node) for k in classes])
        return node - 2**digits

    def raw(self, digits: int) -> int:
        rest = 0
        while digits > 16:
            rest, digits = rest << 16 | self.stream.raw(16), digits - 16
        return rest << digits | self.stream.raw(digits) if digits else rest

"""The coder `max` once more, in slow plain Python: decoders that prove the format.

Written to be read beside docs/diff-format-v1.md and note.md, and to be checked against the C
extension; a thousand times slower than it. Integers are Python's own, `>>` rounds downwards.
Here are the range decoder, the votes, symbols and bytes; reference_sparse.py has the rest.

    levels = decode_sparse(coded, [((512, 80), 3_000, 15)])     # dense levels of each tensor
"""

from collections.abc import Sequence

from diffcodec.coders.max.tables import SQUASH
from diffcodec.errors import FormatError

ONE = 65_536
MASK_64 = 2**64 - 1
SQUASH_HALF = 11 * 128
VOTERS = 5
SEEN_MOST = 255
LEAST_SPARSE, LEAST_STREAM = 768, 96
VOTE_LIMIT = 8 * ONE


def clamp(value: int, limit: int) -> int:
    """The value, brought into -limit..limit."""
    return max(-limit, min(limit, value))


def squash_table() -> list[int]:
    """65536 / (1 + exp(-x)) for x = (i + 1/2 - 1408) / 128, by lines between the constants."""
    small = []
    for i in range(SQUASH_HALF):
        anchor, twice = i // 16, 2 * (i % 16) + 1
        small.append((SQUASH[anchor] * (32 - twice) + SQUASH[anchor + 1] * twice + 16) // 32)
    return small[::-1] + [ONE - p for p in small]


TABLE = squash_table()


def squash(logit: int) -> int:
    """The probability of a logit, 1..65535 of 65,536."""
    return TABLE[max(0, min(len(TABLE) - 1, (logit >> 9) + SQUASH_HALF))]


# As a value it is the whole range, which no interval holds.
NO_START = bytes([255] * 8)


class RangeDecoder:
    """The binary range decoder over a whole stream of coded bytes."""

    def __init__(self, coded: bytes) -> None:
        if coded and coded[-1] == 0:
            raise FormatError("expected coded bytes that end in no zero, found a last byte of 0")
        if coded.startswith(NO_START):
            raise FormatError(f"expected coded bytes that do not start with {NO_START.hex()}")
        self._coded, self._at = coded, 8
        self._window = int.from_bytes(coded[:8].ljust(8, b"\0"), "big")
        self._value, self._range = self._window, MASK_64

    def bit(self, p: int) -> int:
        """One bit that is 1 with probability p / 65536."""
        bound = (self._range >> 16) * p
        bit = int(self._value < bound)
        if bit:
            self._range = bound
        else:
            self._value -= bound
            self._range -= bound
        self._renormalise()
        return bit

    def raw(self, bits: int) -> int:
        """A number of 0..16 bits, all equally likely."""
        part = self._range >> bits
        number = min(self._value // part, (1 << bits) - 1)
        self._value -= part * number
        is_last = number == (1 << bits) - 1
        self._range = self._range - part * number if is_last else part
        self._renormalise()
        return number

    def finish(self) -> None:
        """Require the end of the bytes, and that they are the shortest for what they say."""
        if self._at < len(self._coded):
            left = len(self._coded) - self._at
            raise FormatError(f"expected the end of the coded bytes, found {left} more")
        low = (self._window - self._value) & MASK_64
        if self._value >= self._range or shortest(low, self._range) != self._window:
            raise FormatError("expected the shortest ending of the coded bytes, found another")

    def _renormalise(self) -> None:
        if self._range < 2**32:
            word = int.from_bytes(self._coded[self._at : self._at + 4].ljust(4, b"\0"), "big")
            self._at += 4
            self._window = (self._window << 32 | word) & MASK_64
            self._value = (self._value << 32 | word) & MASK_64
            self._range <<= 32


def shortest(low: int, size: int) -> int:
    """The value with most trailing zero bytes in [low, low + size), modulo 2^64."""
    for cleared in range(8):
        mask = MASK_64 >> (8 * cleared)
        value = (low + mask) & MASK_64 & ~mask
        if (value - low) & MASK_64 < size:
            return value
    return low


class Votes:
    """Tables of logits; one bit's logit is the sum of one entry of each table."""

    def __init__(self, least: int = LEAST_STREAM) -> None:
        self._rates = [max(least, 3 * 16_384 // (2 * n + 3)) for n in range(SEEN_MOST + 1)]
        self._logits: list[dict[object, int]] = [{} for _ in range(VOTERS)]
        self._seen: list[dict[object, int]] = [{} for _ in range(VOTERS)]

    def bit(self, coder: RangeDecoder, contexts: Sequence[object]) -> int:
        """Decode one bit; every entry learns from the common error."""
        p = squash(sum(t.get(c, 0) for t, c in zip(self._logits, contexts, strict=True)))
        bit = coder.bit(p)
        error = bit * ONE - p
        for logits, seen, context in zip(self._logits, self._seen, contexts, strict=True):
            count = seen.get(context, 0)
            logit = logits.get(context, 0) + (error * self._rates[count] >> 14)
            logits[context] = clamp(logit, VOTE_LIMIT)
            seen[context] = min(SEEN_MOST, count + 1)
        return bit

    def number(
        self,
        coder: RangeDecoder,
        classes: Sequence[int],
        bits: int,
        most: int,
        start: int = 1,
        *,
        is_shared: bool = False,
    ) -> int:
        """A number 0..most of so many bits, highest first; every bit sees those before it.

        Numbers of different lengths have votes of their own, unless they are to share them.
        """
        depth = 0 if is_shared else bits
        node, value = start, 0
        for at in reversed(range(bits)):
            bit = 0
            if value | 1 << at <= most:
                bit = self.bit(coder, [(c, depth, node) for c in classes])
            node = 2 * node + bit
            value |= bit << at
        return value

    def doubt(self, bits: int, most: int) -> None:
        """Let the entries of numbers of so many bits have seen at most that much."""
        for seen in self._seen:
            for context, count in seen.items():
                if isinstance(context, tuple) and context[1] == bits:
                    seen[context] = min(count, most)


def sign_class(level: int) -> int:
    """0, 1, 2 for zero, positive, negative."""
    return 0 if level == 0 else 1 if level > 0 else 2


def decode_symbols(coded: bytes, arrays: Sequence[tuple[int, int, int]]) -> list[list[int]]:
    """The levels of arrays, each described by (size, largest, width).

    Raises:
        FormatError: the bytes are not what an encoder writes.
    """
    coder = RangeDecoder(coded)
    zero, sign, magnitude = Votes(), Votes(), Votes()
    results = []
    for size, largest, width in arrays:
        levels: list[int] = []
        for at in range(size):
            before = levels[-1] if at > 0 else 0
            before_that = levels[-2] if at > 1 else 0
            above = levels[at - width] if width > 1 and at >= width else 0
            column = at % width if width > 1 else 0
            lengths = [abs(level).bit_length() for level in (before, before_that, above)]
            total = (abs(before) + abs(before_that) + 2 * abs(above)).bit_length()
            contexts = [0, lengths[0] * 8 + lengths[1], lengths[2], min(column, 63), total]
            if not zero.bit(coder, contexts):
                levels.append(0)
                continue
            signs = [sign_class(level) for level in (before, before_that, above)]
            is_positive = sign.bit(
                coder,
                [0, signs[0] * 3 + signs[1], signs[2], min(column, 63), signs[0] * 3 + signs[2]],
            )
            classes = [0, lengths[0], lengths[2], min(column, 9), total]
            value = 1 + magnitude.number(coder, classes, (largest - 1).bit_length(), largest - 1)
            levels.append(value if is_positive else -value)
        results.append(levels)
    coder.finish()
    return results


def decode_bytes(coded: bytes, tensors: Sequence[tuple[int, int, int]]) -> list[bytes]:
    """The XOR bytes of tensors, each described by (bytes, item size, width).

    Raises:
        FormatError: the bytes are not what an encoder writes.
    """
    coder = RangeDecoder(coded)
    zero, length_votes, head_votes, tail_votes = Votes(), Votes(), Votes(), Votes()
    results = []
    for nbytes, itemsize, width in tensors:
        data = bytearray()
        lengths: list[int] = []
        zeros = tail_before = 0
        for at in range(nbytes // itemsize):
            before = lengths[-1] if at > 0 else 0
            before_that = lengths[-2] if at > 1 else 0
            above = lengths[at - width] if width > 1 and at >= width else 0
            coarse = before // 8 * 5 + above // 8
            joint = (before == 0) * 10 + (before_that == 0) * 5 + (above + 7) // 8
            value = length = 0
            if zero.bit(coder, [0, before, above, zeros, joint]):
                bits = {1: 3, 2: 4, 4: 5}[itemsize]
                classes = [0, before, above, (before + before_that) // 2, coarse]
                most = 2**bits - 1
                length = 1 + length_votes.number(coder, classes, bits, most, is_shared=True)
                head = min(length - 1, {1: 7, 2: 4, 4: 3}[itemsize])
                tail = length - 1 - head
                value = 1
                for _ in range(head):
                    about = [0, length, before, above, coarse]
                    value = 2 * value + head_votes.bit(coder, [(c, value) for c in about])
                empty = 0
                while tail - 8 * empty >= 8:
                    about = [0, length, before, tail_before, coarse]
                    if not tail_votes.bit(coder, [(c, empty) for c in about]):
                        break
                    empty += 1
                tail_before = empty
                value <<= tail
                noise = tail - 8 * empty
                rest = 0
                while noise > 0:
                    now = min(noise, 16)
                    noise -= now
                    rest = rest << now | coder.raw(now)
                value |= rest << (8 * empty)
            data += value.to_bytes(itemsize, "little")
            lengths.append(length)
            zeros = (zeros << 1 | (length == 0)) & 31
        results.append(bytes(data))
    coder.finish()
    return results

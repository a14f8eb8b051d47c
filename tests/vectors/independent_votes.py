"""What the sections of coder `max` share (4.6 of docs/diff-format-v1.md): range decoder and votes.

Names are the document's where it gives any.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split()]


S = numbers("""
    32768 30723 28693 26695 24743 22849 21025 19282 17625 16062 14595 13226 11955 10782 9702 8714
    7812 6992 6249 5577 4971 4427 3938 3500 3108 2758 2446 2168 1921 1701 1506 1333 1179 1042 922
    815 720 636 562 497 439 387 342 302 267 236 208 184 162 143 126 111 98 87 77 68 60 53 47 41 36
    32 28 25 22 19 17 15 13 12 10 9 8 7 6 6 5 4 4 3 3 3 2 2 2 2 1 1 1
""")
E = numbers("""
    65535 65534 65534 65533 65531 65529 65526 65522 65516 65508 65496 65480 65456 65424 65376
    65312 65217 65090 64899 64646 64268 63768 63025 62048 60611 58746 56056 52660 47947 42313
    35079 27319 18776 11388 5380 1979 442 60 3 1
""")
L = numbers("""
    327680 327680 327680 327680 327680 327680 327680 327680 327680 327680 327680 324128 307774
    292349 276004 260590 244261 228870 212575 197229 181000 165743 149648 134568 118737 104007
    88695 74648 60341 47594 35153 24742 15487 8757 3929 1407 310 42 2 0
""")
CONSTANTS_SHA256 = "3668f5c418299edf13557c7cf6c40363f017c00715a1d5db8c15d92500b580ba"
assert hashlib.sha256("".join(f"{n}\n" for n in S + E + L).encode()).hexdigest() == CONSTANTS_SHA256


def within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def clamp(value: int, limit: int) -> int:
    return within(value, -limit, limit)


def logistic_table() -> list[int]:
    table = [0] * 2816
    for i in range(1408):
        a, t = i // 16, 2 * (i % 16) + 1
        s = (S[a] * (32 - t) + S[a + 1] * t + 16) // 32
        table[1407 - i], table[1408 + i] = s, 65536 - s
    return table


T = logistic_table()


def probability(logit: int) -> int:
    return T[within((logit >> 9) + 1408, 0, 2815)]


class RangeDecoder:
    """Bits and raw numbers of one section."""

    def __init__(self, section: bytes):
        self.section, self.at = section, 0
        self.window = self.value = self.take(8)
        self.range = 2**64 - 1

    def take(self, count: int) -> int:
        taken = self.section[self.at :][:count]
        self.at += count
        return int.from_bytes(taken.ljust(count, b"\0"), "big")

    def bit(self, p: int) -> int:
        t = (self.range >> 16) * p
        is_one = self.value < t
        if is_one:
            self.range = t
        else:
            self.value, self.range = self.value - t, self.range - t
        self.settle()
        return int(is_one)

    def raw(self, n: int) -> int:
        t = self.range >> n
        v = min(self.value // t, 2**n - 1)
        self.value -= t * v
        self.range = self.range - t * v if v == 2**n - 1 else t
        self.settle()
        return v

    def settle(self) -> None:
        if self.range < 2**32:
            word = self.take(4)
            self.range = self.range * 2**32 % 2**64
            self.value = (self.value * 2**32 + word) % 2**64
            self.window = (self.window * 2**32 + word) % 2**64

    def expect_end(self) -> None:
        assert self.at >= len(self.section)
        assert not self.section.endswith(b"\0")
        assert self.value < self.range
        low = (self.window - self.value) % 2**64
        for c in range(5):
            unit = 2 ** (64 - 8 * c)
            z = -(-low // unit) * unit % 2**64
            if (z - low) % 2**64 < self.range:
                assert self.window == z
                return
        raise AssertionError("no ending is short enough")


class Votes:
    """Questions of one kind, in five tables of logits and counts."""

    def __init__(self, stream: RangeDecoder, least_rate: int):
        self.stream, self.least_rate = stream, least_rate
        self.tables: list[dict] = [defaultdict(lambda: [0, 0]) for _ in range(5)]

    def bit(self, contexts: Sequence) -> int:
        votes = [table[context] for table, context in zip(self.tables, contexts, strict=True)]
        p = probability(sum(v for v, _ in votes))
        b = self.stream.bit(p)
        for vote in votes:
            v, n = vote
            rate = max(self.least_rate, 49152 // (2 * n + 3))
            vote[:] = clamp(v + (((65536 * b - p) * rate) >> 14), 524288), min(255, n + 1)
        return b

    def number(self, most: int, digits: int, classes: Sequence) -> int:
        node, v = 1, 0
        for k in range(digits - 1, -1, -1):
            b = 0
            if v + 2**k <= most:
                b = self.bit([(c, digits, node) for c in classes])
            node, v = 2 * node + b, v + b * 2**k
        return v

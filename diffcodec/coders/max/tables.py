"""The integer constants of the coder `max`, and the C header that holds the same numbers.

All that needs a logarithm or an exponential was computed once and stands here as integers, so
that every machine codes alike. The rest of the coder's tables are integer quotients, computed
where they are needed.

    python -m diffcodec.coders.max.tables          # write _mixing_tables.h again
"""

import hashlib
from pathlib import Path

# round(65536 / (1 + exp(x / 8))) for x = 0..88: the smaller probability at distance x / 8 from
# even odds, in nats, out of 65,536.
# fmt: off
SQUASH = (
    32768, 30723, 28693, 26695, 24743, 22849, 21025, 19282, 17625, 16062, 14595, 13226, 11955,
    10782, 9702, 8714, 7812, 6992, 6249, 5577, 4971, 4427, 3938, 3500, 3108, 2758, 2446, 2168,
    1921, 1701, 1506, 1333, 1179, 1042, 922, 815, 720, 636, 562, 497, 439, 387, 342, 302, 267,
    236, 208, 184, 162, 143, 126, 111, 98, 87, 77, 68, 60, 53, 47, 41, 36, 32, 28, 25, 22, 19,
    17, 15, 13, 12, 10, 9, 8, 7, 6, 6, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1,
)
# The prior of "all elements of this segment are zero", exp(-m), out of 65,536, where m is the
# expected number of non-zeros: entry 2k + f stands for m = 1.25 or 1.75 (f = 0, 1) x 2^(k - 16).
EMPTY = (
    65535, 65534, 65534, 65533, 65531, 65529, 65526, 65522, 65516, 65508, 65496, 65480, 65456,
    65424, 65376, 65312, 65217, 65090, 64899, 64646, 64268, 63768, 63025, 62048, 60611, 58746,
    56056, 52660, 47947, 42313, 35079, 27319, 18776, 11388, 5380, 1979, 442, 60, 3, 1,
)
# Once a segment is known not to be empty: 0.7 x -ln(1 - exp(-m)) in nats x 65,536, at most 5
# nats: how much likelier every element of it has become.
LIFT = (
    327680, 327680, 327680, 327680, 327680, 327680, 327680, 327680, 327680, 327680, 327680,
    324128, 307774, 292349, 276004, 260590, 244261, 228870, 212575, 197229, 181000, 165743,
    149648, 134568, 118737, 104007, 88695, 74648, 60341, 47594, 35153, 24742, 15487, 8757, 3929,
    1407, 310, 42, 2, 0,
)
# fmt: on
CHECKSUM = "3668f5c418299edf13557c7cf6c40363f017c00715a1d5db8c15d92500b580ba"

HEADER = Path(__file__).with_name("_mixing_tables.h")


def checksum() -> str:
    """SHA-256 of all tables, as their decimal numbers in order, one to a line."""
    lines = "".join(f"{number}\n" for number in (*SQUASH, *EMPTY, *LIFT))
    return hashlib.sha256(lines.encode()).hexdigest()


def header() -> str:
    """The text of the C header."""
    parts = [
        "/* Written by `python -m diffcodec.coders.max.tables`; the meaning stands there. */\n"
    ]
    for name, kind, table in (
        ("SQUASH", "uint16_t", SQUASH),
        ("EMPTY", "uint16_t", EMPTY),
        ("LIFT", "int32_t", LIFT),
    ):
        rows = [
            "    " + ", ".join(str(number) for number in table[at : at + 12]) + ",\n"
            for at in range(0, len(table), 12)
        ]
        parts.append(f"static const {kind} {name}[{len(table)}] = {{\n{''.join(rows)}}};\n")
    return "\n".join(parts)


if __name__ == "__main__":
    HEADER.write_text(header(), encoding="utf-8")

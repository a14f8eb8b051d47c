"""Levels as symbols of 1, 2, 4 or 8 bits.

Few levels are the usual case, and zstd spends at least one bit a byte: packing several into a
byte lets it code them together. Bits are filled from the lowest; a tensor starts on a new byte.

    sparse: level 1, -1, 2, -2, ... is symbol 0, 1, 2, 3, ...   (zero cannot be written)
    hash:   level 0, 1, -1, 2, -2, ... is symbol 0, 1, 2, 3, ...
"""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffcodec.errors import FormatError

LEVEL_BITS = (1, 2, 4, 8)
# -128 has no positive counterpart; a symmetric range keeps every level's negative.
MAX_LEVEL = 127

Levels: TypeAlias = NDArray[np.int8]
Symbols: TypeAlias = NDArray[np.uint8]


def sparse_symbols(levels: Levels) -> Symbols:
    """Symbols of non-zero levels: 0 to 253."""
    magnitude = np.abs(levels).astype(np.uint8)
    return (magnitude - 1) * np.uint8(2) + (levels < 0)


def sparse_levels(symbols: Symbols) -> Levels:
    """The inverse of `sparse_symbols`.

    Raises:
        FormatError: a symbol stands for a magnitude above 127.
    """
    return _signed((symbols >> 1).astype(np.int16) + 1, (symbols & 1).astype(bool))


def hash_symbols(levels: Levels) -> Symbols:
    """Symbols of levels that may be zero: 0 to 254."""
    magnitude = np.abs(levels).astype(np.uint8)
    return magnitude * np.uint8(2) - (levels > 0)


def hash_levels(symbols: Symbols) -> Levels:
    """The inverse of `hash_symbols`.

    Raises:
        FormatError: a symbol stands for a magnitude above 127.
    """
    return _signed((symbols.astype(np.int16) + 1) >> 1, (symbols & 1) == 0)


def bits_for(symbols: Iterable[Symbols]) -> int:
    """The fewest of 1, 2, 4, 8 bits that hold every symbol."""
    largest = max((int(part.max()) for part in symbols if part.size), default=0)
    return next(bits for bits in LEVEL_BITS if largest < 1 << bits)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that count symbols take."""
    return -(-count * bits // 8)


def pack(symbols: Symbols, bits: int) -> Symbols:
    """Pack symbols, the first into the lowest bits; the last byte is filled up with zeros."""
    each = 8 // bits
    padded = np.zeros(packed_bytes(symbols.size, bits) * each, dtype=np.uint8)
    padded[: symbols.size] = symbols
    packed = padded[::each].copy()
    for place in range(1, each):
        packed |= padded[place::each] << np.uint8(place * bits)
    return packed


def unpack(packed: Symbols, bits: int) -> Symbols:
    """All symbols in some bytes, those that only fill up included."""
    each = 8 // bits
    symbols = np.empty(packed.size * each, dtype=np.uint8)
    for place in range(each):
        symbols[place::each] = (packed >> np.uint8(place * bits)) & np.uint8((1 << bits) - 1)
    return symbols


def _signed(magnitudes: NDArray[np.int16], is_negative: NDArray[np.bool_]) -> Levels:
    if magnitudes.size and magnitudes.max() > MAX_LEVEL:
        raise FormatError(
            f"expected levels of magnitude up to {MAX_LEVEL}, found {magnitudes.max()}"
        )
    return np.where(is_negative, -magnitudes, magnitudes).astype(np.int8)

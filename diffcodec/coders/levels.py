"""Levels as symbols of 1, 2, 4 or 8 bits.

Few levels are the usual case, and zstd spends at least one bit a byte: packing several into a
byte lets it code them together. Bits are filled from the lowest; a tensor starts on a new byte.

    sparse: level 1, -1, 2, -2, ... is symbol 0, 1, 2, 3, ...   (zero cannot be written)
    array:  level 0, 1, -1, 2, -2, ... is symbol 0, 1, 2, 3, ...
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

# A byte holds whole symbols.
LEVEL_BITS = (1, 2, 4, 8)

Levels: TypeAlias = NDArray[np.int8]
Symbols: TypeAlias = NDArray[np.uint8]


def sparse_bits(largest: int) -> int:
    """Bits of a symbol of levels -K..-1 and 1..K."""
    return _bits_of(2 * largest)


def array_bits(largest: int) -> int:
    """Bits of a symbol of levels -K..K."""
    return _bits_of(2 * largest + 1)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that count symbols take."""
    return -(-count * bits // 8)


def sparse_symbols(levels: Levels) -> Symbols:
    """Symbols of non-zero levels: 0 to 253."""
    magnitude = np.abs(levels).astype(np.uint8)
    return (magnitude - np.uint8(1)) * np.uint8(2) + (levels < 0).astype(np.uint8)


def sparse_levels(symbols: Symbols) -> Levels:
    """The inverse of `sparse_symbols`."""
    return _signed((symbols >> np.uint8(1)) + np.uint8(1), (symbols & 1).astype(bool))


def array_symbols(levels: Levels) -> Symbols:
    """Symbols of levels that may be zero: 0 to 254."""
    magnitude = np.abs(levels).astype(np.uint8)
    return magnitude * np.uint8(2) - (levels > 0).astype(np.uint8)


def array_levels(symbols: Symbols) -> Levels:
    """The inverse of `array_symbols`."""
    return _signed((symbols >> np.uint8(1)) + (symbols & np.uint8(1)), (symbols & 1) == 0)


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


def _bits_of(symbols: int) -> int:
    return next(bits for bits in LEVEL_BITS if symbols <= 1 << bits)


def _signed(magnitudes: Symbols, is_negative: NDArray[np.bool_]) -> Levels:
    # Two's complement: -x is ~x + 1.
    negative = is_negative.view(np.int8)
    levels: Levels = (magnitudes.view(np.int8) ^ -negative) + negative
    return levels

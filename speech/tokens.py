"""Phrases as token sequences for the text encoder of a spoken-command model.

Neither way needs a vocabulary file on the way to the device, so a phrase that a later generation
adds, in any language, costs nothing but itself:

    bytes         the bytes of its UTF-8 form; 256 embedding rows
    pieces-4500   pieces of words, each hashed to one of 4,500 rows: an embedding of the size of
                  the neural diff paper's word pieces (4.2), and shorter sequences

A card names the way of its model.

    >>> encode_text("on")
    array([111, 110])
"""

import zlib
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

BYTES, PIECES = "bytes", "pieces-4500"
VOCABULARY_SIZES: Mapping[str, int] = {BYTES: 256, PIECES: 4_500}
"""Rows that the embedding needs, by the name of the tokens."""

PIECE_CHARACTERS = 4
WORD_START = "▁"


def encode_text(text: str, tokens: str = BYTES) -> NDArray[np.int64]:
    """Turn a phrase into tokens.

    Args:
        text: The phrase.
        tokens: A name of VOCABULARY_SIZES.

    Returns:
        int64, shape (L,), L >= 1, values in [0, VOCABULARY_SIZES[tokens]).

    Raises:
        ValueError: the phrase has no words or is not Unicode, or the tokens are not known.
    """
    if not text.split():
        raise ValueError(f"expected a phrase, found {'an empty text' if not text else 'no words'}")
    if tokens == BYTES:
        return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)
    if tokens == PIECES:
        return np.array([_row(piece) for piece in _pieces(text)], dtype=np.int64)
    raise ValueError(f"expected tokens of {', '.join(VOCABULARY_SIZES)}, found {tokens!r}")


def _pieces(text: str) -> Iterator[str]:
    """Words cut every four characters; the first piece of a word is marked, as "on" is no "-on"."""
    for word in text.split():
        for start in range(0, len(word), PIECE_CHARACTERS):
            piece = word[start : start + PIECE_CHARACTERS]
            yield piece if start else WORD_START + piece


def _row(piece: str) -> int:
    return zlib.crc32(piece.encode()) % VOCABULARY_SIZES[PIECES]

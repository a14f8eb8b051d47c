"""Phrases as token sequences for the text encoder: the bytes of their UTF-8 form.

Bytes need no vocabulary: a phrase that a later generation adds, in any language, costs no
new embedding rows and no vocabulary file on the way to the device.
"""

import numpy as np
from numpy.typing import NDArray

VOCABULARY_SIZE = 256


def encode_text(text: str) -> NDArray[np.int64]:
    """Turn a phrase into tokens: int64, shape (L,), L >= 1, values 0..255.

    Raises:
        ValueError: the phrase is empty.
    """
    if not text:
        raise ValueError("expected a phrase, found an empty text")
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64)

"""Positions and levels by row classes: the better half of the coder `fast`.

    coded = encode(parts)                     decoder = Decoder(read, len(coded))
                                              decoder.begin(shape, count, largest)
                                              for positions, levels in decoder.runs(): ...
                                              decoder.finish()

note.md derives the model; docs/diff-format-v1.md says what the bytes mean.
"""

from diffcodec.coders.rows.decoding import Decoder
from diffcodec.coders.rows.encoding import encode

__all__ = ["Decoder", "encode"]

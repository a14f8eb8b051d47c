"""The coder `max`: adaptive models and a binary range coder, in a small C extension.

`coding` has the streams, `sections` brings a layer's parts to them, `reference` and
`reference_sparse` decode the same streams in plain Python and prove the format; note.md derives
the models. Without a C compiler the package installs all the same, and `is_available()` is
false.
"""

from diffcodec.coders.max.coding import (
    ByteDecoder,
    ByteEncoder,
    SparseDecoder,
    SparseEncoder,
    SymbolDecoder,
    SymbolEncoder,
    is_available,
)
from diffcodec.coders.max.matrix import Matrix

__all__ = [
    "ByteDecoder",
    "ByteEncoder",
    "Matrix",
    "SparseDecoder",
    "SparseEncoder",
    "SymbolDecoder",
    "SymbolEncoder",
    "is_available",
]

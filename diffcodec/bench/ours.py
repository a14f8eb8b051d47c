"""Our coders as peers of the others: whole files, with header, digests and checksum.

Encoding includes what a file needs: the digest of the base, applying the diff, the digest of the
result. Decoding goes from bytes to positions and levels, the checksum included; applying them is
`benchmarks.run`'s business.
"""

from typing import Any

from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.peer import NO_LEVELS, Coded, Peer
from diffcodec.bench.timing import timed
from diffcodec.bench.work import Work
from diffcodec.coders.layers import available_coders
from diffcodec.file import decode, encode
from diffcodec.fitting.lossless import lossless_diff
from diffcodec.header import Coder


class Sparse:
    """Levels, by the coders that a device may have; each section takes the smallest of them."""

    is_in_process = True

    def __init__(self, name: str, coders: frozenset[Coder]) -> None:
        self.name = name
        self._coders = coders

    def absence(self, work: Work) -> str | None:
        """There are no levels, or this machine lacks a coder."""
        if work.diff is None:
            return NO_LEVELS
        lacking = sorted(self._coders - available_coders())
        return (
            f"needs coder {', '.join(lacking)}, a C extension not built here" if lacking else None
        )

    def encode(self, work: Work) -> Coded[bytes]:
        """From positions and levels to the file."""
        diff, base = work.diff, work.fresh_base()
        if diff is None:
            raise BenchmarkError(NO_LEVELS)
        return Coded(*timed(lambda: encode(diff, base, self._coders)))

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """The diff."""
        return Coded(*timed(lambda: decode(data, work.base.layout).diff))

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Value for value."""
        return bool(decoded == work.diff)


class Lossless:
    """Two checkpoints, exactly: nothing is known of how the new one came about."""

    name = "diffcodec lossless"
    is_in_process = True

    def absence(self, work: Work) -> str | None:
        """It takes any work."""
        return None

    def encode(self, work: Work) -> Coded[bytes]:
        """From both checkpoints to the file."""
        base, new = work.fresh_base(), work.new
        coders = available_coders()
        return Coded(*timed(lambda: encode(lossless_diff(base, new), base, coders)))

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """The diff."""
        return Coded(*timed(lambda: decode(data, work.base.layout).diff))

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Bit for bit."""
        return bool(decoded == lossless_diff(work.base, work.new))


def our_coders() -> tuple[Peer, ...]:
    """Each coder alone, all of them together, and lossless."""
    single = tuple(Sparse(f"diffcodec {coder}", frozenset({coder})) for coder in Coder)
    return (*single, Sparse("diffcodec auto", available_coders()), Lossless())

"""Coders of levels or values: the simple forms that papers use, and general compressors on them."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from diffcodec.bench.peer import NO_LEVELS, Coded, too_slow, without_package
from diffcodec.bench.timing import timed
from diffcodec.bench.work import Entries, Work

ZSTD_LEVEL = 19
# So that a count of a full row fits 16 bits.
LONGEST_ROW = 2**16 - 1


class OfEntries(ABC):
    """Base: codes the list of changes; restores the list.

    A subclass gives `name`, `pack` and `unpack`, and may change how near is right.
    """

    name: str
    is_in_process = True

    @abstractmethod
    def pack(self, work: Work) -> bytes:
        """Code `work.entries`."""

    @abstractmethod
    def unpack(self, work: Work, data: bytes) -> Entries:
        """Restore the list; the work tells what any device knows, the layout."""

    def absence(self, work: Work) -> str | None:
        """It needs sparse changes and nothing else."""
        return None if work.diff else NO_LEVELS

    def encode(self, work: Work) -> Coded[bytes]:
        """From index and value."""
        _ = work.entries
        return Coded(*timed(lambda: self.pack(work)))

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """To index and value."""
        return Coded(*timed(lambda: self.unpack(work, data)))

    def is_right(self, work: Work, decoded: Any) -> bool:
        """The same list."""
        return np.array_equal(decoded.index, work.entries.index) and np.array_equal(
            decoded.values, work.entries.values
        )


class PaperForm(OfEntries):
    """A float32 value and an int32 index for each change: 8 bytes."""

    name = "float32 value + int32 index"

    def pack(self, work: Work) -> bytes:
        """All indices, then all values."""
        return work.entries.index.tobytes() + work.entries.values.tobytes()

    def unpack(self, work: Work, data: bytes) -> Entries:
        """Halves."""
        middle = len(data) // 2
        return Entries(
            np.frombuffer(data[:middle], np.int32), np.frombuffer(data[middle:], np.float32)
        )


class PaperFormZstd(PaperForm):
    """The same under zstd -19."""

    name = "the same, zstd -19"

    def pack(self, work: Work) -> bytes:
        """Compress both parts as one."""
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(super().pack(work))

    def unpack(self, work: Work, data: bytes) -> Entries:
        """Decompress, then halves."""
        return super().unpack(work, zstandard.ZstdDecompressor().decompress(data))


class RowIndexHalf(OfEntries):
    """uint16 index within a row, float16 value, uint16 count for each row; zstd -19."""

    name = "u16 row index + float16, zstd -19"

    def pack(self, work: Work) -> bytes:
        """Counts of all rows, then columns, then values."""
        starts = _row_starts(work)
        index = work.entries.index
        row = np.searchsorted(starts, index, side="right") - 1
        counts = np.bincount(row, minlength=starts.size).astype(np.uint16)
        columns = (index - starts[row]).astype(np.uint16)
        parts = (counts, columns, work.entries.values.astype(np.float16))
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(
            b"".join(part.tobytes() for part in parts)
        )

    def unpack(self, work: Work, data: bytes) -> Entries:
        """The rows follow from the layout."""
        starts = _row_starts(work)
        plain = np.frombuffer(zstandard.ZstdDecompressor().decompress(data), np.uint16)
        counts = plain[: starts.size]
        columns, values = np.split(plain[starts.size :], 2)
        index = np.repeat(starts, counts) + columns
        return Entries(index.astype(np.int32), values.view(np.float16).astype(np.float32))

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Values as near as float16 is."""
        return np.array_equal(decoded.index, work.entries.index) and np.array_equal(
            decoded.values, work.entries.values.astype(np.float16).astype(np.float32)
        )


class DenseBrotli:
    """One int8 level for every parameter, brotli -11."""

    name = "dense int8 levels, brotli -11"
    is_in_process = True

    def absence(self, work: Work) -> str | None:
        """It needs levels, the package, and two minutes for 61M parameters."""
        if work.diff is None:
            return NO_LEVELS
        return too_slow(work) or without_package("brotli")

    def encode(self, work: Work) -> Coded[bytes]:
        """All tensors end to end."""
        import brotli

        levels = _concatenated(work)
        return Coded(*timed(lambda: bytes(brotli.compress(levels, quality=11, lgwin=24))))

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """The same levels."""
        import brotli

        return Coded(*timed(lambda: bytes(brotli.decompress(data))))

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Every level."""
        return bool(decoded == _concatenated(work))


def _concatenated(work: Work) -> bytes:
    return b"".join(work.dense_levels[spec.name].tobytes() for spec in work.base.layout.tensors)


def _row_starts(work: Work) -> NDArray[np.int64]:
    """Where each row begins among all parameters; longer ones are cut at 65,535 columns."""
    starts, begin = [], 0
    for spec in work.base.layout.tensors:
        columns = spec.size // spec.shape[0] if len(spec.shape) > 1 else spec.size
        row_starts = np.arange(begin, begin + spec.size, columns)
        pieces = np.arange(0, columns, LONGEST_ROW)
        starts.append((row_starts[:, None] + pieces[None]).reshape(-1))
        begin += spec.size
    return np.concatenate(starts)

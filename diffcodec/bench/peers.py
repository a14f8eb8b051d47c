"""Coders to compare with: of files (base and new store) and of levels (nothing but the change).

All code the same change. Coders of files restore the new store bit for bit. Coders of levels
restore levels or values; their bytes hold no steps, names, shapes or digests, which a file of
ours does hold. One class a peer; all behind `Peer`, which ours implement too (`ours`).
"""

import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError, run
from tempfile import TemporaryDirectory
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import zstandard

from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.timing import timed
from diffcodec.bench.work import Entries, Work

T = TypeVar("T")

MEGABYTE = 1_000_000
ZSTD_LEVEL = 19
# Minutes and gigabytes above that: at 245 MB bsdiff4 takes 174 s and 4.2 GB.
SLOW_ABOVE_BYTES = 32 * MEGABYTE


@dataclass(frozen=True)
class Coded(Generic[T]):
    """What one run gave.

    Attributes:
        value: Bytes of the file, or what they decode to.
        seconds: By the wall clock.
        peak_bytes: Memory on top of what was there before, where the coder itself can tell.
    """

    value: T
    seconds: float
    peak_bytes: int | None = None


class Peer(Protocol):
    """A coder that takes part."""

    @property
    def name(self) -> str:
        """For the table."""

    @property
    def is_in_process(self) -> bool:
        """Whether it allocates in this process, so that its memory can be watched here."""

    def absence(self, work: Work) -> str | None:
        """Why it cannot take part, and how to change that; None where it can."""

    def encode(self, work: Work) -> Coded[bytes]:
        """Code the change; what the work derives for it is made before the clock starts."""

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """Decode what the last `encode` gave."""

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Whether that is the change, as exactly as this coder promises it."""


class OfFiles:
    """Base: codes the new store, usually against the base's; exact.

    A subclass gives `name`, `pack`, `unpack` and, where it needs something, `lacking`.
    """

    name: str
    is_in_process = True
    is_slow = False

    def pack(self, base: bytes, new: bytes) -> bytes:
        """Make the patch."""
        raise NotImplementedError

    def unpack(self, base: bytes, data: bytes) -> bytes:
        """Rebuild the new store."""
        raise NotImplementedError

    def lacking(self) -> str | None:
        """What is not installed, and how to get it."""
        return None

    def absence(self, work: Work) -> str | None:
        """Not installed, or too slow for a store of this size."""
        if self.is_slow and work.base.layout.file_bytes > SLOW_ABOVE_BYTES:
            return f"minutes at this size; it is run up to {SLOW_ABOVE_BYTES // MEGABYTE} MB"
        return self.lacking()

    def encode(self, work: Work) -> Coded[bytes]:
        """From store to store."""
        base, new = work.base_store, work.new_store
        return Coded(*timed(lambda: self.pack(base, new)))

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """The new store."""
        base = work.base_store
        return Coded(*timed(lambda: self.unpack(base, data)))

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Bit for bit."""
        return bool(decoded == work.new_store)


class FullModel(OfFiles):
    """The whole new model, compressed by zstd -19."""

    name = "full model, zstd -19"
    is_slow = True

    def pack(self, base: bytes, new: bytes) -> bytes:
        """The base is of no use."""
        return zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(new)

    def unpack(self, base: bytes, data: bytes) -> bytes:
        """The base is of no use."""
        return zstandard.ZstdDecompressor().decompress(data)


class PatchFrom(OfFiles):
    """zstd --patch-from, by python-zstandard: the base is a raw dictionary.

    The window spans both stores and the match tables are as large as the base; those of the
    level itself hold a fraction of a large base and find little of it again (for 16M parameters
    at level 9 the command line tool writes 19.7 MB, this 3.7 MB). Levels 6 to 19 differ in time,
    hardly in bytes.
    """

    def __init__(self, level: int) -> None:
        self.name = f"zstd -{level} --patch-from"
        self.is_slow = level > 9
        self._level = level

    def pack(self, base: bytes, new: bytes) -> bytes:
        """Match the new store against the base."""
        window_log = max(zstandard.WINDOWLOG_MIN, (len(base) + len(new)).bit_length())
        parameters = zstandard.ZstdCompressionParameters.from_level(
            self._level,
            source_size=len(new),
            dict_size=len(base),
            window_log=window_log,
            hash_log=window_log - 1,
            chain_log=window_log - 1,
        )
        prefix = raw_dictionary(base)
        compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=prefix)
        return compressor.compress(new)

    def unpack(self, base: bytes, data: bytes) -> bytes:
        """With the same prefix."""
        decompressor = zstandard.ZstdDecompressor(
            dict_data=raw_dictionary(base), max_window_size=2**zstandard.WINDOWLOG_MAX
        )
        return decompressor.decompress(data)


class Bsdiff(OfFiles):
    """bsdiff4: suffix sorting, bzip2."""

    name = "bsdiff4"
    is_slow = True

    def lacking(self) -> str | None:
        """The package."""
        return _without_package("bsdiff4")

    def pack(self, base: bytes, new: bytes) -> bytes:
        """As the package does by default."""
        import bsdiff4

        return bytes(bsdiff4.diff(base, new))

    def unpack(self, base: bytes, data: bytes) -> bytes:
        """In memory."""
        import bsdiff4

        return bytes(bsdiff4.patch(base, data))


class HdiffPatch(OfFiles):
    """HDiffPatch (hdiffz) with LZMA2, by its Python package."""

    name = "HDiffPatch, lzma2"
    is_slow = True

    def lacking(self) -> str | None:
        """The package."""
        return _without_package("hdiffpatch")

    def pack(self, base: bytes, new: bytes) -> bytes:
        """One thread, and no check by decoding, which would count as time."""
        import hdiffpatch

        # A dictionary of 8 MB: more holds nothing more of a patch.
        compression = hdiffpatch.Lzma2Config(level=9, window=23, threads=1)
        return bytes(hdiffpatch.diff(base, new, compression=compression, validate=False))

    def unpack(self, base: bytes, data: bytes) -> bytes:
        """In memory."""
        import hdiffpatch

        return bytes(hdiffpatch.apply(base, data))


class Xdelta(OfFiles):
    """xdelta3 -9 with LZMA, the program: files and the start of a process are in its time."""

    name = "xdelta3 -9, lzma"
    is_in_process = False

    def lacking(self) -> str | None:
        """The program."""
        if shutil.which("xdelta3") is None:
            return "not installed; apt install xdelta3, or another package of that name"
        return None

    def pack(self, base: bytes, new: bytes) -> bytes:
        """A source window as large as the base, or it would not see all of it."""
        window = str(max(2**19, len(base)))
        return self._run(["-e", "-9", "-S", "lzma", "-B", window], base, new)

    def unpack(self, base: bytes, data: bytes) -> bytes:
        """The window is as in `pack`."""
        return self._run(["-d", "-B", str(max(2**19, len(base)))], base, data)

    def _run(self, options: list[str], base: bytes, given: bytes) -> bytes:
        with TemporaryDirectory() as name:
            source, old, target = (Path(name) / n for n in ("source", "old", "target"))
            old.write_bytes(base)
            source.write_bytes(given)
            command = ["xdelta3", *options, "-s", str(old), str(source), str(target)]
            try:
                run(command, check=True, capture_output=True, text=True)
            except CalledProcessError as error:
                raise BenchmarkError(f"xdelta3: {error.stderr.strip()}") from error
            return target.read_bytes()


class OfEntries:
    """Base: codes the list of changes; restores the list.

    A subclass gives `name`, `pack` and `unpack`, and may change how near is right.
    """

    name: str
    is_in_process = True

    def pack(self, work: Work) -> bytes:
        """Code `work.entries`."""
        raise NotImplementedError

    def unpack(self, work: Work, data: bytes) -> Entries:
        """Restore the list; the work tells what any device knows, the layout."""
        raise NotImplementedError

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
        """Levels and the package."""
        return _without_package("brotli") if work.diff else NO_LEVELS

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


NO_LEVELS = "codes levels; this work is exact"


def standard_peers() -> tuple[Peer, ...]:
    """Everyone who needs no more than a package or a program."""
    return (
        FullModel(),
        PatchFrom(ZSTD_LEVEL),
        PatchFrom(9),
        Bsdiff(),
        Xdelta(),
        HdiffPatch(),
        PaperForm(),
        PaperFormZstd(),
        RowIndexHalf(),
        DenseBrotli(),
    )


def raw_dictionary(base: bytes) -> zstandard.ZstdCompressionDict:
    """A base as the prefix that zstd --patch-from matches against."""
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _without_package(name: str) -> str | None:
    is_there = importlib.util.find_spec(name) is not None
    return None if is_there else f"not installed; pip install {name}"


def _concatenated(work: Work) -> bytes:
    return b"".join(work.dense_levels[spec.name].tobytes() for spec in work.base.layout.tensors)


def _row_starts(work: Work) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Where each row begins among all parameters; longer ones are cut at 65,535 columns."""
    starts, begin = [], 0
    for spec in work.base.layout.tensors:
        columns = spec.size // spec.shape[0] if len(spec.shape) > 1 else spec.size
        row_starts = np.arange(begin, begin + spec.size, columns)
        pieces = np.arange(0, columns, LONGEST_ROW)
        starts.append((row_starts[:, None] + pieces[None]).reshape(-1))
        begin += spec.size
    return np.concatenate(starts)


# So that a count of a full row fits 16 bits.
LONGEST_ROW = 2**16 - 1

"""Coders of files: they know a base and a new store and nothing of levels; exact."""

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from subprocess import CalledProcessError, run
from tempfile import TemporaryDirectory
from typing import Any

import zstandard

from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.peer import Coded, too_slow, without_package
from diffcodec.bench.timing import timed
from diffcodec.bench.work import Work

ZSTD_LEVEL = 19


class OfFiles(ABC):
    """Base: codes the new store, usually against the base's; exact.

    A subclass gives `name`, `pack`, `unpack` and, where it needs something, `lacking`.
    """

    name: str
    is_in_process = True
    is_slow = False

    @abstractmethod
    def pack(self, base: bytes, new: bytes) -> bytes:
        """Make the patch."""

    @abstractmethod
    def unpack(self, base: bytes, data: bytes) -> bytes:
        """Rebuild the new store."""

    def lacking(self) -> str | None:
        """What is not installed, and how to get it."""
        return None

    def absence(self, work: Work) -> str | None:
        """Not installed, or too slow for a store of this size."""
        return (too_slow(work) if self.is_slow else None) or self.lacking()

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
        return without_package("bsdiff4")

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
        return without_package("hdiffpatch")

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


def raw_dictionary(base: bytes) -> zstandard.ZstdCompressionDict:
    """A base as the prefix that zstd --patch-from matches against."""
    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)

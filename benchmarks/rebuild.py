"""One rebuilding of a flat store from a base and a patch, by ours or a peer; also a program.

Every method keeps the device's promise: the result's SHA-256 is taken, the result and its folder
are fsynced. `copy` does that and nothing else, in one pass: what disk and hashing cost on their
own; `copy-then-hash` is the same in two, as one would by hand. Peers work as their libraries
want to: bsdiff4 holds base, patch and result in memory, zstd holds the base and streams the
result.

As a program it prints one line of JSON, seconds and memory of this process. So this module
imports a method's libraries only when that method is asked for, and before the clock starts.

    python -m benchmarks.rebuild zstd base.bin layout.json patch target.bin
"""

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zstandard

BLOCK_BYTES = 1 << 20


class Method(StrEnum):
    """How to get from base and patch to the result."""

    DIFFCODEC = "diffcodec"
    BSDIFF = "bsdiff4"
    ZSTD = "zstd"
    COPY = "copy"
    COPY_THEN_HASH = "copy-then-hash"


def prepare(method: Method, base: Path, layout: Path, patch: Path) -> Callable[[Path], None]:
    """Import what the method needs.

    Args:
        method: How.
        base: Flat store of the base.
        layout: Its layout in JSON; only ours needs it.
        patch: What the method's coder made; a copy ignores it.

    Returns:
        What writes the result to a path where nothing is yet.
    """
    match method:
        case Method.DIFFCODEC:
            return _diffcodec(base, layout, patch)
        case Method.BSDIFF:
            return _bsdiff(base, patch)
        case Method.ZSTD:
            return _zstd(base, patch)
        case Method.COPY:
            return lambda target: _copy(base, target)
        case Method.COPY_THEN_HASH:
            return lambda target: _copy_then_hash(base, target)


def raw_dictionary(base: bytes) -> "zstandard.ZstdCompressionDict":
    """A base as the prefix that zstd --patch-from matches against."""
    import zstandard

    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def sha256_of(path: Path) -> bytes:
    """SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _diffcodec(base: Path, layout_path: Path, patch: Path) -> Callable[[Path], None]:
    from diffcodec import Layout, apply_file

    layout = Layout.from_json(layout_path.read_text())

    def rebuild(target: Path) -> None:
        apply_file(base, layout, patch, target)

    return rebuild


def _bsdiff(base: Path, patch: Path) -> Callable[[Path], None]:
    import bsdiff4

    def rebuild(target: Path) -> None:
        old = base.read_bytes()
        new = bsdiff4.patch(old, patch.read_bytes())
        hashlib.sha256(new).digest()
        target.write_bytes(new)
        _sync(target)

    return rebuild


def _zstd(base: Path, patch: Path) -> Callable[[Path], None]:
    import zstandard

    def rebuild(target: Path) -> None:
        old = base.read_bytes()
        decompressor = zstandard.ZstdDecompressor(
            dict_data=raw_dictionary(old), max_window_size=2**zstandard.WINDOWLOG_MAX
        )
        sha = hashlib.sha256()
        with patch.open("rb") as file, target.open("xb") as out:
            for block in decompressor.read_to_iter(file, write_size=BLOCK_BYTES):
                sha.update(block)
                out.write(block)
        sha.digest()
        _sync(target)

    return rebuild


def _copy(base: Path, target: Path) -> None:
    sha = hashlib.sha256()
    with base.open("rb") as file, target.open("xb") as out:
        while block := file.read(BLOCK_BYTES):
            sha.update(block)
            out.write(block)
    sha.digest()
    _sync(target)


def _copy_then_hash(base: Path, target: Path) -> None:
    shutil.copyfile(base, target)
    _sync(target)
    sha256_of(target)


def _sync(path: Path) -> None:
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def memory_bytes(field: str, process: int | str = "self") -> int | None:
    """VmRSS or VmHWM (the peak) of a process, by default this one; None where there is no /proc."""
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main(arguments: list[str]) -> None:
    """Rebuild once and print what it took."""
    method, base, layout, patch, target = arguments
    rebuild = prepare(Method(method), Path(base), Path(layout), Path(patch))
    start_bytes = memory_bytes("VmRSS")
    start = time.perf_counter()
    rebuild(Path(target))
    seconds = time.perf_counter() - start
    peak_bytes = memory_bytes("VmHWM")
    print(json.dumps({"seconds": seconds, "start_bytes": start_bytes, "peak_bytes": peak_bytes}))


if __name__ == "__main__":
    main(sys.argv[1:])

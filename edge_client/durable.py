"""Files that survive a power cut: after a call returns, the change is on the disk, whole.

The rule is always the same: write beside the final name, fsync the file, rename, fsync the
folder. Errors of the operating system leave this module as DiskFullError or StorageError.

Beside it stands `diffcodec.durable`, for what the codec writes: a stream into a file whose name
says which process wrote it, with errors as the system gave them. Here an unfinished file has one
name, so that the next update finds what a power cut left.

    >>> durable.write(home / "config.json", b"{}")
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_client.errors import DiskFullError, StorageError

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
BLOCK_BYTES = 1 << 20
UNFINISHED = ".tmp"
"""Ending of a file that is not yet what its name says; whoever finds one may remove it."""


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an OSError of the block into DiskFullError or StorageError.

    Args:
        doing: What was tried, such as "cannot write the slot", for the message.
    """
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in NO_ROOM else StorageError
        where = f"{error.filename}: " if error.filename else ""
        raise kind(f"{doing}: {where}{error.strerror or error}") from error


def write(path: Path, content: bytes, *, is_secret: bool = False) -> None:
    """Write a small file: its folder shows the old content or the new, never a part.

    Args:
        path: Its name.
        content: Its bytes.
        is_secret: Only the owner may read it, from the first byte on.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    with (
        storage_errors(f"cannot write {path}"),
        open(unfinished, "wb", opener=_private if is_secret else None) as file,
    ):
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    move(unfinished, path)


def _private(path: str, flags: int) -> int:
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # an unfinished file of before may have had another mode
    return descriptor


def copy(source: Path, target: Path) -> None:
    """Copy a file as `write` would write it."""
    unfinished = target.with_name(target.name + UNFINISHED)
    with (
        storage_errors(f"cannot copy {source} to {target}"),
        source.open("rb") as original,
        unfinished.open("wb") as file,
    ):
        shutil.copyfileobj(original, file, BLOCK_BYTES)
        file.flush()
        os.fsync(file.fileno())
    move(unfinished, target)


def move(source: Path, target: Path) -> None:
    """Rename within one folder, over whatever has the target's name. The source is fsynced."""
    with storage_errors(f"cannot rename {source} to {target.name}"):
        source.replace(target)
    settle(target.parent)


def make_folder(path: Path) -> None:
    """Create a folder (and its parents) unless it is there."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with storage_errors(f"cannot create the folder {path}"):
        path.mkdir(exist_ok=True)
    settle(path.parent)


def clear_folder(path: Path) -> None:
    """Leave an empty folder at the path.

    Files are unlinked, not overwritten: a process that still maps one keeps what it had.
    """
    make_folder(path)
    with storage_errors(f"cannot clear {path}"):
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    settle(path)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    with storage_errors(f"cannot remove {path}"):
        path.unlink(missing_ok=True)


def settle(folder: Path) -> None:
    """Fsync a folder: renames and new names in it are on the disk afterwards."""
    with storage_errors(f"cannot fsync the folder {folder}"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256_of(path: Path, prefix: bytes = b"") -> bytes:
    """SHA-256 of the prefix and the file's bytes, read in blocks of 1 MiB.

    Raises:
        StorageError: the file cannot be read.
    """
    digest = hashlib.sha256(prefix)
    with storage_errors(f"cannot read {path}"), path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.digest()

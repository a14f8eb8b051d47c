"""Files that are there whole or not at all, also after a power cut."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Only writing fails so, and the system does not say which file.
_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A file that did not exist, fsynced with its folder, and gone again after any error.

    Raises:
        FileExistsError: something is there; it is left alone.
        OSError: writing failed; where the disk is full it names the path.
    """
    out = path.open("xb")
    try:
        with out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        sync_folder(path.parent)
    except BaseException as exc:
        path.unlink(missing_ok=True)
        if isinstance(exc, OSError) and exc.errno in _WRITE_ERRORS:
            exc.filename = exc.filename or str(path)
        raise


@contextmanager
def replaced_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the path's place once it is complete; until then the old one stays.

    Raises:
        IsADirectoryError: a folder is there.
        OSError: writing failed; it names the path, not the unfinished file beside it.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with new_file(unfinished) as out:
            yield out
        _replace(unfinished, path)
    except OSError as exc:
        if exc.filename == str(unfinished):
            exc.filename, exc.filename2 = str(path), None
        raise
    sync_folder(path.parent)


def _replace(unfinished: Path, path: Path) -> None:
    try:
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make new and changed names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Files of a server that are there whole or not at all, also after a power cut.

Beside it stands `diffcodec.durable`, whose unfinished files are named by the process that writes
them. Here an unfinished file has one name, so that the next try takes the place of what a killed
one left: for files that one process at a time writes.

>>> with replaced_file(home / "tls" / "server.pem", is_secret=True) as file:
...     file.write(pem)
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from diffcodec.durable import sync_folder


@contextmanager
def replaced_file(path: Path, *, is_secret: bool = False) -> Iterator[BinaryIO]:
    """A file that takes the path's place once it is complete; until then the old one stays.

    Args:
        path: Its name.
        is_secret: Only the owner may read it, from the first byte on.
    """
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    mode = 0o600 if is_secret else 0o666
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that its owner alone reads: the old content or the new, whatever happens."""
    with replaced_file(path, is_secret=True) as file:
        file.write(content)

"""Fetch blobs into the staging folder, without ever fetching a byte twice that is good already.

    staging/<sha256>.part     what has arrived so far; kept when the network fails
    staging/<sha256>          complete, its SHA-256 checked, on the disk

A download resumes at the length of its part, in the same process or after a restart: what lies
there is hashed first, the rest is hashed as it comes. It stops at the announced length, however
much the server sends.

    >>> path = fetch(plan.steps[0].diff, home.staging, server, Retry())
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from edge_client import durable
from edge_client.errors import BlobError, ServerUnavailableError, SlowServerError
from edge_client.offer import Blob
from edge_client.retry import Retry

PART = ".part"

OnBytes = Callable[[int], None]
"""Told how many bytes were added, those found in the staging folder included."""


class BlobSource(Protocol):
    """Where downloads come from."""

    def read_blob(self, blob: Blob, offset: int) -> Iterator[bytes]:
        """Yield the blob's bytes from the offset to its end; may break off at any time."""
        ...


def fetch(
    blob: Blob, staging: Path, source: BlobSource, retry: Retry, on_bytes: OnBytes = lambda n: None
) -> Path:
    """Make sure that the staging folder holds a blob.

    Args:
        blob: What to fetch.
        staging: The folder; it must exist.
        source: Where from.
        retry: How often a stream that brings nothing is opened again.
        on_bytes: Told of progress.

    Returns:
        The file, whose SHA-256 is the blob's.

    Raises:
        BlobError: the server's bytes are not those; nothing of them is kept.
        ServerUnavailableError: the network failed; what came is kept.
        ServerFaultError, DiskFullError, StorageError
    """
    complete, part = _paths(blob, staging)
    if complete.exists() and durable.sha256_of(complete) == blob.sha256:
        on_bytes(blob.length_bytes)
        return complete
    # A power cut may have torn what an earlier process left. Then once more, from nothing.
    had_leftovers = part.exists()
    digest = _complete(part, blob, source, retry, on_bytes)
    if digest != blob.sha256 and had_leftovers:
        durable.remove(part)
        on_bytes(-blob.length_bytes)
        digest = _complete(part, blob, source, retry, on_bytes)
    if digest != blob.sha256:
        durable.remove(part)
        raise BlobError(
            f"expected a file with SHA-256 {blob.sha256.hex()}, downloaded one with {digest.hex()}"
        )
    durable.move(part, complete)
    return complete


def missing_bytes(blobs: Iterable[Blob], staging: Path) -> int:
    """Bytes that are still to be fetched, by the lengths of what lies in the staging folder."""
    return sum(
        max(0, blob.length_bytes - max(map(_length, _paths(blob, staging)))) for blob in blobs
    )


def keep_only(blobs: Iterable[Blob], staging: Path) -> None:
    """Remove from the staging folder whatever belongs to none of these blobs."""
    wanted = {path for blob in blobs for path in _paths(blob, staging)}
    with durable.storage_errors(f"cannot read {staging}"):
        found = list(staging.iterdir())
    for path in found:
        if path not in wanted:
            durable.remove(path)


def _complete(part: Path, blob: Blob, source: BlobSource, retry: Retry, on_bytes: OnBytes) -> bytes:
    """Bring a part to the blob's length, fsync it, and return the SHA-256 of all of it."""
    with durable.storage_errors(f"cannot write {part}"), part.open("a+b") as file:
        partial = _Partial(file, blob)
        on_bytes(partial.length)
        try:
            _receive_all(partial, source, retry, on_bytes)
        except BlobError:
            durable.remove(part)
            raise
        partial.flush()
        return partial.digest()


def _receive_all(partial: "_Partial", source: BlobSource, retry: Retry, on_bytes: OnBytes) -> None:
    """Open stream after stream until the part is complete."""
    failures = slow = 0
    while partial.length < partial.blob.length_bytes:
        before = partial.length
        broken = _receive(partial, source, on_bytes)
        if broken is None:
            return
        # Only a stream that brings nothing counts: a link may be cut often and still work.
        failures = failures + 1 if partial.length == before else 1
        # A server that brings a little, and ever so slowly, would never come to an end.
        slow += isinstance(broken, SlowServerError)
        if max(failures, slow) >= retry.tries:
            partial.flush()
            raise broken
        retry.pause(failures)


def _receive(
    partial: "_Partial", source: BlobSource, on_bytes: OnBytes
) -> ServerUnavailableError | None:
    """Append what one stream brings; return why it broke off, or None when it is complete."""
    try:
        for chunk in source.read_blob(partial.blob, partial.length):
            partial.append(chunk)
            on_bytes(len(chunk))
    except ServerUnavailableError as error:
        return error
    if partial.length < partial.blob.length_bytes:
        return ServerUnavailableError(
            f"expected {partial.blob.length_bytes} bytes of {partial.blob.sha256.hex()}, "
            f"the stream ended after {partial.length}"
        )
    return None


class _Partial:
    """A part file, its length, and the running SHA-256 of all that it holds."""

    def __init__(self, file: BinaryIO, blob: Blob) -> None:
        self.blob = blob
        self.length = 0
        self._file = file
        self._sha = hashlib.sha256()
        if os.fstat(file.fileno()).st_size > blob.length_bytes:
            file.truncate(0)
        file.seek(0)
        while block := file.read(durable.BLOCK_BYTES):
            self._take(block)

    def append(self, chunk: bytes) -> None:
        """Add what arrived.

        Raises:
            BlobError: it exceeds the announced length, or is empty.
        """
        if self.length + len(chunk) > self.blob.length_bytes or not chunk:
            raise BlobError(
                f"expected {self.blob.length_bytes} bytes of {self.blob.sha256.hex()}, "
                f"the server sends {'more' if chunk else 'empty chunks'}"
            )
        self._file.write(chunk)
        self._take(chunk)

    def flush(self) -> None:
        """Bring what arrived to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def digest(self) -> bytes:
        """SHA-256 of all that arrived."""
        return self._sha.digest()

    def _take(self, block: bytes) -> None:
        self._sha.update(block)
        self.length += len(block)


def _paths(blob: Blob, staging: Path) -> tuple[Path, Path]:
    """Where the complete file and its part lie. Hex digits only: no name comes from outside."""
    complete = staging / blob.sha256.hex()
    return complete, complete.with_name(complete.name + PART)


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

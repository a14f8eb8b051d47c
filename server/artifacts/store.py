"""The seam: what the rest of the server knows of a place for blobs, and what all of them share."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from server.domain import Blob
from server.errors import ArtifactError


@dataclass(frozen=True)
class StoredFile:
    """A file of a store.

    Attributes:
        name: Its path within the store.
        length: In bytes.
        modified_at: When it was written last, by the store's clock.
    """

    name: str
    length: int
    modified_at: datetime

    @property
    def sha256(self) -> bytes | None:
        """Which blob it is; None: what a crash left of one."""
        match = re.fullmatch("([0-9a-f]{2})/([0-9a-f]{62})", self.name)
        return bytes.fromhex(match[1] + match[2]) if match is not None else None


class ArtifactStore(Protocol):
    """Where blobs are kept."""

    def put(self, content: bytes) -> Blob:
        """Store a blob durably; one that was there and is damaged is mended.

        Raises:
            ArtifactError: it cannot be written; nothing half-written can be read afterwards.
        """

    def read(self, sha256: bytes, offset: int, length: int) -> bytes:
        """Read a range; shorter where the blob ends first.

        Raises:
            ArtifactError: the blob is missing or cannot be read.
        """

    def verify(self, blob: Blob) -> None:
        """Read all of a blob again and compare its length and SHA-256.

        Raises:
            ArtifactError: it is missing, cannot be read, or its bytes have changed.
        """

    def require_reachable(self) -> None:
        """Ask whether the place is there and can be looked into.

        Raises:
            ArtifactError: it is not, or cannot.
        """

    def listing(self) -> Iterator[StoredFile]:
        """Every file: blobs, and what crashes left of some. Files of strangers are passed over.

        Raises:
            ArtifactError: the store cannot be listed.
        """

    def delete(self, names: Iterable[str]) -> None:
        """Delete files of the listing; one that is gone already is no error.

        Raises:
            ArtifactError: one cannot be deleted.
        """


def name_of(sha256: bytes) -> str:
    """A blob's path within a store: ab/cdef..., from the hex SHA-256."""
    name = sha256.hex()
    return f"{name[:2]}/{name[2:]}"


def require_content(blob: Blob, blocks: Iterable[bytes], place: str) -> None:
    """Compare what a store holds with what it should.

    Args:
        blob: What was put.
        blocks: What is there, from its beginning to its end.
        place: Where, for messages.

    Raises:
        ArtifactError: length or SHA-256 differ.
    """
    content = hashlib.sha256()
    length = 0
    for block in blocks:
        content.update(block)
        length += len(block)
    if length != blob.length or content.digest() != blob.sha256:
        raise ArtifactError(
            f"{place}: expected {blob.length} bytes of SHA-256 {blob.sha256.hex()}, "
            f"found {length} bytes of {content.hexdigest()}"
        )


def read_whole(store: ArtifactStore, blob: Blob) -> bytes:
    """All bytes of a blob, proven to be those that were put.

    Raises:
        ArtifactError: it is missing, cannot be read, or its bytes have changed.
    """
    content = store.read(blob.sha256, 0, blob.length)
    require_content(blob, [content], f"blob {blob.sha256.hex()}")
    return content


def is_there(store: ArtifactStore, blob: Blob) -> bool:
    """Whether a blob is there, by its last byte: cheap, for one that was verified before."""
    try:
        last = store.read(blob.sha256, max(blob.length - 1, 0), 1)
    except ArtifactError:
        return False
    return len(last) == min(blob.length, 1)


def is_intact(store: ArtifactStore, blob: Blob) -> bool:
    """Whether a blob is there with all its bytes."""
    try:
        store.verify(blob)
    except ArtifactError:
        return False
    return True

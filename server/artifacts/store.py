"""The seam: what the rest of the server knows of a place for blobs."""

from typing import Protocol

from server.domain import Blob


class ArtifactStore(Protocol):
    """Where blobs are kept."""

    def put(self, content: bytes) -> Blob:
        """Store a blob durably, or leave it where it is there already, unharmed.

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

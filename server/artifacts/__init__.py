"""Blobs by content: a blob's name is the SHA-256 of its bytes, so it can never change.

    >>> store = FolderStore.create(Path("artifacts"))        # or open_store("s3://bucket/prefix")
    >>> blob = store.put(b"...")
    >>> store.read(blob.sha256, offset=0, length=blob.length)

ArtifactStore is the seam: a folder for one server, an S3 bucket for several. What a store returns
from `put` is durable.
"""

from server.artifacts.folder import FolderStore
from server.artifacts.opening import create_store, open_store
from server.artifacts.remembering import RememberingStore
from server.artifacts.store import ArtifactStore, StoredFile, read_whole

__all__ = [
    "ArtifactStore",
    "FolderStore",
    "RememberingStore",
    "StoredFile",
    "create_store",
    "open_store",
    "read_whole",
]

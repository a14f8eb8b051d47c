"""A store that knows what was put into it lately, and puts it there again should it be gone.

A blob that is published may have been in the store for long, with no name: then a collection may
delete it between `put` and the transaction that names it. So whoever names blobs puts them through
this, and has `keep` called in that transaction, while nothing can be deleted.

    >>> artifacts = RememberingStore(home.artifacts)
    >>> blob = artifacts.put(content)
    >>> registry.add_step("digits", step, present=artifacts.keep)
"""

from collections.abc import Iterable, Iterator

from server.artifacts.store import ArtifactStore, StoredFile, is_there
from server.domain import Blob
from server.errors import ConflictError


class RememberingStore:
    """Another store, with the contents of this publication in memory."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._contents: dict[bytes, bytes] = {}

    def put(self, content: bytes) -> Blob:
        """As of the store."""
        blob = self._store.put(content)
        self._contents[blob.sha256] = content
        return blob

    def keep(self, blobs: Iterable[Blob]) -> None:
        """See to it that blobs are in the store.

        Raises:
            ConflictError: one that was not put through this was collected meanwhile.
            ArtifactError: the store failed.
        """
        for blob in blobs:
            if is_there(self._store, blob):
                continue
            content = self._contents.get(blob.sha256)
            if content is None:
                raise ConflictError(
                    f"expected blob {blob.sha256.hex()}, found that it was collected"
                )
            self._store.put(content)
            self._store.verify(blob)

    def read(self, sha256: bytes, offset: int, length: int) -> bytes:
        """As of the store; what was put through this is there in any case."""
        content = self._contents.get(sha256)
        if content is not None:
            return content[offset : offset + length]
        return self._store.read(sha256, offset, length)

    def verify(self, blob: Blob) -> None:
        """As of the store; what was put through this is put once more should it be gone."""
        if blob.sha256 in self._contents and not is_there(self._store, blob):
            self._store.put(self._contents[blob.sha256])
        self._store.verify(blob)

    def require_reachable(self) -> None:
        """As of the store."""
        self._store.require_reachable()

    def listing(self) -> Iterator[StoredFile]:
        """As of the store."""
        return self._store.listing()

    def delete(self, names: Iterable[str]) -> None:
        """As of the store."""
        self._store.delete(names)

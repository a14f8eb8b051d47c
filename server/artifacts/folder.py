"""Blobs as files of a folder."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from diffcodec.durable import sync_folder
from server.artifacts.store import StoredFile, is_intact, name_of, require_content
from server.domain import Blob
from server.errors import ArtifactError

HASH_BLOCK_BYTES = 1 << 20
UNFINISHED = ".incoming-"


class FolderStore:
    """Blobs as files, FOLDER/ab/cdef..., named by the hex SHA-256.

    A blob is written to a temporary name, fsynced, renamed, and the folders are fsynced.
    Leftovers of a crash are named .incoming-*, are never read and may be deleted.
    """

    def __init__(self, folder: Path) -> None:
        """Use a folder that exists."""
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "FolderStore":
        """Make the folder unless it is there.

        Raises:
            ArtifactError: it cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArtifactError(f"{folder}: cannot be made: {error.strerror}") from error
        return cls(folder)

    def put(self, content: bytes) -> Blob:
        """Store a blob durably."""
        blob = Blob(hashlib.sha256(content).digest(), len(content))
        is_there = is_intact(self, blob)
        path = self._path(blob.sha256)
        try:
            path.parent.mkdir(exist_ok=True)
            sync_folder(self.folder)
            if is_there:
                # Whoever wrote it may have died between the rename and this.
                sync_folder(path.parent)
            else:
                _write_durably(path, content)
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be written: {error.strerror}") from error
        return blob

    def read(self, sha256: bytes, offset: int, length: int) -> bytes:
        """Read a range."""
        path = self._path(sha256)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError as error:
            raise ArtifactError(f"expected blob {sha256.hex()}, found no file {path}") from error
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from error

    def verify(self, blob: Blob) -> None:
        """Read a blob again and compare."""
        require_content(blob, self._blocks(blob.sha256), str(self._path(blob.sha256)))

    def require_reachable(self) -> None:
        """Look into the folder."""
        try:
            with os.scandir(self.folder) as entries:
                next(entries, None)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be read: {error.strerror}") from error

    def listing(self) -> Iterator[StoredFile]:
        """Every blob, and every leftover of a crash."""
        try:
            for path in self.folder.glob("*/*"):
                with suppress(FileNotFoundError):  # finished or deleted this moment
                    yield from self._listed(path)
        except OSError as error:
            raise ArtifactError(f"{self.folder}: cannot be listed: {error.strerror}") from error

    def delete(self, names: Iterable[str]) -> None:
        """Delete files; the folders stay, for a blob that is written this moment."""
        for name in names:
            try:
                (self.folder / name).unlink(missing_ok=True)
            except OSError as error:
                raise ArtifactError(
                    f"{self.folder / name}: cannot be deleted: {error.strerror}"
                ) from error

    def _listed(self, path: Path) -> Iterator[StoredFile]:
        found = path.stat()
        modified_at = datetime.fromtimestamp(found.st_mtime, UTC)
        file = StoredFile(path.relative_to(self.folder).as_posix(), found.st_size, modified_at)
        if file.sha256 is not None or path.name.startswith(UNFINISHED):
            yield file

    def _blocks(self, sha256: bytes) -> Iterator[bytes]:
        offset = 0
        while block := self.read(sha256, offset, HASH_BLOCK_BYTES):
            yield block
            offset += len(block)

    def _path(self, sha256: bytes) -> Path:
        return self.folder / name_of(sha256)


def _write_durably(path: Path, content: bytes) -> None:
    """Write, fsync, rename, fsync the folder; after a crash there is all of it or nothing."""
    handle, name = tempfile.mkstemp(prefix=UNFINISHED, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)

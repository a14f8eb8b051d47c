"""Blobs as objects of an S3 bucket.

Keys, region and endpoint come from the environment, as for every S3 client: AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL, and AWS_ALLOW_HTTP for one without TLS.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from server.artifacts.store import StoredFile, name_of, require_content
from server.domain import Blob
from server.errors import ArtifactError, SettingError

if TYPE_CHECKING:
    from obstore.store import S3Store

TIMEOUT_S = 30
RETRIES = 4
"""Of one request, within the timeout: networks blink."""
STREAM_BYTES = 1 << 20


class BucketStore:
    """Blobs as BUCKET/PREFIX/ab/cdef..., named by the hex SHA-256.

    An object appears whole or not at all, so there is nothing to clean up after a crash.
    """

    def __init__(self, objects: "S3Store", name: str) -> None:
        self._objects = objects
        self._name = name

    @classmethod
    def of(cls, bucket: str, prefix: str) -> "BucketStore":
        """Use a bucket that exists.

        Raises:
            SettingError: the extra `s3` is not installed, or the environment is not understood.
            ArtifactError: it cannot be reached, or not be listed with these keys.
        """
        try:
            from obstore.exceptions import BaseError
            from obstore.store import S3Store
        except ModuleNotFoundError as error:
            raise SettingError(
                "expected the extra `s3` (pip install 'neuraldiff[s3]') to be installed, found "
                f"no {error.name}"
            ) from error
        try:
            objects = S3Store(
                bucket,
                prefix=prefix or None,
                client_options={
                    "timeout": timedelta(seconds=TIMEOUT_S),
                    # Options given here replace those of the environment.
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
                },
                retry_config={
                    "max_retries": RETRIES,
                    "retry_timeout": timedelta(seconds=TIMEOUT_S),
                },
            )
        except BaseError as error:
            raise SettingError(f"s3://{bucket}: {_first_line(error)}") from error
        store = cls(objects, f"s3://{bucket}/{prefix}".rstrip("/"))
        store.require_reachable()
        return store

    def put(self, content: bytes) -> Blob:
        """Store a blob durably; one that is there is replaced by itself.

        To know that it is there unharmed would take reading all of it.
        """
        blob = Blob(hashlib.sha256(content).digest(), len(content))
        with self._errors("written", blob.sha256):
            self._objects.put(name_of(blob.sha256), content)
        return blob

    def read(self, sha256: bytes, offset: int, length: int) -> bytes:
        """Read a range."""
        from obstore.exceptions import BaseError

        if not length:
            return b""
        name = name_of(sha256)
        with self._errors("read", sha256):
            try:
                return bytes(self._objects.get_range(name, start=offset, end=offset + length))
            except BaseError:
                # S3 calls a range that begins at the end an error.
                if offset >= self._objects.head(name)["size"]:
                    return b""
                raise

    def verify(self, blob: Blob) -> None:
        """Read a blob again and compare."""
        name = name_of(blob.sha256)
        with self._errors("read", blob.sha256):
            blocks = self._objects.get(name).stream(STREAM_BYTES)
            require_content(blob, map(bytes, blocks), f"{self._name}/{name}")

    def require_reachable(self) -> None:
        """List an object."""
        with self._errors("listed"):
            next(iter(self._objects.list(chunk_size=1)), None)

    def listing(self) -> Iterator[StoredFile]:
        """Every blob; nothing is ever left of one that was not written whole."""
        with self._errors("listed"):
            for page in self._objects.list():
                for found in page:
                    file = StoredFile(found["path"], found["size"], found["last_modified"])
                    if file.sha256 is not None:
                        yield file

    def delete(self, names: Iterable[str]) -> None:
        """Delete objects, many with a request."""
        wanted = list(names)
        if wanted:
            with self._errors("deleted from"):
                self._objects.delete(wanted)

    @contextmanager
    def _errors(self, done: str, sha256: bytes | None = None) -> Iterator[None]:
        """Stop obstore's exceptions at this seam."""
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError) as error:
            if sha256 is not None and isinstance(error, FileNotFoundError):
                raise ArtifactError(
                    f"expected blob {sha256.hex()}, found no object in {self._name}"
                ) from error
            place = self._name if sha256 is None else f"{self._name}/{name_of(sha256)}"
            raise ArtifactError(f"{place}: cannot be {done}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]

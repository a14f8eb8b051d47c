"""Which store a URL means."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from server.artifacts.bucket import BucketStore
from server.artifacts.folder import FolderStore
from server.artifacts.store import ArtifactStore
from server.errors import HomeError, SettingError

FORMS = "a folder, file:///PATH or s3://BUCKET/PREFIX"


def create_store(url: str) -> ArtifactStore:
    """Open a store, and make its folder unless it is there. A bucket is never made.

    Raises:
        SettingError: not the URL of a store.
        ArtifactError: the folder cannot be made, or the bucket not be reached.
    """
    bucket = _bucket(url)
    return bucket if bucket is not None else FolderStore.create(_folder(url))


def open_store(url: str) -> ArtifactStore:
    """Open a store that is there.

    Raises:
        SettingError: not the URL of a store.
        HomeError: there is no such folder.
        ArtifactError: the bucket cannot be reached.
    """
    bucket = _bucket(url)
    if bucket is not None:
        return bucket
    folder = _folder(url)
    if not folder.is_dir():
        raise HomeError(f"expected a folder of artifacts, found no {folder}")
    return FolderStore(folder)


def _bucket(url: str) -> BucketStore | None:
    parts = urlsplit(url)
    if parts.scheme != "s3":
        return None
    # Keys in a URL end up in logs and in the list of processes.
    if not parts.hostname or "@" in parts.netloc or parts.query:
        raise SettingError(
            "expected a store s3://BUCKET/PREFIX, its keys and endpoint in the environment "
            "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL)"
        )
    return BucketStore.of(parts.hostname, parts.path.strip("/"))


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    if parts.scheme == "":
        return Path(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise SettingError(f"expected a store that is {FORMS}, found {parts.scheme}:")
    return Path(unquote(parts.path))

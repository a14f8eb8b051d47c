"""Verify TUF metadata: python-tuf's client workflow, with our transport, clock and errors.

python-tuf does not fsync its cache and need not: whatever a power cut leaves there is verified
again, and fetched again where that fails. It reads the system's clock when it is made; the time
that counts here is set over it (`TrustedMetadataSet.reference_time`, which its own conformance
client sets as well; a test pins that it is looked at).

    >>> verifier = Verifier(root, cache, fetcher, judged_at)
    >>> verifier.refresh()
    >>> verifier.find("digits/3")
    SignedTarget(...)
"""

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    RepositoryError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from edge_client import durable
from edge_client.errors import (
    MissingMetadataError,
    NoRootError,
    OversizedError,
    ReplayError,
    ServerFaultError,
    StaleError,
    TrustError,
    one_line,
)
from edge_client.transport import Connection
from edge_client.trust.root import MOST_ROOT_BYTES

BASE_URL = "ota:/"
LIMITS = UpdaterConfig(
    max_root_rotations=256,
    root_max_length=MOST_ROOT_BYTES,
    timestamp_max_length=16 * 1024,
    snapshot_max_length=256 * 1024,
    targets_max_length=1 << 20,
    prefix_targets_with_hash=False,
)
CACHED_ROOTS = "root_history"
NOT_FOUND = 404

Found = TypeVar("Found")


class ConnectionFetcher(FetcherInterface):
    """Metadata over the device's connection, so that it is metered as everything else."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _fetch(self, url: str) -> Iterator[bytes]:
        yield self.download_bytes(url, MOST_ROOT_BYTES)

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Read one file into memory, without python-tuf's temporary file."""
        role, version = _role_and_version(url.rpartition("/")[2])
        try:
            return self._connection.read_metadata(role, version, max_length)
        except MissingMetadataError as error:
            raise DownloadHTTPError(str(error), NOT_FOUND) from error


@dataclass(frozen=True)
class SignedTarget:
    """A target that a role vouches for."""

    sha256: bytes
    length_bytes: int
    custom: Any


class Verifier:
    """One pass of the client workflow; make a new one for the next refresh."""

    def __init__(
        self,
        root: bytes,
        cache: Path,
        fetcher: FetcherInterface,
        judged_at: datetime,
        config: UpdaterConfig = LIMITS,
        base_url: str = BASE_URL,
    ) -> None:
        self._root, self._cache, self._fetcher = root, cache, fetcher
        self._judged_at, self._config, self._base_url = judged_at, config, base_url
        self._updater: Updater | None = None

    def refresh(self) -> None:
        """Bring root, timestamp, snapshot and targets up to date.

        A cache that cannot be used is emptied, and all of it is fetched again.

        Raises:
            TrustError: something is not what it should be; its subclass says what.
            StaleError: something has expired.
            NoRootError: the root of trust is damaged.
            ServerUnavailableError, ServerFaultError, DiskFullError, StorageError
        """
        self._healing(self._refresh)

    def find(self, path: str) -> SignedTarget | None:
        """What the role that is responsible for a name says of it; None: nothing.

        Raises:
            As `refresh`.
        """
        target = self._healing(lambda: self.updater.get_targetinfo(path))
        return None if target is None else _target(target)

    @property
    def expires_at(self) -> datetime:
        """When the first of all metadata that was looked at expires."""
        return min(document.expires for document in self.updater._trusted_set)

    @property
    def root(self) -> bytes:
        """The newest root, verified."""
        version = self.updater._trusted_set.root.version
        with durable.storage_errors("cannot read the newest root"):
            return (self._cache / CACHED_ROOTS / f"{version}.root.json").read_bytes()

    @property
    def updater(self) -> Updater:
        """What did the work, after a refresh."""
        if self._updater is None:
            raise RuntimeError("expected a refresh before this")
        return self._updater

    def _healing(self, work: Callable[[], Found]) -> Found:
        """Do something with the cache, once more from nothing where the cache cannot be used."""
        try:
            with _trust_errors():
                return work()
        except OSError as error:
            with durable.storage_errors("cannot keep metadata"), _trust_errors():
                if error.errno in durable.NO_ROOM:
                    raise
                _wipe(self._cache)
                self._refresh()
                return work()

    def _refresh(self) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self._cache),
                self._base_url,
                fetcher=self._fetcher,
                config=self._config,
                bootstrap=self._root,
            )
        except RepositoryError as error:
            raise NoRootError(
                f"the pinned root of trust is not sound ({one_line(str(error))}); "
                f"run: ota-edge enroll --root FILE"
            ) from error
        updater._trusted_set.reference_time = self._judged_at
        updater.refresh()
        self._updater = updater


@contextmanager
def _trust_errors() -> Iterator[None]:
    """Turn python-tuf's errors into ours; OSError passes."""
    try:
        yield
    except ExpiredMetadataError as error:
        raise StaleError(f"expected metadata that is valid, found: {_said(error)}") from error
    except BadVersionNumberError as error:
        raise ReplayError(f"expected newer metadata, found: {_said(error)}") from error
    except RepositoryError as error:
        raise TrustError(f"expected metadata that is trusted, found: {_said(error)}") from error
    except DownloadLengthMismatchError as error:
        raise OversizedError(f"metadata is too long: {_said(error)}") from error
    except DownloadHTTPError as error:
        raise MissingMetadataError(_said(error)) from error
    except DownloadError as error:
        raise ServerFaultError(f"metadata cannot be read: {_said(error)}") from error


def _said(error: Exception) -> str:
    return one_line(str(error))


def _target(target: TargetFile) -> SignedTarget:
    try:
        sha256 = bytes.fromhex(target.hashes["sha256"])
    except (KeyError, ValueError) as error:
        raise TrustError(f"expected a target with a SHA-256, found {target.hashes}") from error
    return SignedTarget(sha256, target.length, target.custom)


def _role_and_version(name: str) -> tuple[str, int]:
    """Read [VERSION.]ROLE.json; both are for the server, neither names a file here."""
    stem = name.removesuffix(".json")
    version, dot, role = stem.partition(".")
    return (role, int(version)) if dot and version.isdecimal() else (stem, 0)


def _wipe(cache: Path) -> None:
    """Remove a cache, whatever lies in its place."""
    try:
        shutil.rmtree(cache)
    except NotADirectoryError:
        cache.unlink()
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise

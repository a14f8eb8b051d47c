"""One folder with everything that a server keeps.

    HOME/registry.db      the registry (SQLite, WAL: -wal and -shm files beside it)
    HOME/artifacts/       blobs, content-addressed
    HOME/tls/, ca.pem     keys and certificates (server.identity.authority)
    HOME/keys/            private keys that sign (server.signing.keyring)

The first two can live elsewhere by URL, in PostgreSQL and in an S3 bucket; several servers may
share them, each with a copy of the keys.

    >>> home = ServerHome.create(Path("srv"))       # or .open
    >>> home.registry.models()
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from server.artifacts import ArtifactStore, create_store, open_store
from server.clock import utc_now
from server.errors import ConflictError, HomeError
from server.identity.authority import Authority
from server.identity.fleet import found, open_authority
from server.identity.keys import Policy
from server.registry import Registry, sqlite_url
from server.signing import ceremonies, releasing
from server.signing.keyring import Keyring
from server.signing.roles import RELEASES

DATABASE_NAME = "registry.db"
ARTIFACTS_NAME = "artifacts"


@dataclass(frozen=True)
class ServerHome:
    """An open server home."""

    folder: Path
    registry: Registry
    artifacts: ArtifactStore
    keys: Keyring

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        database: str | None = None,
        store: str | None = None,
        names: Sequence[str] = (),
        enrolment: Policy | None = None,
        new_authority: bool = False,
        offline_keys: Path | None = None,
    ) -> "ServerHome":
        """Make a home, or bring the database of one up to date; what it holds stays.

        The first home of a registry gets all keys. What was published before there were
        signatures is signed.

        Args:
            folder: New, empty, or a home already.
            database: URL of the registry, SQLite or PostgreSQL; HOME/registry.db without it.
            store: URL of the artifacts, a folder or an S3 bucket; HOME/artifacts without it.
            names: How devices reach the server, beside the names of loopback.
            enrolment: What becomes of devices that ask; None: as it is, `approve` at first.
            new_authority: The registry's fleet has lost its keys; these take their place.
            offline_keys: Folder of the offline keys; HOME/keys/offline without it.

        Raises:
            HomeError: the folder holds other things, or cannot be made; or the registry is of a
                fleet whose keys are not here.
            SettingError: a URL is not one that we know.
            ArtifactError: the folder of artifacts cannot be made, or the bucket not be reached.
        """
        stranger = _stranger_in(folder)
        if stranger is not None:
            raise HomeError(f"{folder}: expected a new or empty folder, found {stranger} in it")
        artifacts = create_store(store or _default_store(folder))
        try:
            # An empty folder marks the home even where the artifacts are kept elsewhere.
            (folder / ARTIFACTS_NAME).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError(f"{folder}: cannot be made: {error.strerror}") from error
        registry = Registry.create(database or _default_database(folder))
        try:
            found(
                folder,
                registry,
                utc_now(),
                names=names,
                policy=enrolment,
                new_authority=new_authority,
            )
            home = cls(folder, registry, artifacts, Keyring.of(folder, offline_keys))
            home._sign_what_is_unsigned()
        except BaseException:
            registry.close()
            raise
        return home

    @classmethod
    def open(
        cls, folder: Path, *, database: str | None = None, store: str | None = None
    ) -> "ServerHome":
        """Open a home that `create` made.

        Raises:
            HomeError: the folder is not a home, or of another version.
            SettingError: a URL is not one that we know.
            ArtifactError: the bucket cannot be reached.
        """
        if not _looks_like_home(folder):
            raise HomeError(
                f"{folder}: expected a server home, found none; "
                f"`ota-server init {folder}` makes one"
            )
        artifacts = open_store(store or _default_store(folder))
        registry = Registry.open(database or _default_database(folder))
        return cls(folder, registry, artifacts, Keyring.of(folder))

    def authority(self) -> Authority:
        """The keys of the fleet.

        Raises:
            HomeError: they are missing, damaged, or not of the registry's fleet.
        """
        return open_authority(self.folder, self.registry)

    def acting_as(self, actor: str) -> "ServerHome":
        """The same home, for what somebody else changes."""
        return replace(self, registry=self.registry.acting_as(actor))

    def close(self) -> None:
        """Close the database."""
        self.registry.close()

    def _sign_what_is_unsigned(self) -> None:
        now = utc_now()
        if not ceremonies.is_founded(self.registry):
            with suppress(ConflictError):  # another home of this registry was faster
                ceremonies.found(self.registry, self.keys, now)
        if self.keys.files(RELEASES):
            releasing.sign_older(self.registry, self.artifacts, self.keys, now)


def _looks_like_home(folder: Path) -> bool:
    return (folder / ARTIFACTS_NAME).is_dir()


def _stranger_in(folder: Path) -> str | None:
    """What lies in a folder that is not a home; None where nothing does."""
    try:
        names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise HomeError(f"{folder}: expected a folder: {error.strerror}") from error
    return names[0] if names and not _looks_like_home(folder) else None


def _default_database(folder: Path) -> str:
    return sqlite_url(folder / DATABASE_NAME)


def _default_store(folder: Path) -> str:
    # Absolute: a relative one may look like a URL.
    return str((folder / ARTIFACTS_NAME).absolute())

"""One folder with everything that a server keeps.

    HOME/registry.db      the registry (SQLite, WAL: -wal and -shm files beside it)
    HOME/artifacts/       blobs, content-addressed

Both can live elsewhere by URL; then HOME only names the server.

    >>> home = ServerHome.create(Path("srv"))       # or .open
    >>> home.registry.models()
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from server.artifacts import ArtifactStore, FolderStore
from server.errors import HomeError, SettingError
from server.registry import Registry, sqlite_url

DATABASE_NAME = "registry.db"
ARTIFACTS_NAME = "artifacts"


@dataclass(frozen=True)
class ServerHome:
    """An open server home."""

    folder: Path
    registry: Registry
    artifacts: ArtifactStore

    @classmethod
    def create(
        cls, folder: Path, *, database: str | None = None, store: str | None = None
    ) -> "ServerHome":
        """Make a home, or bring the database of one up to date; what it holds stays.

        Args:
            folder: New, empty, or a home already.
            database: SQLite URL of the registry; HOME/registry.db without it.
            store: Folder or file:// URL of the artifacts; HOME/artifacts without it.

        Raises:
            HomeError: the folder holds other things, or cannot be made.
            SettingError: a URL is not one that we know.
        """
        artifacts_folder = _store_folder(folder, store)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            strangers = [entry.name for entry in folder.iterdir()]
        except OSError as error:
            raise HomeError(f"{folder}: expected a folder: {error.strerror}") from error
        if strangers and not _looks_like_home(folder):
            raise HomeError(
                f"{folder}: expected a new or empty folder, found {sorted(strangers)[0]} in it"
            )
        artifacts = FolderStore.create(artifacts_folder)
        # An empty folder marks the home even where the artifacts are kept elsewhere.
        (folder / ARTIFACTS_NAME).mkdir(exist_ok=True)
        registry = Registry.create(database or _default_database(folder))
        return cls(folder, registry, artifacts)

    @classmethod
    def open(
        cls, folder: Path, *, database: str | None = None, store: str | None = None
    ) -> "ServerHome":
        """Open a home that `create` made.

        Raises:
            HomeError: the folder is not a home, or of another version.
            SettingError: a URL is not one that we know.
        """
        artifacts_folder = _store_folder(folder, store)
        if not _looks_like_home(folder):
            raise HomeError(
                f"{folder}: expected a server home, found none; "
                f"`ota-server init {folder}` makes one"
            )
        if not artifacts_folder.is_dir():
            raise HomeError(f"expected a folder of artifacts, found no {artifacts_folder}")
        registry = Registry.open(database or _default_database(folder))
        return cls(folder, registry, FolderStore(artifacts_folder))

    def close(self) -> None:
        """Close the database."""
        self.registry.close()


def _looks_like_home(folder: Path) -> bool:
    return (folder / ARTIFACTS_NAME).is_dir()


def _default_database(folder: Path) -> str:
    return sqlite_url(folder / DATABASE_NAME)


def _store_folder(folder: Path, store: str | None) -> Path:
    if store is None:
        return folder / ARTIFACTS_NAME
    url = urlsplit(store)
    if url.scheme == "":
        return Path(store)
    if url.scheme != "file" or url.netloc not in ("", "localhost"):
        raise SettingError(
            f"expected a store that is a folder or file:///PATH, found {url.scheme}:"
        )
    return Path(unquote(url.path))

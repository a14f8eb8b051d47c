"""The root of trust of a home: pinned at enrolment, replaced by its own successors alone.

    HOME/trust/root.json     as it was pinned, or its newest successor
    HOME/trust/tuf/          python-tuf's cache, with a copy of it

python-tuf takes a fifth of a second to import, and much more on a small device. So it is imported
where it is needed: `ota-edge infer` does without.
"""

from pathlib import Path

from edge_client import durable
from edge_client.errors import NoRootError, one_line

FOLDER, ROOT, CACHE = "trust", "root.json", "tuf"
MOST_ROOT_BYTES = 64 * 1024


def pinned_root(home: Path) -> bytes:
    """The root of trust of a home.

    Should the disk have damaged it, the cache's copy serves; it lies beside it, and is as good.

    Raises:
        NoRootError: there is none that is sound.
    """
    folder = home / FOLDER
    path = folder / ROOT
    pinned = _content(path)
    for content in (pinned, _content(folder / CACHE / ROOT)):
        try:
            if content is not None:
                require_root(content)
                return content
        except NoRootError:
            continue
    found = "none" if pinned is None else "a damaged one"
    raise NoRootError(
        f"expected a root of trust in {path}, found {found}; run: ota-edge enroll --root FILE"
    )


def pin_root(home: Path, content: bytes) -> None:
    """Trust a root from now on, and forget what others vouched for.

    Raises:
        NoRootError: it is not a root that is signed by itself.
        DiskFullError, StorageError
    """
    require_root(content)
    folder = home / FOLDER
    durable.make_folder(folder)
    durable.clear_folder(folder / CACHE)
    durable.write(folder / ROOT, content)


def require_root(content: bytes) -> None:
    """Check that a file is a root that is signed by itself.

    Raises:
        NoRootError: it is not.
    """
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    try:
        metadata: Metadata[Root] = Metadata.from_bytes(content)
        if not isinstance(metadata.signed, Root):
            raise NoRootError("expected a TUF root, found metadata of another role")
        metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    except RepositoryError as error:
        raise NoRootError(
            f"expected a TUF root that is signed by itself, found none: {one_line(str(error))}"
        ) from error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None

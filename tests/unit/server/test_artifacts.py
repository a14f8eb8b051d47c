import errno
import os
import stat
from pathlib import Path

import pytest

from server.artifacts import FolderStore
from server.domain import Blob
from server.errors import ArtifactError


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore.create(tmp_path / "artifacts")


def file_of(store: FolderStore, blob: Blob) -> Path:
    name = blob.sha256.hex()
    return store.folder / name[:2] / name[2:]


def test_putting_twice_keeps_one_untouched_file(store: FolderStore) -> None:
    first = store.put(b"same")
    before = file_of(store, first).stat()
    assert store.put(b"same") == first
    after = file_of(store, first).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_full_disk_leaves_no_blob_and_no_leftovers(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_fsync = os.fsync

    def full_for_files(handle: int) -> None:
        if stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.ENOSPC, "No space left on device")
        real_fsync(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_for_files)
        with pytest.raises(ArtifactError, match="No space left"):
            store.put(b"never there")
    assert [path for path in store.folder.rglob("*") if path.is_file()] == []
    store.verify(store.put(b"never there"))


def test_the_file_and_its_folder_are_synced_before_put_returns(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    real_fsync = os.fsync

    def recording(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").resolve())
        real_fsync(handle)

    monkeypatch.setattr(os, "fsync", recording)
    folder = file_of(store, store.put(b"durable")).parent
    assert synced[0] == store.folder
    assert synced[1].parent == folder
    assert synced[1].name.startswith(".incoming-")
    assert synced[2] == folder
    synced.clear()
    store.put(b"durable")
    assert synced == [store.folder, folder]


def test_a_store_where_a_file_stands_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be made"):
        FolderStore.create(tmp_path / "file" / "artifacts")

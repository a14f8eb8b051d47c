import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.artifacts import FolderStore
from server.domain import Blob
from server.errors import ArtifactError


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore.create(tmp_path / "artifacts")


def file_of(store: FolderStore, blob: Blob) -> Path:
    name = blob.sha256.hex()
    return store.folder / name[:2] / name[2:]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(max_size=4000))
def test_what_is_put_is_read(store: FolderStore, content: bytes) -> None:
    blob = store.put(content)
    assert blob == Blob(hashlib.sha256(content).digest(), len(content))
    assert store.read(blob.sha256, 0, blob.length) == content
    store.verify(blob)


def test_a_range_is_read_and_ends_with_the_blob(store: FolderStore) -> None:
    blob = store.put(b"0123456789")
    assert store.read(blob.sha256, 3, 4) == b"3456"
    assert store.read(blob.sha256, 8, 100) == b"89"
    assert store.read(blob.sha256, 10, 1) == b""


def test_putting_twice_keeps_one_untouched_file(store: FolderStore) -> None:
    first = store.put(b"same")
    before = file_of(store, first).stat()
    assert store.put(b"same") == first
    after = file_of(store, first).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_missing_blob_is_an_error_that_names_it(store: FolderStore) -> None:
    missing = Blob(bytes(32), 5)
    with pytest.raises(ArtifactError, match="00" * 31):
        store.read(missing.sha256, 0, 5)
    with pytest.raises(ArtifactError, match="found no file"):
        store.verify(missing)


@pytest.mark.parametrize("damage", [b"", b"damag", b"damage!", b"damage and more"])
def test_changed_bytes_are_found_and_putting_again_mends_them(
    store: FolderStore, damage: bytes
) -> None:
    blob = store.put(b"precious")
    file_of(store, blob).write_bytes(damage)
    with pytest.raises(ArtifactError, match="expected 8 bytes"):
        store.verify(blob)
    store.put(b"precious")
    store.verify(blob)


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

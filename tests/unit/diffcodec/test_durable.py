"""Files that are there whole or not at all."""

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diffcodec import durable
from diffcodec.durable import new_file, replaced_file


@contextmanager
def files_of_at_most(limit_bytes: int) -> Iterator[None]:
    """Writing beyond the limit fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [5_000, 5_000_000], ids=["at the flush", "at the write"])
@pytest.mark.parametrize("make", [new_file, replaced_file])
def test_a_full_disk_names_the_target_and_leaves_nothing(tmp_path: Path, make, size: int):
    target = tmp_path / "g7.ndiff"
    with files_of_at_most(4_096), pytest.raises(OSError, match="g7") as full, make(target) as out:
        out.write(bytes(size))
    assert (full.value.errno, full.value.filename) == (errno.EFBIG, str(target))
    assert list(tmp_path.iterdir()) == []


def test_an_error_about_another_file_keeps_its_name(tmp_path: Path):
    with pytest.raises(FileNotFoundError) as missing, replaced_file(tmp_path / "new"):
        (tmp_path / "base").read_bytes()
    assert missing.value.filename == str(tmp_path / "base")


def test_a_new_file_whose_folder_cannot_be_synced_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fails(folder: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(folder))

    monkeypatch.setattr(durable, "sync_folder", fails)
    with pytest.raises(OSError, match="Input/output"), new_file(tmp_path / "new") as out:
        out.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_becomes_a_folder_meanwhile_leaves_no_part_behind(tmp_path: Path):
    target = tmp_path / "new"
    with pytest.raises(IsADirectoryError) as refused, replaced_file(target) as out:
        out.write(b"x")
        target.mkdir()
    assert refused.value.filename == str(target)
    assert list(tmp_path.iterdir()) == [target]

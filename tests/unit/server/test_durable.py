"""A file that replaces another one."""

from pathlib import Path

import pytest

from server.durable import replaced_file


def test_what_is_killed_leaves_the_old_file_and_the_next_try_takes_its_place(
    tmp_path: Path,
) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), replaced_file(path) as file:
        file.write(b"a longer one, half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    with replaced_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_its_owners_from_the_first_byte_on(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    (tmp_path / "key.pem.new").touch(0o644)  # of a try that was killed
    with replaced_file(path, is_secret=True) as file:
        file.write(b"secret")
        (unfinished,) = tmp_path.iterdir()
        assert unfinished.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mode & 0o777 == 0o600

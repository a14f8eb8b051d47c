from pathlib import Path

import pytest

from server.errors import HomeError, SettingError
from server.home import ServerHome
from server.registry import sqlite_url


def test_a_home_that_was_made_can_be_opened(tmp_path: Path) -> None:
    home = ServerHome.create(tmp_path / "deep" / "srv")
    blob = home.artifacts.put(b"kept")
    home.close()
    again = ServerHome.open(tmp_path / "deep" / "srv")
    assert again.artifacts.read(blob.sha256, 0, 4) == b"kept"
    again.close()


def test_making_a_home_again_keeps_what_it_holds(tmp_path: Path) -> None:
    home = ServerHome.create(tmp_path)
    blob = home.artifacts.put(b"kept")
    home.close()
    again = ServerHome.create(tmp_path)
    again.artifacts.verify(blob)
    again.close()


def test_a_folder_of_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(HomeError, match=r"found thesis\.tex"):
        ServerHome.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="expected a folder"):
        ServerHome.create(tmp_path / "file")


@pytest.mark.parametrize("name", [".", "missing"])
def test_opening_what_is_no_home_says_how_to_make_one(tmp_path: Path, name: str) -> None:
    with pytest.raises(HomeError, match="ota-server init"):
        ServerHome.open(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_database_and_artifacts_can_live_elsewhere(tmp_path: Path) -> None:
    places = {
        "database": sqlite_url(tmp_path / "elsewhere.db"),
        "store": (tmp_path / "with space").as_uri(),
    }
    home = ServerHome.create(tmp_path / "srv", **places)
    blob = home.artifacts.put(b"kept")
    home.close()
    assert (tmp_path / "elsewhere.db").is_file()
    assert list((tmp_path / "with space").iterdir())
    again = ServerHome.open(tmp_path / "srv", **places)
    again.artifacts.verify(blob)
    again.close()


@pytest.mark.parametrize("store", ["s3://key:secret@bucket/x", "file://host/x"])
def test_a_store_of_another_kind_is_refused_without_telling_its_secrets(
    tmp_path: Path, store: str
) -> None:
    with pytest.raises(SettingError, match="expected a store") as refused:
        ServerHome.create(tmp_path / "srv", store=store)
    assert "secret" not in str(refused.value)
    assert not (tmp_path / "srv").exists()


def test_a_store_that_is_not_there_is_refused_on_opening(tmp_path: Path) -> None:
    ServerHome.create(tmp_path / "srv").close()
    with pytest.raises(HomeError, match="nowhere"):
        ServerHome.open(tmp_path / "srv", store=str(tmp_path / "nowhere"))

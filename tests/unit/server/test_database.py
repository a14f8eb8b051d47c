from pathlib import Path

import pytest

from server.errors import HomeError, RegistryError, SettingError
from server.registry import Registry, database, sqlite_url


def test_sqlite_runs_in_wal_with_full_sync_and_foreign_keys(tmp_path: Path) -> None:
    engine = database.connect(sqlite_url(tmp_path / "registry.db"))
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    engine.dispose()
    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": database.BUSY_TIMEOUT_MS,
    }


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mysql://user:secret@host/db", "found 'mysql'"),
        ("postgresql://user:secret@host", "found none"),
        ("nonsense", "found 'nonsense'"),
        ("sqlite://", "found none"),
        ("sqlite:///:memory:", "found none"),
    ],
)
def test_a_database_url_of_no_known_kind_is_refused(url: str, found: str) -> None:
    with pytest.raises(SettingError, match=found) as refused:
        Registry.open(url)
    assert "secret" not in str(refused.value)


def test_opening_makes_no_database_of_a_mistyped_path(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="found no file"):
        Registry.open(sqlite_url(tmp_path / "mistyped.db"))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "registry.db").write_text("this is not a database, but long enough" * 10)
    with pytest.raises(RegistryError, match="not a database") as refused:
        Registry.open(sqlite_url(tmp_path / "registry.db"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["with space", "per%cent", "question?mark", "hash#", "ü"])
def test_a_path_may_have_any_characters(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "registry.db"
    path.parent.mkdir()
    Registry.create(sqlite_url(path)).close()
    assert path.is_file()

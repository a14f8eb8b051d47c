"""Fixtures of real services. A conftest.py imports them: environments of the edge have none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.registry import sqlite_url
from tests import postgres as real_postgres
from tests import s3 as real_s3
from tests.postgres import PostgresServer
from tests.s3 import S3Server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with real_postgres.running() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with real_s3.running() as server:
        yield server


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """An S3 server that the environment names, as for every S3 client."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "registry.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()

"""The database connection and its schema: SQLite for one server, PostgreSQL for several.

SQLite runs in WAL with synchronous=FULL (a commit survives a power cut), enforced foreign keys
and a busy timeout. Write transactions take the write lock when they begin: two that upgrade from
reading to writing at once would fail at once, whatever the timeout.

PostgreSQL runs at its READ COMMITTED: what two writers could both get right is settled by
constraints and by updates that name what they saw (registry). A pooled connection is tried before
it is used, so that a restart of the database costs nobody a request.

The schema is what the migrations make of it; `rows` must agree, and a test compares the two.
"""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from server.errors import HomeError, SettingError

SQLITE, POSTGRES = "sqlite", "postgresql"
URL_FORMS = "sqlite:///PATH or postgresql://USER@HOST/NAME"
BUSY_TIMEOUT_MS = 10_000
MIGRATION_LOCK = 0x6E64_6966_66
"""Names the lock under which one of several servers migrates."""
MIGRATIONS = Path(__file__).parent / "migrations"


def connect(url: str) -> Engine:
    """Make an engine for a database URL; connects lazily, creates no schema.

    Raises:
        SettingError: not the URL of an SQLite file or a PostgreSQL database, or the extra that
            speaks to the latter is not installed.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == POSTGRES:
        return _connect_postgres(parsed)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def name_of(engine: Engine) -> str:
    """What messages call the database: its file, or its URL without the password."""
    if engine.dialect.name == SQLITE:
        return str(engine.url.database)
    shown = engine.url.set(drivername=POSTGRES, query={})
    return shown.render_as_string(hide_password=True)


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        url = None
    if url is None or url.get_backend_name() not in (SQLITE, POSTGRES):
        # The URL itself is not repeated: it may hold a password.
        scheme = text.partition(":")[0] if url is not None else text
        raise SettingError(f"expected a database URL {URL_FORMS}, found {scheme!r}")
    if url.database in (None, "", ":memory:"):
        raise SettingError(f"expected a database URL {URL_FORMS}, found none of a database")
    return url


def _connect_postgres(url: URL) -> Engine:
    try:
        return create_engine(url.set(drivername=f"{POSTGRES}+psycopg"), pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise SettingError(
            "expected the extra `postgres` (pip install 'neuraldiff[postgres]') to be installed, "
            f"found no {error.name}"
        ) from error


def _configure(connection: Any, _record: object) -> None:
    # None: the driver begins no transactions behind our back; _begin does.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    mode = "IMMEDIATE" if connection.get_execution_options().get("writes") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {mode}")


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Create the schema, or bring it to a revision."""
    with _writing(engine) as connection:
        if engine.dialect.name == POSTGRES:  # SQLite's write lock does this
            connection.execute(select(func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        command.upgrade(_config(connection), revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to an older revision; what only newer ones can hold is lost."""
    with _writing(engine) as connection:
        command.downgrade(_config(connection), revision)


def require_current(engine: Engine) -> None:
    """Check that the schema is the one that this program knows.

    Raises:
        HomeError: it is older, newer or not there.
    """
    # SQLite would make an empty database of a mistyped path.
    if engine.dialect.name == SQLITE and not Path(engine.url.database or "").is_file():
        raise HomeError(f"expected a database, found no file {engine.url.database}")
    newest = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != newest:
        raise HomeError(
            f"{name_of(engine)}: expected database revision {newest}, found {found or 'none'}; "
            "`ota-server init` brings an older one up to date"
        )


def check(engine: Engine) -> None:
    """Compare the rows' tables with the schema that the migrations made.

    Raises:
        alembic.util.exc.AutogenerateDiffsDetected: they differ; a migration is missing.
    """
    with engine.connect() as connection:
        command.check(_config(connection))


def _writing(engine: Engine) -> Any:
    return engine.execution_options(writes=True).begin()


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config

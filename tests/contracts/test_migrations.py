from collections.abc import Iterator

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect

from diffcodec import Coder
from server.domain import AttemptState, Device, Outcome
from server.errors import HomeError
from server.identity.keys import KeyState
from server.registry import Registry, database
from server.registry.key_rows import DeviceKeyRow
from server.registry.rows import AttemptRow, ReportRow, Row
from tests.unit.server.values import TIME, generation, step

REVISIONS = [
    script.revision for script in ScriptDirectory(str(database.MIGRATIONS)).walk_revisions()
]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = database.connect(database_url)
    yield made
    made.dispose()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names()) - {"alembic_version"}


def test_the_migrations_make_exactly_the_tables_of_the_rows(engine: Engine) -> None:
    database.upgrade(engine)
    database.check(engine)
    assert tables(engine) == set(Row.metadata.tables)


@pytest.mark.parametrize("revision", ["base", *REVISIONS])
def test_from_every_revision_the_schema_goes_up_to_the_newest_and_down_to_nothing(
    engine: Engine, revision: str
) -> None:
    if revision != "base":
        database.upgrade(engine, revision)
    database.upgrade(engine)
    database.check(engine)
    database.downgrade(engine, "base")
    assert tables(engine) == set()
    database.upgrade(engine)
    database.check(engine)


def test_a_downgrade_works_on_tables_that_are_in_use(database_url: str, engine: Engine) -> None:
    registry = Registry.create(database_url)
    registry.add_generation(generation(0), [step(None, 0, 10)])
    registry.enroll(Device("device", "digits", "", TIME, TIME))
    registry.close()
    database.downgrade(engine, "base")
    assert tables(engine) == set()


def test_steps_of_a_database_without_coders_are_by_fast(database_url: str, engine: Engine) -> None:
    registry = Registry.create(database_url)
    registry.add_generation(generation(0), [step(None, 0, 10)])
    database.downgrade(engine, "0001")
    database.upgrade(engine)
    assert registry.steps("digits") == (step(None, 0, 10),)
    registry.close()


def test_a_database_without_coders_offers_only_what_every_device_decodes(
    database_url: str, engine: Engine
) -> None:
    registry = Registry.create(database_url)
    by_max = (step(None, 0, 9, coders=frozenset(c)) for c in ({Coder.MAX}, set(Coder)))
    registry.add_generation(generation(0), [step(None, 0, 10), *by_max])
    database.downgrade(engine, "0001")
    database.upgrade(engine)
    assert registry.steps("digits") == (step(None, 0, 10),)
    registry.close()


def test_upgrading_twice_keeps_what_is_there(database_url: str) -> None:
    first = Registry.create(database_url)
    first.add_generation(generation(0), [step(None, 0, 10)])
    first.close()
    again = Registry.create(database_url)
    assert again.head("digits") == generation(0)
    again.close()


def test_a_database_without_the_schema_says_how_to_get_it(
    database_url: str, engine: Engine
) -> None:
    database.upgrade(engine)
    database.downgrade(engine, "base")
    with pytest.raises(HomeError, match="found none; `ota-server init`"):
        Registry.open(database_url)


def test_every_constraint_has_a_name(engine: Engine) -> None:
    database.upgrade(engine)
    inspector = inspect(engine)
    for table in tables(engine):
        # SQLite gives no name to a key whose numbers never come back; nobody alters it.
        is_counted = table == "steps" and engine.dialect.name == "sqlite"
        constraints = [
            *([] if is_counted else [inspector.get_pk_constraint(table)]),
            *inspector.get_foreign_keys(table),
            *inspector.get_unique_constraints(table),
            *inspector.get_check_constraints(table),
        ]
        assert all(constraint["name"] for constraint in constraints), table


@pytest.mark.parametrize(
    ("row", "column", "values"),
    [
        (AttemptRow, "state", AttemptState),
        (ReportRow, "outcome", Outcome),
        (DeviceKeyRow, "state", KeyState),
    ],
)
def test_the_database_admits_every_value_of_an_enum(engine, row, column, values) -> None:
    database.upgrade(engine)
    checks = inspect(engine).get_check_constraints(row.__tablename__)
    admitted = next(check["sqltext"] for check in checks if column in check["sqltext"])
    assert all(f"'{value}'" in admitted for value in values)

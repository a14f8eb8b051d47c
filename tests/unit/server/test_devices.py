"""What a check-in costs."""

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import event

from server.devices import Installed
from server.domain import Device
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.signing import releasing
from tests.unit.server.check_ins import check_in
from tests.unit.server.models import snapshot, sparse, weights
from tests.unit.server.values import TIME


def queries_of_a_check_in(home: ServerHome) -> int:
    """Statements of SQL until a device of generation 0 knows that there is nothing for it."""
    asked = []

    def ask(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    runs = Installed(0, home.registry.generation("digits", 0).digest)
    event.listen(home.registry._engine, "before_cursor_execute", ask)
    answer = check_in(home.registry, "kitchen", runs)
    event.remove(home.registry._engine, "before_cursor_execute", ask)
    assert (answer.head, answer.plan) == (0, None)
    return len(asked)


def test_a_check_in_asks_the_registry_as_much_however_many_generations_were_revoked(
    tmp_path: Path,
) -> None:
    home = ServerHome.create(tmp_path / "srv")
    publish(home, "digits", snapshot(weights(0)))
    home.registry.enroll(Device("kitchen", "digits", "", TIME, TIME))
    before = queries_of_a_check_in(home)
    for number in range(1, 4):
        publish(home, "digits", sparse(weights_of(home, "digits", number - 1), number))
        releasing.revoke(home.registry, home.keys, "digits", [number], datetime.now(UTC))
    assert queries_of_a_check_in(home) == before
    home.close()

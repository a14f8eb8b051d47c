"""Who rolls up what, in both databases: two servers want it, one makes it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from server.clock import utc_now
from server.collecting.collection import collect
from server.domain import Device
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.registry import Registry
from server.registry.check_ins import CheckedIn
from server.registry.identities import Identities
from server.roll_ups import CLAIM_TIMEOUT, roll_up_one
from tests.unit.server.models import snapshot, uneven, weights
from tests.unit.server.values import TIME

LATER = TIME + CLAIM_TIMEOUT + timedelta(seconds=1)


@pytest.fixture
def home(database_url: str, tmp_path: Path) -> Iterator[ServerHome]:
    """Four generations; two devices at 0, one at 1, one that is gone at 2."""
    made = ServerHome.create(tmp_path / "srv", database=database_url)
    publish(made, "digits", snapshot(weights(0)))
    for number in range(3):
        publish(made, "digits", uneven(weights_of(made, "digits", number), number))
    for name, installed in (("a", 0), ("b", 0), ("c", 1), ("d", 2), ("e", 2)):
        made.registry.enroll(Device(name, "digits", "", TIME, TIME, installed))
    yield made
    made.close()


def rolled_up(home: ServerHome) -> set[tuple[int | None, int]]:
    steps = home.registry.steps("digits")
    return {(s.base, s.target) for s in steps if s.base is not None and s.target - s.base > 1}


def test_a_claim_is_won_once_and_taken_over_when_its_server_died(home: ServerHome) -> None:
    records = home.registry.roll_ups
    assert records.claim("digits", 0, 3, TIME, CLAIM_TIMEOUT)
    assert not records.claim("digits", 0, 3, TIME + CLAIM_TIMEOUT, CLAIM_TIMEOUT)
    assert records.claim("digits", 1, 3, TIME, CLAIM_TIMEOUT)
    assert records.tried("digits", TIME) == {(0, 3), (1, 3)}
    assert records.tried("digits", LATER - CLAIM_TIMEOUT) == frozenset()
    assert records.claim("digits", 0, 3, LATER, CLAIM_TIMEOUT)
    records.end("digits", 0, 3, 0, LATER)
    assert not records.claim("digits", 0, 3, LATER + 2 * CLAIM_TIMEOUT, CLAIM_TIMEOUT)
    assert records.tried("digits", LATER + CLAIM_TIMEOUT) == {(0, 3)}


def test_only_where_enough_devices_have_a_long_way_a_diff_is_made_and_once(
    home: ServerHome,
) -> None:
    assert roll_up_one(home) == (0, 3)
    assert rolled_up(home) == {(0, 3)}
    assert roll_up_one(home) is None
    assert roll_up_one(home, least_devices=1) == (1, 3)
    entries = [e for e in Identities(home.registry).audit() if e.action == "generation.roll-up"]
    assert [entry.subject for entry in entries] == ["digits 0 to 3", "digits 1 to 3"]


def test_two_servers_make_it_once(home: ServerHome, database_url: str) -> None:
    both = [home, replace(home, registry=Registry.open(database_url))]
    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(roll_up_one, both * 2))
    assert [one for one in made if one is not None] == [(0, 3)]
    both[1].registry.close()


def test_what_saves_nothing_is_not_tried_again(home: ServerHome) -> None:
    publish(home, "digits", snapshot(weights(9)))
    publish(home, "digits", snapshot(weights(10)))
    before = home.registry.steps("digits")
    tried = [roll_up_one(home) for _ in range(3)]
    assert set(tried) == {(0, 5), (2, 5), None}
    assert tried[-1] is None
    made = home.registry.steps("digits")[len(before) :]
    assert {step.target for step in made} <= {5}


def test_a_chain_that_cannot_be_read_is_left_and_tells_nobody(home: ServerHome) -> None:
    [step] = [s for s in home.registry.steps("digits") if (s.base, s.target) == (1, 2)][:1]
    (home.folder / "artifacts" / step.diff.sha256.hex()[:2] / step.diff.sha256.hex()[2:]).unlink()
    assert roll_up_one(home) == (0, 3)
    assert rolled_up(home) == set()
    assert roll_up_one(home) is None


def test_a_roll_up_is_collected_with_its_last_device_and_made_again_for_the_next(
    home: ServerHome,
) -> None:
    roll_up_one(home)
    now = utc_now()
    home.registry.check_ins.record([CheckedIn("a", 3), CheckedIn("b", 3)], now)
    collect(home, now + timedelta(minutes=1), older_than=timedelta(0), newest=2)
    assert rolled_up(home) == set()
    home.registry.check_ins.record([CheckedIn("a", 1), CheckedIn("b", 1)], now)
    assert roll_up_one(home) == (1, 3)

"""The overview of a fleet, in both databases."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server.domain import Attempt, AttemptState, Outcome, Report
from server.home import ServerHome
from server.overview import Overview, overview_of
from server.overview.content import content_of
from server.overview.reading import MOST_AUDIT
from server.overview.values import DeviceState
from server.registry.fleet import FleetRecords
from server.registry.identities import Identities
from server.rollouts.report import report_of
from server.rollouts.rollout import Member
from tests.integration.served_home import add_generation
from tests.made_up_fleet import EVERYBODY, HOUR, fill
from tests.unit.server.check_ins import record
from tests.unit.server.values import TIME

DEVICES = 120


@pytest.fixture
def empty(database_url: str, tmp_path: Path) -> Iterator[ServerHome]:
    home = ServerHome.create(tmp_path / "srv", database=database_url)
    yield home
    home.close()


@pytest.fixture
def home(empty: ServerHome) -> ServerHome:
    for number in range(12):
        add_generation(empty, number)
    return empty


@pytest.fixture
def overview(home: ServerHome) -> Overview:
    fill(home.registry, DEVICES, TIME)
    return overview_of(home, TIME)


def test_nothing_is_an_overview_too(empty: ServerHome) -> None:
    found = overview_of(empty, TIME)
    assert (found.models, found.fleet.devices, found.rollouts.total) == ((), 0, 0)
    assert (found.failures, found.spending.spent_bytes, found.spending.share) == ((), 0, None)
    assert {line.role for line in found.signatures} >= {"root", "targets", "snapshot", "timestamp"}
    assert json.dumps(content_of(found))


def test_every_device_is_counted_once_by_generation_and_state(overview: Overview) -> None:
    [model] = overview.models
    counted = sum(sum(states.values()) for states in model.states.values())
    assert counted == overview.fleet.devices == DEVICES
    assert sum(overview.fleet.states.values()) == DEVICES
    for state in DeviceState:
        by_generation = sum(states.get(state, 0) for states in model.states.values())
        assert by_generation == overview.fleet.states[state]
    listed = {row.number: row.devices for row in model.status.generations}
    assert listed == {number: sum(model.states.get(number, {}).values()) for number in range(12)}
    assert model.status.devices_without_model == sum(model.states[None].values()) == 1


def test_states_are_those_of_the_newest_attempt_and_of_the_last_sign_of_life(
    home: ServerHome,
) -> None:
    registry = home.registry
    fill(registry, 17, TIME)
    attempt = Attempt("newer", "device-0016", 10, 11, AttemptState.PLANNED, TIME)
    failed = {line.device_id for line in overview_of(home, TIME).fleet.worth_a_look.items}
    assert failed == {"device-0016", "device-0007"}
    record(registry, "device-0016", 10, attempt, TIME)
    found = {device.device_id: device for device in FleetRecords(registry).devices(TIME)}
    assert found["device-0016"].is_updating
    assert found["device-0016"].failure is None
    registry.report(Report("device-0016", "newer", 1, Outcome.FAILED, "BAD", 5, 6, 0), TIME)
    found = {device.device_id: device for device in FleetRecords(registry).devices(TIME)}
    assert found["device-0016"].failure is not None
    assert found["device-0016"].failure.code == "BAD"
    # It runs the target after all, whatever was reported: nothing is wrong with it.
    record(registry, "device-0016", 11, None, TIME)
    found = {device.device_id: device for device in FleetRecords(registry).devices(TIME)}
    assert found["device-0016"].failure is None


def test_a_device_out_of_service_counts_nowhere(home: ServerHome, overview: Overview) -> None:
    Identities(home.registry).decommission("device-0003", TIME)
    after = overview_of(home, TIME)
    assert after.fleet.devices == overview.fleet.devices - 1
    assert after.fleet.decommissioned == 1
    assert after.spending.limited == overview.spending.limited - 1


def test_failures_have_their_numbers_and_since_when(overview: Overview) -> None:
    found = {line.code: line for line in overview.failures}
    numbers = [number for number in range(DEVICES) if number % 13 == 3]
    assert sum(line.attempts for line in found.values()) == len(numbers)
    assert sum(line.devices for line in found.values()) == len(numbers)
    assert list(overview.failures) == sorted(
        overview.failures, key=lambda line: (-line.attempts, line.code)
    )
    for line in found.values():
        assert TIME - 3 * HOUR < line.first_at <= line.last_at < TIME


def test_failures_of_long_ago_are_left_out(home: ServerHome, overview: Overview) -> None:
    assert overview.failures
    assert overview_of(home, TIME + timedelta(days=31)).failures == ()


def test_budgets_are_a_devices_own_or_those_of_its_rollout(
    home: ServerHome, overview: Overview
) -> None:
    # Every device of `stable` is reached by the running rollout, those of `beta` have their own.
    assert overview.spending.limited == DEVICES
    own = len([number for number in range(DEVICES) if number % 40 == 3])
    assert overview.spending.budget_bytes == own * 300_000 + (DEVICES - own) * 400_000
    home.registry.rollouts.set_up(Member("device-0000"), 7, TIME)
    found = overview_of(home, TIME).spending
    assert found.budget_bytes == overview.spending.budget_bytes - 400_000 + 7
    shares = [line.share or 0 for line in found.nearest.items]
    assert shares == sorted(shares, reverse=True)
    assert overview_of(home, TIME + timedelta(days=31)).spending.spent_bytes == 0


def test_rollouts_that_have_not_ended_come_first(overview: Overview) -> None:
    states = [report.rollout.state for report in overview.rollouts.items]
    assert overview.rollouts.total == len(states) == 17
    assert [state.is_final for state in states] == [False] * 5 + [True] * 12
    assert overview.rollouts.items[0].rollout.progress.cutoff in (EVERYBODY, -1)


def test_of_each_rollout_it_says_what_one_alone_would(home: ServerHome, overview: Overview) -> None:
    assert any(report.failures for report in overview.rollouts.items)
    for report in overview.rollouts.items:
        assert report == report_of(home.registry, report.rollout)


def test_the_newest_changes_come_first_and_not_all_of_them(
    home: ServerHome, overview: Overview
) -> None:
    numbers = [entry.number for entry in overview.audit]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) <= MOST_AUDIT
    assert FleetRecords(home.registry).newest_audit(2) == overview.audit[:2]


def test_who_waits_is_listed_with_alerts_first(home: ServerHome, overview: Overview) -> None:
    assert [key.device_id for key in overview.fleet.waiting.items] == ["new-0", "new-1", "new-2"]
    Identities(home.registry).request(b"r" * 32, "new-2", "digits", "", TIME)
    fleet = overview_of(home, TIME).fleet
    assert (fleet.waiting.total, fleet.rivals) == (4, 2)
    assert [key.device_id for key in fleet.waiting.items[:2]] == ["new-2", "new-2"]


def test_looking_changes_nothing_and_says_the_same_again(
    home: ServerHome, overview: Overview
) -> None:
    again = overview_of(home, TIME)
    assert again == overview
    assert json.dumps(content_of(again)) == json.dumps(content_of(overview))

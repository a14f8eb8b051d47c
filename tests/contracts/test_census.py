"""What is counted over a whole registry, in both databases."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from server.domain import Attempt, AttemptState, Device, EndCode, Outcome, Report
from server.identity.keys import KeyState, Verb
from server.registry import Registry
from server.registry.census import census
from server.registry.identities import Identities
from server.rollouts.notation import parse_phases
from server.rollouts.rollout import Channel, Rollout
from server.rollouts.states import State
from server.signing.records import SignedFile
from tests.unit.server.check_ins import record
from tests.unit.server.values import TIME, generation, step

DAY = timedelta(days=1)


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    opened = Registry.create(database_url)
    yield opened
    opened.close()


def test_an_empty_registry_has_nothing_to_count(registry: Registry) -> None:
    counts = census(registry)
    assert (counts.devices, counts.attempts, counts.rollouts, counts.keys, counts.expiries) == (
        {}, {}, {}, {}, {},
    )  # fmt: skip


def test_devices_attempts_and_rollouts_are_counted_by_what_they_are(registry: Registry) -> None:
    for number in range(2):
        registry.add_generation(generation(number), [step(None, number, 1000 + number)])
    for name in ("one", "two", "three", "gone"):
        registry.enroll(Device(name, "digits", "", TIME, TIME))
    Identities(registry).decommission("gone", TIME)
    for name, installed in (("one", None), ("two", 0)):
        attempt = Attempt(f"by-{name}", name, installed, 1, AttemptState.PLANNED, TIME)
        record(registry, name, installed, attempt, TIME)
    registry.report(Report("two", "by-two", 0, Outcome.FAILED, "DISK_FULL", 1, 2, 3), TIME)
    for number, state in enumerate((State.RUNNING, State.DRAFT, State.DRAFT)):
        phases = parse_phases(["100%"])
        registry.rollouts.create(
            Rollout(str(number), "digits", Channel.STABLE, 1, 0, phases, TIME, state=state)
        )
    counts = census(registry)
    assert counts.devices == {("digits", None): 2, ("digits", 0): 1}
    assert counts.attempts == {
        (AttemptState.PLANNED, None): 1,
        (AttemptState.FAILED, "DISK_FULL"): 1,
    }
    assert counts.rollouts == {("digits", State.RUNNING): 1, ("digits", State.DRAFT): 2}
    registry.rollouts.end_silent(TIME + 2 * DAY, DAY)
    assert census(registry).attempts[AttemptState.FAILED, EndCode.TIMED_OUT] == 1


def test_keys_are_counted_by_state(registry: Registry) -> None:
    registry.add_generation(generation(0), [step(None, 0, 1000)])
    identities = Identities(registry)
    for number in range(3):
        identities.request(bytes([number]) * 32, "", "", "", TIME)
    identities.decide(bytes([1]) * 32, Verb.ACCEPT, TIME)
    assert census(registry).keys == {KeyState.PENDING: 2, KeyState.ACCEPTED: 1}


def test_the_newest_metadata_of_a_role_says_when_it_ends(registry: Registry) -> None:
    for version, ends in ((1, TIME + 9 * DAY), (2, TIME + DAY)):
        registry.signing.add((SignedFile("timestamp", version, version - 1, b"{}", ends),))
    registry.signing.add((SignedFile("root", 1, 0, b"{}", TIME + 300 * DAY),))
    assert census(registry).expiries == {"timestamp": TIME + DAY, "root": TIME + 300 * DAY}

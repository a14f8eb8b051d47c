from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from hashlib import sha256

import pytest

from server.domain import Attempt, AttemptState
from server.errors import ConflictError, ForbiddenError, FullError, NotFoundError, RequestError
from server.identity.desk import find
from server.identity.keys import KeyState, Policy, Verb
from server.registry import Registry
from server.registry import identities as module
from server.registry.identities import POLICY, Identities
from server.registry.key_rows import DeviceKeyRow
from server.registry.operators import Operator, Operators
from tests.unit.server.check_ins import record
from tests.unit.server.values import TIME, generation, step

LATER = TIME + timedelta(hours=1)
FIRST, SECOND, THIRD = (sha256(name).digest() for name in (b"first", b"second", b"third"))


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    opened = Registry.create(database_url)
    opened.add_generation(generation(0), [step(None, 0, 1000)])
    yield opened
    opened.close()


@pytest.fixture
def identities(registry: Registry) -> Identities:
    return Identities(registry.acting_as("operator:alice"))


def ask(identities: Identities, key: bytes = FIRST, device_id: str = "kitchen"):
    return identities.request(key, device_id, "digits", "by the window", TIME)


def actions(identities: Identities) -> list[tuple[str, str, str]]:
    return [
        (entry.actor, entry.action, entry.subject)
        for entry in identities.audit()
        if entry.action.startswith("device")
    ]


def test_a_request_waits_for_an_operator_and_makes_a_device_once(
    registry: Registry, identities: Identities
) -> None:
    assert ask(identities).state is KeyState.PENDING
    with pytest.raises(NotFoundError):
        registry.device("kitchen")
    assert registry.device_counts("digits") == {}
    accepted = identities.decide(FIRST, Verb.ACCEPT, LATER)
    assert (accepted.state, accepted.decided_at) == (KeyState.ACCEPTED, LATER)
    assert registry.device("kitchen").name == "by the window"
    assert registry.device_counts("digits") == {None: 1}
    assert identities.decide(FIRST, Verb.ACCEPT, LATER + timedelta(1)) == accepted
    assert actions(identities) == [
        ("enrolment", "device.request", "kitchen"),
        ("operator:alice", "device.accept", "kitchen"),
    ]


def test_asking_again_changes_nothing_whatever_it_says(identities: Identities) -> None:
    first = ask(identities)
    again = identities.request(FIRST, "another", "letters", "thief", LATER)
    assert again == first
    assert len(actions(identities)) == 1


def test_the_server_makes_ids_for_those_who_ask_for_none(identities: Identities) -> None:
    made = {ask(identities, key, "").device_id for key in (FIRST, SECOND)}
    assert len(made) == 2
    assert all(len(device_id) == 32 for device_id in made)


def test_an_open_fleet_accepts_at_once(registry: Registry, identities: Identities) -> None:
    identities.set(POLICY, Policy.OPEN, TIME)
    assert ask(identities).state is KeyState.ACCEPTED
    assert registry.device("kitchen").model == "digits"
    assert ("policy", "device.accept", "kitchen") in actions(identities)


def test_a_preauthorized_key_is_accepted_when_it_asks(identities: Identities) -> None:
    identities.preauthorize(FIRST, None, "", TIME)
    assert ask(identities).state is KeyState.ACCEPTED
    with pytest.raises(ConflictError, match="accepted already"):
        identities.preauthorize(FIRST, None, "", TIME)


def test_a_key_that_was_accepted_meanwhile_is_not_preauthorized_anew(
    registry: Registry, identities: Identities
) -> None:
    identities.preauthorize(FIRST, "kitchen", "", TIME)
    with ThreadPoolExecutor(1) as pool:
        with registry.writing() as session:
            session.get_one(DeviceKeyRow, FIRST).state = KeyState.ACCEPTED
            session.flush()
            late = pool.submit(identities.preauthorize, FIRST, "attic", "", LATER)
            assert not wait([late], timeout=0.5).done
        with pytest.raises(ConflictError, match="accepted already"):
            late.result()
    assert identities.key(FIRST).device_id == "kitchen"


def test_a_key_preauthorized_for_an_id_has_no_other(identities: Identities) -> None:
    identities.preauthorize(FIRST, "attic", "", TIME)
    assert ask(identities, device_id="kitchen").device_id == "attic"


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("is_preauthorized", [False, True])
def test_a_second_key_for_a_device_waits_and_is_an_alert(
    identities: Identities, policy: Policy, is_preauthorized: bool
) -> None:
    """A11, whatever the rule of the fleet."""
    ask(identities)
    identities.decide(FIRST, Verb.ACCEPT, TIME)
    identities.set(POLICY, policy, TIME)
    if is_preauthorized:
        identities.preauthorize(SECOND, "kitchen", "", TIME)
    second = ask(identities, SECOND)
    assert (second.state, second.is_rival) == (KeyState.PENDING, True)
    assert {key.sha256: key.is_rival for key in identities.all()} == {FIRST: False, SECOND: True}
    with pytest.raises(ConflictError, match="--replace"):
        identities.decide(SECOND, Verb.ACCEPT, LATER)
    assert identities.key(FIRST).state is KeyState.ACCEPTED
    identities.decide(SECOND, Verb.ACCEPT, LATER, replace=True)
    assert identities.key(FIRST).state is KeyState.REVOKED
    assert identities.key(SECOND).state is KeyState.ACCEPTED
    assert ask(identities, FIRST).state is KeyState.REVOKED


def test_two_keys_that_wait_for_one_device_are_both_an_alert(identities: Identities) -> None:
    ask(identities)
    ask(identities, SECOND)
    assert [key.is_rival for key in identities.all(KeyState.PENDING)] == [True, True]
    identities.preauthorize(THIRD, "kitchen", "", TIME)
    assert ask(identities, THIRD).state is KeyState.ACCEPTED


def test_a_key_for_the_device_of_a_revoked_one_waits_too(identities: Identities) -> None:
    identities.set(POLICY, Policy.OPEN, TIME)
    ask(identities)
    identities.decide(FIRST, Verb.REVOKE, TIME)
    assert ask(identities, SECOND).is_rival
    identities.decide(SECOND, Verb.ACCEPT, LATER)


def test_of_two_keys_accepted_at_once_for_one_device_one_is(
    database_url: str, registry: Registry, identities: Identities
) -> None:
    keys = [sha256(bytes([n])).digest() for n in range(6)]
    for key in keys:
        ask(identities, key)

    def accept(key: bytes) -> bool:
        other = Registry.open(database_url)
        try:
            Identities(other).decide(key, Verb.ACCEPT, LATER)
        except ConflictError:
            return False
        finally:
            other.close()
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(accept, keys)) == 1
    assert len(identities.all(KeyState.ACCEPTED)) == 1


def test_one_key_that_asks_many_servers_at_once_is_one_device(
    database_url: str, identities: Identities
) -> None:
    def asked(_: int) -> str | None:
        other = Registry.open(database_url)
        try:
            return Identities(other).request(FIRST, "", "digits", "", TIME).device_id
        except ConflictError:
            return None
        finally:
            other.close()

    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(asked, range(6))) - {None}
    assert made == {identities.key(FIRST).device_id}


def test_verbs_that_a_state_does_not_admit_change_nothing(identities: Identities) -> None:
    ask(identities)
    with pytest.raises(ConflictError, match=r"to revoke, found .* pending"):
        identities.decide(FIRST, Verb.REVOKE, TIME)
    identities.decide(FIRST, Verb.REJECT, TIME)
    assert ask(identities).state is KeyState.REJECTED
    identities.decide(FIRST, Verb.ACCEPT, TIME)
    with pytest.raises(ConflictError, match="to reject"):
        identities.decide(FIRST, Verb.REJECT, TIME)
    identities.decide(FIRST, Verb.REVOKE, TIME)
    with pytest.raises(ConflictError, match="to accept"):
        identities.decide(FIRST, Verb.ACCEPT, TIME)
    with pytest.raises(NotFoundError):
        identities.decide(SECOND, Verb.ACCEPT, TIME)


def test_a_decommissioned_device_counts_no_more_and_keeps_its_history(
    registry: Registry, identities: Identities
) -> None:
    ask(identities)
    identities.decide(FIRST, Verb.ACCEPT, TIME)
    planned = Attempt("try", "kitchen", None, 0, AttemptState.PLANNED, TIME)
    record(registry, "kitchen", None, planned, TIME)
    for _ in range(2):
        identities.decommission("kitchen", LATER)
    assert registry.device_counts("digits") == {}
    assert registry.device("kitchen").decommissioned_at == LATER
    assert registry.attempt("try").state is AttemptState.SUPERSEDED
    assert identities.key(FIRST).state is KeyState.REVOKED
    with pytest.raises(ForbiddenError, match="was decommissioned"):
        ask(identities, SECOND)
    assert [action for _, action, _ in actions(identities)].count("device.decommission") == 1
    with pytest.raises(NotFoundError):
        identities.decommission("attic", LATER)


def test_requests_that_wait_are_bounded(
    identities: Identities, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PENDING", 2)
    for key in (FIRST, SECOND):
        ask(identities, key, "")
    with pytest.raises(FullError, match="fewer than 2"):
        ask(identities, THIRD, "")
    assert ask(identities, FIRST).state is KeyState.PENDING
    identities.decide(FIRST, Verb.REJECT, TIME)
    ask(identities, THIRD, "")


def test_a_model_must_be_known_and_named_where_there_are_several(
    registry: Registry, identities: Identities
) -> None:
    with pytest.raises(NotFoundError, match="'letters'"):
        identities.request(FIRST, "", "letters", "", TIME)
    assert identities.request(FIRST, "", "", "", TIME).model == "digits"
    registry.add_generation(generation(0, model="letters"), [])
    with pytest.raises(RequestError, match="digits, letters"):
        identities.request(SECOND, "", "", "", TIME)
    assert identities.key(SECOND) is None


def test_people_find_a_key_by_device_or_by_its_first_digits(identities: Identities) -> None:
    ask(identities)
    ask(identities, SECOND)
    with pytest.raises(RequestError, match="found 2"):
        find(identities.all(), "kitchen")
    assert find(identities.all(), FIRST.hex()[:8]).sha256 == FIRST
    identities.decide(SECOND, Verb.ACCEPT, TIME)
    assert find(identities.all(), "kitchen").sha256 == SECOND
    with pytest.raises(NotFoundError):
        find(identities.all(), FIRST.hex()[:7])


def test_a_change_that_fails_leaves_no_entry_in_the_audit_log(
    registry: Registry, identities: Identities
) -> None:
    before = identities.audit()
    with pytest.raises(ConflictError):
        registry.add_generation(generation(5), [])
    with pytest.raises(NotFoundError):
        identities.decommission("attic", TIME)
    assert identities.audit() == before


def test_the_audit_log_has_publications_and_tells_from_a_time_on(
    registry: Registry, identities: Identities
) -> None:
    [published] = identities.audit()
    assert (published.action, published.subject) == ("generation.publish", "digits 0")
    assert published.actor.startswith("local")
    assert published.details["digest"] == generation(0).digest.hex()
    identities.set(POLICY, Policy.OPEN, LATER)
    identities.set(POLICY, Policy.OPEN, LATER)
    [changed] = identities.audit(since=LATER)
    assert (changed.at, changed.actor, changed.subject) == (LATER, "operator:alice", "open")


def test_a_removed_operator_counts_no_more(registry: Registry) -> None:
    operators = Operators(registry)
    for key in (FIRST, SECOND):
        operators.add(Operator(key, "alice", "admin", TIME))
    assert operators.is_active(FIRST)
    assert operators.remove("alice", LATER) == 2
    assert not operators.is_active(FIRST)
    assert not operators.is_active(THIRD)
    with pytest.raises(NotFoundError):
        operators.remove("alice", LATER)
    assert [o.removed_at for o in operators.all()] == [LATER, LATER]

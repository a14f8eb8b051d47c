"""Attacks A2, A3, A4 and A13: what was signed once, and is over.

The committed model keeps serving, and the code says what it was. The real client over a real gRPC
server, whose repository is in memory and lies as it is told.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from edge_client import EdgeHome, update
from edge_client.errors import (
    BelowFloorError,
    EdgeError,
    OversizedError,
    ReplayError,
    StaleError,
    TrustError,
    UnsignedError,
)
from edge_client.trust import trust_status
from edge_client.trust.state import read_state
from protos.ota.v1 import device_pb2
from tests.attacks.refusals import forget_metadata, refuse
from tests.unit.edge_client.evidence import content_of
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import generation, snapshot

DAY = timedelta(days=1)


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "releases"])
def test_a2_metadata_that_was_valid_before_is_refused(
    home: EdgeHome, server: FakeServer, offered: object, role: str
) -> None:
    server.repository.sign("targets", "releases", "snapshot", "timestamp")
    old = server.repository.files[role, 0]
    server.repository.sign("snapshot", "timestamp")
    with pytest.raises(UnsignedError):  # sees the newest versions
        server.sign, honest = (lambda: None), server.sign
        update(home)
    server.sign = honest
    server.sign()
    server.lie.metadata = lambda found, version, content: old if found == role else content
    with pytest.raises((ReplayError, TrustError, OversizedError)) as refused:
        update(home)
    if role == "timestamp":
        assert type(refused.value) is ReplayError
        assert server.outcomes()[-1] == ("FAILED", "REPLAYED")
    assert server.reads == []


def offer(server: FakeServer, number: int) -> Callable[[device_pb2.Plan], None]:
    """A plan to an older generation, as a snapshot."""
    sha256 = server.add(snapshot(generation(number)))

    def change(plan: device_pb2.Plan) -> None:
        digest = generation(number).digest()
        plan.generation, plan.digest = number, digest
        del plan.steps[:]
        plan.steps.append(
            device_pb2.Step(
                generation=number,
                diff=server.blob(sha256),
                target_digest=digest,
                is_snapshot=True,
            )
        )

    return change


def at_generation_one(home: EdgeHome, server: FakeServer) -> dict[tuple[str, int], bytes]:
    """Brings a device to generation 1; returns the metadata that was valid at generation 0."""
    update(home)
    old = dict(server.repository.files)
    server.publish_next()
    update(home)
    server.publish_next()
    return old


def test_a3_replayed_metadata_is_refused_after_the_cache_was_wiped(
    home: EdgeHome, server: FakeServer
) -> None:
    old = at_generation_one(home, server)
    before = content_of(home)
    forget_metadata(home)
    server.lie.plan = offer(server, 0)
    server.lie.metadata = lambda role, version, content: old.get((role, version))
    server.reads.clear()
    refuse(home, server, BelowFloorError, "BELOW_FLOOR")
    assert content_of(home) == before


def test_a13_a_valid_older_generation_is_refused_below_the_floor(
    home: EdgeHome, server: FakeServer
) -> None:
    at_generation_one(home, server)
    before = content_of(home)
    server.lie.plan = offer(server, 0)
    server.reads.clear()
    refuse(home, server, BelowFloorError, "BELOW_FLOOR")
    assert content_of(home) == before


def test_a13_holds_even_if_the_device_has_lost_its_slots(
    home: EdgeHome, server: FakeServer
) -> None:
    at_generation_one(home, server)
    (home.path / "current").unlink()
    server.lie.plan = offer(server, 0)
    server.reads.clear()
    refuse(home, server, BelowFloorError, "BELOW_FLOOR")


def test_a13_holds_even_if_the_state_of_trust_is_lost(home: EdgeHome, server: FakeServer) -> None:
    at_generation_one(home, server)
    (home.path / "trust" / "state.json").write_bytes(b"\0" * 40)
    server.lie.plan = offer(server, 0)
    server.reads.clear()
    refuse(home, server, BelowFloorError, "BELOW_FLOOR")


def test_the_floor_rises_on_commit_only(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    server.publish_next(card=b"no card")
    with pytest.raises(EdgeError):
        update(home)
    assert read_state(home.path / "trust" / "state.json").generation_floor == 0


def test_a4_a_freeze_makes_the_device_stale_and_installs_nothing(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    frozen = dict(server.repository.files)
    server.lie.metadata = lambda role, version, content: frozen.get((role, version))
    later = datetime.now(UTC) + 400 * DAY
    assert trust_status(home.path, later - 399 * DAY)["metadata"] == "FRESH"
    refuse(home, server, StaleError, "STALE", clock=lambda: later)
    assert trust_status(home.path, later)["metadata"] == "STALE"


def test_a4_a_server_that_withholds_a_new_root_cannot_keep_the_old_one_valid(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.repository.expires["root"] = server.repository.now + DAY
    server.repository.rotate("root")
    with pytest.raises(StaleError, match="root"):
        update(home, clock=lambda: datetime.now(UTC) + 2 * DAY)

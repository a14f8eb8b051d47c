"""What a device believes and remembers: clocks, damaged files, chains, routes, golden outputs."""

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_client import EdgeHome, update
from edge_client.errors import (
    DigestMismatchError,
    DiskFullError,
    NoRootError,
    OversizedError,
    StaleError,
    UnhealthyError,
    UnsignedError,
)
from edge_client.retry import Retry
from edge_client.trust import trust_status
from edge_client.trust.state import EPOCH, TrustState, read_state, write_state
from protos.ota.v1 import manifest_pb2
from tests.unit.edge_client.evidence import stored
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import full_diff, generation

DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


def state_of(home: EdgeHome) -> TrustState:
    return read_state(home.path / "trust" / "state.json")


def forget_cache(home: EdgeHome) -> None:
    shutil.rmtree(home.path / "trust" / "tuf")


# ---- the state


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 2}', None])
def test_a_damaged_state_is_replaced_and_the_floor_is_what_is_installed(
    home: EdgeHome, server: FakeServer, content: bytes | None
) -> None:
    server.publish_next()
    update(home)
    path = home.path / "trust" / "state.json"
    path.unlink() if content is None else path.write_bytes(content)
    update(home)
    assert state_of(home).generation_floor == 1


def test_a_state_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "trust" / "state.json"
    write_state(path, TrustState(3, EPOCH, EPOCH))
    path.with_name("state.json.tmp").write_bytes(b"torn")
    assert read_state(path).generation_floor == 3
    write_state(path, TrustState(4, EPOCH, EPOCH))
    assert read_state(path).generation_floor == 4


# ---- F8: clocks


def test_f8_a_clock_at_1970_is_judged_by_the_high_water(home: EdgeHome, server: FakeServer) -> None:
    at_1970 = EPOCH + timedelta(seconds=5)
    assert update(home, clock=lambda: at_1970).after.number == 0
    server.publish_next()
    update(home)
    high = state_of(home).time_high_water
    assert high > now() - DAY
    server.publish_next()
    assert update(home, clock=lambda: at_1970).after.number == 2
    assert state_of(home).time_high_water == high


def test_f8_a_clock_that_was_set_back_does_not_make_expired_metadata_valid(
    home: EdgeHome, server: FakeServer
) -> None:
    server.repository.expires["timestamp"] = now() + 10 * DAY
    server.repository.sign("timestamp")
    update(home, clock=lambda: now() + 9 * DAY)
    server.repository.expires["timestamp"] = now() + 2 * DAY
    server.publish_next()
    with pytest.raises(StaleError):
        update(home, clock=lambda: EPOCH)


def test_f8_a_clock_400_days_ahead_bricks_nothing(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    server.publish_next()
    ahead = now() + 400 * DAY
    with pytest.raises(StaleError):
        update(home, clock=lambda: ahead)
    assert trust_status(home.path, ahead)["metadata"] == "STALE"
    assert state_of(home).time_high_water < now() + DAY  # what was refused proves no time
    assert update(home).after.number == 1


def test_f8_a_jumping_clock_ends_at_the_newest_generation(
    home: EdgeHome, server: FakeServer
) -> None:
    for number, days in enumerate((0, 100, -20_000, 5, 400, -3, 0), start=1):
        server.publish_next()
        try:
            update(home, clock=lambda days=days: max(EPOCH, now() + days * DAY))
        except StaleError:
            assert days == 400
        else:
            assert stored(home) == generation(number)


# ---- damaged files of the cache


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "bit": lambda path: path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:]),
    "gone": lambda path: path.unlink(),
    "folder": lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name", ["timestamp.json", "snapshot.json", "targets.json", "releases.json", "root.json"]
)
def test_a_damaged_cache_heals_itself(
    home: EdgeHome, server: FakeServer, name: str, damage: str
) -> None:
    update(home)
    server.publish_next()
    path = home.path / "trust" / "tuf" / name
    if name == "root.json":
        path = path.parent / "root_history" / "1.root.json"
    DAMAGES[damage](path)
    assert update(home).after.number == 1


@pytest.mark.parametrize("in_its_place", ["file", "nothing"])
def test_a_cache_that_is_no_folder_heals_itself(
    home: EdgeHome, server: FakeServer, in_its_place: str
) -> None:
    update(home)
    forget_cache(home)
    if in_its_place == "file":
        (home.path / "trust" / "tuf").write_bytes(b"no folder")
    server.publish_next()
    assert update(home).after.number == 1


def test_a_damaged_root_is_taken_from_the_cache(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    (home.path / "trust" / "root.json").write_bytes(b"damaged")
    server.publish_next()
    assert update(home).after.number == 1
    forget_cache(home)
    (home.path / "trust" / "root.json").write_bytes(b"damaged")
    with pytest.raises(NoRootError, match="ota-edge enroll"):
        update(home)


def test_a_full_disk_while_metadata_is_kept_is_said_and_the_next_try_succeeds(
    home: EdgeHome, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(home)
    server.publish_next()
    real = os.replace

    def full(source, target, **options):
        if "tuf" in str(target):
            raise OSError(28, "No space left on device", str(target))
        return real(source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(DiskFullError):
            update(home)
    assert server.outcomes()[-1] == ("FAILED", "DISK_FULL")
    assert update(home).after.number == 1


# ---- chains and routes


def test_a_chain_is_signed_by_the_manifests_before(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    for _ in range(3):
        server.publish_next()
    server.sign()
    # Only the newest is listed; the others are found from it.
    listed = {"digits/3": server.repository.releases["digits/3"]}
    server.repository.list(listed)
    server.sign = lambda: None
    assert [step.target.number for step in update(home).steps] == [1, 2, 3]
    assert stored(home) == generation(3)


def test_a_connection_that_breaks_at_a_manifest_is_tried_again(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    def break_afterwards(role: str, version: int, content: bytes | None) -> bytes | None:
        if role == "releases":  # what is asked for next is the manifest that it names
            server.lie.failing_calls = retry.tries - 1
        return content

    server.lie.metadata = break_afterwards
    assert update(home, retry).after.number == 0


def offer_directly(server: FakeServer, reached: int = 2) -> bytes:
    """A diff from generation 0, made after everything was signed; the plan says that it leads to 2.

    Returns:
        The file.
    """
    server.publish_next()
    server.publish_next()
    server.sign()
    server.sign = lambda: None
    file = full_diff(generation(0), generation(reached))
    server.routes[0].insert(0, (2, server.add(file)))
    return file


def vouch_for(server: FakeServer, file: bytes) -> None:
    """Let the server sign for a diff."""
    server.repository.routes[f"routes/digits/{server.add(file).hex()}"] = file
    server.repository.sign("routes", "snapshot", "timestamp")


def test_a_diff_that_was_made_later_is_taken_if_the_server_signs_for_it(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    file = offer_directly(server)
    with pytest.raises(UnsignedError):
        update(home)
    vouch_for(server, file)
    assert len(update(home).steps) == 1
    assert stored(home) == generation(2)


def test_a_route_cannot_lead_to_other_weights_than_the_signed_ones(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    vouch_for(server, offer_directly(server, reached=5))
    with pytest.raises(DigestMismatchError):
        update(home)
    assert stored(home) == generation(0)


def test_a_route_longer_than_signed_is_refused(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    file = offer_directly(server)
    vouch_for(server, file)
    server.lie.plan = lambda plan: setattr(plan.steps[0].diff, "length", len(file) + 1)
    with pytest.raises(OversizedError):
        update(home)


# ---- golden outputs


def golden(manifest: manifest_pb2.Manifest, value: float) -> None:
    run = manifest.golden_runs.add()
    run.inputs.add(name="features", shape=[2, 1, 192], seed=1)
    run.outputs.add(name="speech_embedding", shape=[1, 8], values=[value] * 8, tolerance=1.5)


@pytest.mark.parametrize(
    ("value", "is_healthy"), [(0.0, True), (9.0, False), (float("nan"), False)]
)
def test_a_generation_that_does_not_give_its_golden_outputs_never_serves(
    home: EdgeHome, server: FakeServer, value: float, is_healthy: bool
) -> None:
    update(home)
    server.publish_next()
    server.lie.manifest = lambda manifest: golden(manifest, value)
    if is_healthy:
        assert update(home).after.number == 1
        return
    with pytest.raises(UnhealthyError, match="golden"):
        update(home)
    assert server.outcomes()[-1] == ("FAILED", "UNHEALTHY")
    assert stored(home) == generation(0)


@pytest.mark.parametrize("shape", [[1 << 30, 1 << 30], [1 << 21]])
def test_golden_inputs_cannot_fill_the_memory(
    home: EdgeHome, server: FakeServer, shape: list[int]
) -> None:
    def huge(manifest: manifest_pb2.Manifest) -> None:
        manifest.golden_runs.add().inputs.add(name="features", shape=shape, seed=1)

    server.lie.manifest = huge
    with pytest.raises(UnhealthyError, match="cannot be made"):
        update(home)


# ---- bytes


def test_a_check_without_changes_asks_for_root_and_timestamp_alone(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.metadata_reads.clear()
    update(home)
    assert server.metadata_reads == [("root", 2), ("timestamp", 0)]


def test_inference_does_not_wait_for_the_import_of_tuf() -> None:
    program = "import sys, edge_client.cli; sys.exit('tuf' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True)

"""The real server process and the real client: signing, rotation, revocation, roll-ups, bytes."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from diffcodec import Diff, encode
from edge_client import EdgeHome, enroll, update
from edge_client.address import ServerAddress
from edge_client.enrollment import Wanted
from edge_client.errors import TrustError
from edge_client.meter import Traffic
from edge_client.transport import Connection
from edge_client.trust import Trust
from protos.ota.v1 import manifest_pb2
from server.domain import Step
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.signing import ceremonies, releasing
from server.signing.golden import golden_runs
from server.signing.roles import ONLINE, ROLES, SNAPSHOT, list_role
from tests import fleet
from tests.integration.server_process import ca_of, server_process
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, full_diff, snapshot, weights


@pytest.fixture
def srv(tmp_path: Path) -> Iterator[ServerHome]:
    made = ServerHome.create(tmp_path / "srv")
    publish(made, "digits", snapshot(weights(0)), graph=GRAPH, card=CARD)
    yield made
    made.close()


@pytest.fixture
def address(srv: ServerHome) -> Iterator[ServerAddress]:
    with server_process(srv.folder) as (_, text):
        yield ServerAddress.parse(text)


@pytest.fixture
def device(tmp_path: Path, srv: ServerHome, address: ServerAddress) -> EdgeHome:
    """Holds generation 0."""
    fleet.open_to_all(srv)
    home = EdgeHome(tmp_path / "device")
    enroll(home, address, Wanted("digits"), ca_of(srv.folder))
    update(home)
    return home


def publish_next(srv: ServerHome) -> None:
    head = srv.registry.head("digits").number
    _, diff = a_little_later(weights_of(srv, "digits", head), head + 1)
    publish(srv, "digits", diff)


def test_the_day_to_day_needs_no_offline_key(srv: ServerHome, device: EdgeHome) -> None:
    shutil.rmtree(srv.keys.offline)
    for number in (1, 2):
        publish_next(srv)
        assert update(device).after.number == number


@pytest.mark.parametrize("roles", [["releases"], ["targets"], list(ONLINE), ["root"], list(ROLES)])
def test_a_rotation_under_a_running_server_is_followed(
    srv: ServerHome, device: EdgeHome, roles: list[str]
) -> None:
    ceremonies.rotate(srv.registry, srv.keys, roles, datetime.now(UTC))
    publish_next(srv)
    assert update(device).after.number == 1


def test_a_device_that_missed_many_roots_walks_through_all(
    srv: ServerHome, device: EdgeHome
) -> None:
    for _ in range(10):
        ceremonies.rotate(srv.registry, srv.keys, ["root"], datetime.now(UTC))
    shutil.rmtree(device.path / "trust" / "tuf")
    publish_next(srv)
    assert update(device).after.number == 1


def test_a_revoked_generation_is_skipped_and_followed_by_the_next(
    srv: ServerHome, device: EdgeHome
) -> None:
    publish_next(srv)
    releasing.revoke(srv.registry, srv.keys, "digits", [1], datetime.now(UTC))
    assert update(device).after.number == 0
    publish_next(srv)
    result = update(device)
    assert result.after.number == 2
    assert result.after.digest == srv.registry.generation("digits", 2).digest


def test_a_device_that_runs_what_was_revoked_waits_for_the_next(
    srv: ServerHome, device: EdgeHome
) -> None:
    publish_next(srv)
    update(device)
    releasing.revoke(srv.registry, srv.keys, "digits", [1], datetime.now(UTC))
    assert update(device).after.number == 1
    old = weights_of(srv, "digits", 0)
    publish(srv, "digits", full_diff(weights_of(srv, "digits", 1), old))
    result = update(device)
    assert (result.after.number, result.after.digest) == (2, old.digest())


def test_a_diff_that_the_server_makes_later_is_taken(srv: ServerHome, device: EdgeHome) -> None:
    publish_next(srv)
    publish_next(srv)
    # One that beats the chain by bytes: nearly nothing changes from 0 to 3.
    base = weights_of(srv, "digits", 2)
    publish(srv, "digits", full_diff(base, weights_of(srv, "digits", 0)))
    target = srv.registry.generation("digits", 3)
    nothing = encode_nothing(srv)
    srv.registry.add_step("digits", Step(0, 3, target.digest, srv.artifacts.put(nothing)))
    result = update(device)
    assert [step.diff.length_bytes for step in result.steps] == [len(nothing)]
    assert result.after.digest == target.digest


def encode_nothing(srv: ServerHome) -> bytes:
    base = weights_of(srv, "digits", 0)
    return encode(Diff.of(base.layout, base.digest(), {}), base)


def test_another_servers_signatures_mean_nothing_here(
    tmp_path: Path, srv: ServerHome, device: EdgeHome
) -> None:
    publish_next(srv)
    other = ServerHome.create(tmp_path / "other")
    root = other.registry.signing.read("root", 1)
    other.close()
    (device.path / "trust" / "root.json").write_bytes(root)
    shutil.rmtree(device.path / "trust" / "tuf")
    with pytest.raises(TrustError):
        update(device)


def test_the_graph_gives_its_golden_outputs_on_the_device(
    srv: ServerHome, device: EdgeHome
) -> None:
    runs = golden_runs(weights_of(srv, "digits", 0), GRAPH)
    assert len(runs) == 2
    for run in runs:
        assert {output.name for output in run.outputs} == {"speech_embedding", "text_embedding"}
    manifest = srv.registry.signing.manifests("digits")[0].blob
    content = srv.artifacts.read(manifest.sha256, 0, manifest.length)
    assert len(manifest_pb2.Manifest.FromString(content).golden_runs) == 2


def traffic_of_trust(home: EdgeHome, address: ServerAddress) -> Traffic:
    """What a refresh alone puts on the wire, with the handshake of its connection."""
    with Connection.open(address, home.identity.credential()) as connection:
        Trust(home.path, "digits", connection).refresh()
    return connection.traffic


def test_metadata_is_metered_and_small(
    srv: ServerHome, device: EdgeHome, address: ServerAddress
) -> None:
    check = traffic_of_trust(device, address)
    publish_next(srv)
    after_a_release = traffic_of_trust(device, address)
    manifest = srv.registry.signing.manifests("digits")[1].blob.length
    print(f"\nno change: {check}; after a release: {after_a_release}; manifest: {manifest} B")
    # The handshake takes about 3,300; without changes that and the timestamp is all.
    assert check.received_bytes < 4_500
    assert after_a_release.received_bytes < 7_000
    assert manifest < 1_500


def test_metadata_takes_less_on_the_wire_than_in_its_files(
    srv: ServerHome, device: EdgeHome, address: ServerAddress
) -> None:
    for _ in range(6):
        publish_next(srv)
    news = traffic_of_trust(device, address).received_bytes
    no_news = traffic_of_trust(device, address).received_bytes
    files = srv.registry.signing.latest()
    length = sum(len(files[role].content) for role in (list_role("digits"), SNAPSHOT))
    print(f"\nlist and snapshot: {length} bytes, {news - no_news} on the wire")
    assert news - no_news < 0.75 * length

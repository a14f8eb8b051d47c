"""Updates from an honest server."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffcodec import ParameterSet, available_coders, decode, encode
from edge_client import EdgeHome, Recognizer, Wanted, enroll, update
from edge_client.chain import rebuilt_bytes
from edge_client.errors import DigestMismatchError, NoCardError, UnhealthyError
from edge_client.offer import Blob, Generation, Step
from edge_client.progress import Progress
from protos.ota.v1 import device_pb2, diff_pb2
from tests.unit.edge_client.evidence import content_of, stored
from tests.unit.edge_client.fake_server import (
    FakeServer,
)
from tests.unit.edge_client.models import (
    GRAPH,
    a_little_later,
    card_with,
    full_diff,
    generation,
    snapshot,
)


def test_a_fresh_device_installs_the_snapshot(home: EdgeHome, server: FakeServer) -> None:
    result = update(home)
    assert (result.before, result.after.number) == (None, 0)
    assert stored(home) == generation(0)
    assert result.after.digest == generation(0).digest()
    assert server.outcomes() == [("STARTED", ""), ("COMMITTED", "")]


def test_a_diff_leads_to_the_servers_weights_bit_for_bit(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.publish_next()
    result = update(home)
    assert (result.before.number, result.after.number, len(result.steps)) == (0, 1, 1)
    assert stored(home) == generation(1)


def test_the_result_says_what_the_update_cost(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    server.publish_next()
    result = update(home)
    diff_bytes = result.steps[0].diff.length_bytes
    costs = result.costs
    # Graph and card did not change, so the diff is all that was fetched.
    assert costs.downloaded_bytes == diff_bytes
    assert costs.traffic.received_bytes > diff_bytes
    assert costs.traffic.sent_bytes > 0
    assert costs.apply_s > 0
    assert costs.apply_peak_rss_bytes > 1_000_000


def test_the_server_hears_the_bytes_and_the_time(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    started, committed = server.reports
    assert (started.sequence, committed.sequence) == (1, 2)
    assert committed.bytes_received > started.bytes_received > 0
    assert committed.bytes_sent > started.bytes_sent > 0


def test_a_chain_of_steps_leaves_only_the_last_generation(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    for _ in range(3):
        server.publish_next()
    result = update(home)
    assert [step.target.number for step in result.steps] == [1, 2, 3]
    assert stored(home) == generation(3)
    slot = home.slots.active()
    assert sorted(path.name for path in slot.path.iterdir()) == [
        "card.json",
        "generation.json",
        "layout.json",
        "model.onnx",
        "weights.bin",
    ]


def test_every_route_leads_to_the_same_bytes(tmp_path: Path, server: FakeServer) -> None:
    for _ in range(2):
        server.publish_next()
    server.routes[None] = [(2, server.add(snapshot(generation(2))))]
    server.routes[0].insert(0, (2, server.add(full_diff(generation(0), generation(2)))))
    assert stored(updated(tmp_path / "from-nothing", server)) == generation(2)

    server.routes[None] = [(0, server.add(snapshot(generation(0))))]
    assert stored(updated(tmp_path / "snapshot-then-diff", server)) == generation(2)
    server.routes[0].pop(0)
    assert stored(updated(tmp_path / "snapshot-then-chain", server)) == generation(2)


def updated(path: Path, server: FakeServer) -> EdgeHome:
    home = EdgeHome(path)
    enroll(home, server.address, Wanted("digits", "test"), server.fleet)
    update(home)
    return home


def test_up_to_date_changes_nothing_and_reports_nothing(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    before, reports = content_of(home), len(server.reports)
    result = update(home)
    assert (result.before, result.after, result.steps) == (result.after, result.after, ())
    assert content_of(home) == before
    assert len(server.reports) == reports


def test_a_model_without_generations_is_no_error(home: EdgeHome, server: FakeServer) -> None:
    server.generations.clear()
    result = update(home)
    assert (result.after, result.head) == (None, None)
    assert home.slots.active() is None


def test_updates_alternate_between_the_slots(home: EdgeHome, server: FakeServer) -> None:
    names = []
    for _ in range(3):
        update(home)
        names.append(home.slots.active().name)
        server.publish_next()
    assert names == ["a", "b", "a"]


def test_the_active_slot_is_never_written(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    old = home.slots.active()
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in old.path.iterdir()}
    server.publish_next()
    update(home)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in old.path.iterdir()} == before


def test_success_empties_the_staging_folder(home: EdgeHome, server: FakeServer) -> None:
    home.staging.mkdir()
    (home.staging / "left over from an older plan").write_bytes(b"x")
    update(home)
    assert list(home.staging.iterdir()) == []


def test_a_changed_card_and_graph_are_fetched(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    server.publish_next(card=card_with("left", "right"))
    result = update(home)
    assert Recognizer.open(home).card.phrases == ("left", "right")
    assert len(server.reads) == 3 + 2  # snapshot, graph, card; then diff and card
    assert result.costs.downloaded_bytes == sum(read.sent_bytes for read in server.reads[3:])


def test_the_device_says_which_blobs_it_holds(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    update(home)
    first, second = server.check_ins
    assert not first.HasField("installed")
    assert not first.held
    assert second.installed == device_pb2.InstalledGeneration(
        number=0, digest=generation(0).digest()
    )
    published = server.generations[0]
    graph, card = (hashlib.sha256(blob).digest() for blob in kept_blobs(server))
    assert {published.graph, published.card} == {graph, card} == set(second.held)


def test_the_device_says_which_coders_it_decodes(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    said = {diff_pb2.Coder.Name(coder) for coder in server.check_ins[0].coders}
    assert said == {f"CODER_{coder.upper()}" for coder in available_coders()}


def kept_blobs(server: FakeServer) -> list[bytes]:
    published = server.generations[0]
    return [server.blobs[published.graph], server.blobs[published.card]]


def test_tensors_are_added_grown_and_removed_by_a_diff(tmp_path: Path) -> None:
    with FakeServer() as server:
        base = generation(0)
        server.publish(base, snapshot(base), base=None, graph=None, card=None)
        home = updated(tmp_path / "home", server)
        grown = ParameterSet.from_arrays(
            {
                "speech.weight": np.pad(base.arrays["speech.weight"], ((0, 8), (0, 4))),
                "speech.bias": np.full(5, 0.5, dtype=np.float32),
            }
        )
        server.publish(grown, full_diff(base, grown), base=0, graph=None, card=None)
        assert update(home).steps
    slot = home.slots.active()
    assert slot.layout() == grown.layout
    assert ParameterSet.read(slot.weights, slot.layout()) == grown


def publish_with_graph(server: FakeServer, inside: bytes, beside: bytes = GRAPH) -> None:
    """The next generation: its diff carries one graph, and the plan names another."""
    number = len(server.generations)
    base = generation(number - 1)
    new, diff = a_little_later(base, number)
    carried = replace(decode(diff, base.layout).diff, graph=inside)
    server.publish(new, encode(carried, base), base=number - 1, graph=beside)


def test_a_diff_may_bring_the_graph_that_the_plan_names(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    publish_with_graph(server, GRAPH)
    update(home)
    assert stored(home) == generation(1)
    assert home.slots.active().graph.read_bytes() == GRAPH


def test_a_diff_with_another_graph_than_the_plan_names_is_refused(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    before = content_of(home)
    publish_with_graph(server, b"another graph")
    expected, found = (
        hashlib.sha256(b"another graph").hexdigest(),
        hashlib.sha256(GRAPH).hexdigest(),
    )
    with pytest.raises(DigestMismatchError, match=f"{expected}, found {found}"):
        update(home)
    assert content_of(home) == before
    assert server.outcomes()[-1] == ("FAILED", "DIGEST_MISMATCH")


def test_only_the_graph_of_the_last_diff_of_a_chain_counts(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    publish_with_graph(server, b"a graph on the way", beside=b"a graph on the way")
    publish_with_graph(server, GRAPH)
    assert len(update(home).steps) == 2
    assert stored(home) == generation(2)


@pytest.mark.parametrize("graph", [GRAPH, None], ids=["graph", "weights-alone"])
def test_a_model_without_a_card_is_installed_and_followed(
    tmp_path: Path, graph: bytes | None
) -> None:
    with FakeServer() as server:
        server.publish(generation(0), snapshot(generation(0)), base=None, graph=graph, card=None)
        home = updated(tmp_path / "home", server)
        server.publish_next(graph=graph, card=None)
        assert update(home).steps
    assert stored(home) == generation(1)
    record = home.slots.installed().record
    assert (record.graph_sha256 is None, record.card_sha256) == (graph is None, None)
    with pytest.raises(NoCardError, match="no card" if graph else "no graph"):
        Recognizer.open(home)


def test_a_graph_without_a_card_still_has_to_load(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.publish(generation(0), snapshot(generation(0)), None, graph=b"none", card=None)
        with pytest.raises(UnhealthyError, match="does not load"):
            updated(tmp_path / "home", server)


def test_a_damaged_graph_is_not_held_and_comes_again(home: EdgeHome, server: FakeServer) -> None:
    update(home)
    home.slots.active().graph.write_bytes(b"rot")
    server.publish_next()
    update(home)
    assert stored(home) == generation(1)
    Recognizer.open(home)


def test_progress_ends_at_its_total(home: EdgeHome) -> None:
    seen: list[Progress] = []
    update(home, on_progress=seen.append)
    last = {progress.doing: progress for progress in seen}
    assert set(last) == {"downloading, bytes", "applying, steps"}
    assert all(progress.done == progress.total > 0 for progress in last.values())


def test_room_is_made_for_what_a_diff_grows_to(tmp_path: Path) -> None:
    base = generation(0)
    grown = ParameterSet.from_arrays({**base.arrays, "more": np.ones(10_000, dtype=np.float32)})
    file = tmp_path / "grown.ndiff"
    file.write_bytes(full_diff(base, grown))
    step = Step(Blob(bytes(32), 1), Generation(1, grown.digest()), is_snapshot=False)
    room_bytes = rebuilt_bytes([step], {step.diff.sha256: file}, base.layout)
    assert room_bytes == grown.layout.file_bytes > base.layout.file_bytes

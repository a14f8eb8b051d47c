"""What a lying server, a network or a disk can do: the installed generation keeps serving."""

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from edge_client import EdgeHome, Recognizer, RejectedError, update
from edge_client.errors import (
    BlobError,
    CorruptDiffError,
    DigestMismatchError,
    DiskFullError,
    EdgeError,
    HomeError,
    MixedError,
    OfferError,
    OversizedError,
    ServerUnavailableError,
    UnhealthyError,
    UnknownGenerationError,
    UnsignedError,
    UnsupportedDiffError,
    WrongBaseError,
)
from edge_client.retry import Retry
from protos.ota.v1 import device_pb2, manifest_pb2
from tests.unit.edge_client.evidence import content_of, stored
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.lies import CHUNK_BYTES, CutAfter, EndAfter, endless, one_wrong_byte
from tests.unit.edge_client.models import (
    foreign_card,
    full_diff,
    generation,
    snapshot,
    weights,
    write_recording,
)

VERSION_OFFSET = 8
"""In a diff file, after its magic."""

DiskUsage = namedtuple("DiskUsage", "total used free")


def wrong_digest(plan: device_pb2.Plan) -> None:
    plan.digest = plan.steps[-1].target_digest = bytes(32)


def another_end(plan: device_pb2.Plan) -> None:
    plan.digest = bytes(32)


def short_digest(plan: device_pb2.Plan) -> None:
    plan.steps[0].target_digest = b"short"


def no_steps(plan: device_pb2.Plan) -> None:
    del plan.steps[:]


def unknown_blob(plan: device_pb2.Plan) -> None:
    plan.steps[0].diff.sha256 = bytes(32)


def longer_than_it_is(plan: device_pb2.Plan) -> None:
    plan.steps[0].diff.length += 1


def shorter_than_it_is(plan: device_pb2.Plan) -> None:
    plan.steps[0].diff.length -= 1


LYING_PLANS = [
    (wrong_digest, MixedError),
    (another_end, OfferError),
    (short_digest, OfferError),
    (no_steps, OfferError),
    (unknown_blob, UnsignedError),
    (longer_than_it_is, OversizedError),
    (shorter_than_it_is, OversizedError),
]


@pytest.mark.parametrize(("lie", "error"), LYING_PLANS, ids=lambda value: value.__name__)
def test_a_lying_plan_is_refused_and_the_old_generation_stays(
    home: EdgeHome,
    server: FakeServer,
    retry: Retry,
    lie: Callable[[device_pb2.Plan], None],
    error: type[EdgeError],
) -> None:
    update(home)
    before = content_of(home)
    server.publish_next()
    server.lie.plan = lie
    with pytest.raises(error):
        update(home, retry)
    assert content_of(home) == before
    Recognizer.open(home)
    if error is not OfferError:  # such a plan is no plan, and may lack an attempt to report on
        assert server.outcomes()[-1] == ("FAILED", error.code)

    server.lie.plan = lambda plan: None
    assert update(home).after.number == 1


SIGNED_LENGTHS = [(1, ServerUnavailableError), (-1, BlobError), (2**60, DiskFullError)]


@pytest.mark.parametrize(("more", "error"), SIGNED_LENGTHS, ids=["longer", "shorter", "huge"])
def test_a_wrong_length_is_refused_even_if_it_is_signed(
    home: EdgeHome, server: FakeServer, retry: Retry, more: int, error: type[EdgeError]
) -> None:
    update(home)
    before = content_of(home)
    server.publish_next()

    def lie_in_the_plan(plan: device_pb2.Plan) -> None:
        plan.steps[0].diff.length += more

    def lie_in_the_manifest(manifest: manifest_pb2.Manifest) -> None:
        if manifest.generation == 1:
            manifest.diffs[0].diff.length += more

    server.lie.plan, server.lie.manifest = lie_in_the_plan, lie_in_the_manifest
    with pytest.raises(error):
        update(home, retry)
    assert content_of(home) == before
    assert server.outcomes()[-1] == ("FAILED", error.code)


BAD_DIFFS = {
    "not-a-diff": (b"not a diff at all", CorruptDiffError),
    "empty": (b"", CorruptDiffError),
    "wrong-base": (full_diff(weights(77), generation(1)), WrongBaseError),
    "another-target": (full_diff(generation(0), weights(88)), DigestMismatchError),
}


@pytest.mark.parametrize("name", BAD_DIFFS)
def test_a_bad_diff_is_refused_and_the_old_generation_stays(
    home: EdgeHome, server: FakeServer, name: str
) -> None:
    diff, error = BAD_DIFFS[name]
    update(home)
    before = content_of(home)
    server.publish(generation(1), diff, base=0)
    with pytest.raises(error):
        update(home)
    assert content_of(home) == before
    assert server.outcomes()[-1] == ("FAILED", error.code)


def test_an_unknown_version_of_the_format_is_named_as_such(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.publish_next()
    diff = bytearray(server.blobs[server.routes[0][0][1]])
    diff[VERSION_OFFSET] = 250
    server.routes[0] = [(1, server.add(bytes(diff)))]
    with pytest.raises(UnsupportedDiffError, match="version 1, found 250"):
        update(home)


def test_a_corrupted_byte_anywhere_in_a_diff_is_refused(home: EdgeHome, server: FakeServer) -> None:
    """Published with its own SHA-256, so that only the diff's own promises stand against it."""
    update(home)
    before = content_of(home)
    server.publish_next()
    good = server.blobs[server.routes[0][0][1]]
    for at in range(0, len(good), max(1, len(good) // 12)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        server.routes[0] = [(1, server.add(bytes(bad)))]
        with pytest.raises(RejectedError):
            update(home)
        assert content_of(home) == before


def test_a_byte_corrupted_on_the_way_is_refused_and_not_kept(
    home: EdgeHome, server: FakeServer
) -> None:
    server.lie.stream = one_wrong_byte
    with pytest.raises(BlobError):
        update(home)
    assert home.slots.active() is None
    assert not list(home.staging.glob("*.part"))


def test_endless_data_is_stopped_at_the_announced_length(
    home: EdgeHome, server: FakeServer
) -> None:
    server.lie.stream = endless
    with pytest.raises(BlobError, match="more"):
        update(home)
    sent = server.reads[0].sent_bytes
    assert sent < len(server.blobs[server.reads[0].sha256]) + 1_000_000
    assert not list(home.staging.iterdir())


@pytest.mark.parametrize("kind", [CutAfter, EndAfter])
def test_a_cut_stream_resumes_where_it_broke_off(
    home: EdgeHome, server: FakeServer, retry: Retry, kind: type[CutAfter] | type[EndAfter]
) -> None:
    server.lie.stream = kind([3, 0, 5])
    update(home, retry)
    first_blob = server.reads[0].sha256
    reads = [read for read in server.reads if read.sha256 == first_blob]
    assert [read.offset for read in reads] == [n * CHUNK_BYTES for n in (0, 3, 3, 8)]
    assert sum(read.sent_bytes for read in reads) == len(server.blobs[first_blob])
    assert stored(home) == generation(0)


def test_a_later_update_fetches_only_what_is_missing(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.stream = CutAfter([4] + [0] * 50)
    with pytest.raises(ServerUnavailableError):
        update(home, retry)
    assert server.outcomes()[-1] == ("FAILED", "SERVER_UNAVAILABLE")
    server.lie.stream = lambda sha256, chunks: chunks
    tried = len(server.reads)
    update(home, retry)
    assert server.reads[tried].offset == 4 * CHUNK_BYTES
    assert stored(home) == generation(0)


def test_a_torn_part_costs_one_more_download_and_no_failure(
    home: EdgeHome, server: FakeServer
) -> None:
    """A power cut can leave a file of the right length and the wrong bytes."""
    sha256 = server.routes[None][0][1]
    home.staging.mkdir()
    (home.staging / f"{sha256.hex()}.part").write_bytes(bytes(700))
    update(home)
    assert [read.offset for read in server.reads[:2]] == [700, 0]
    assert stored(home) == generation(0)


def test_no_server_is_an_error_and_the_old_generation_answers(
    home: EdgeHome, server: FakeServer, retry: Retry, tmp_path: Path
) -> None:
    update(home)
    recording = write_recording(tmp_path / "r.wav")
    before = Recognizer.open(home).transcribe(recording)
    server.__exit__(None, None, None)
    with pytest.raises(ServerUnavailableError, match=r"no server answers at 127.0.0.1"):
        update(home, retry)
    assert Recognizer.open(home).transcribe(recording) == before


def test_a_server_that_comes_late_is_waited_for(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.lie.failing_calls = 3
    update(home, retry)
    assert stored(home) == generation(0)


def test_a_generation_that_the_server_does_not_know_is_left_by_a_snapshot(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.generations.clear()
    server.publish(weights(5), snapshot(weights(5)), base=None)
    server.routes[None].pop(0)
    result = update(home)
    assert (result.before.digest, result.after.digest) == (
        generation(0).digest(),
        weights(5).digest(),
    )
    assert "no such generation" in result.repaired
    assert stored(home) == weights(5)


def test_a_server_that_refuses_the_snapshot_too_is_said_plainly(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    before = content_of(home)
    server.lie.failing_calls, server.lie.status = 2, grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(UnknownGenerationError, match="told to fail"):
        update(home)
    assert content_of(home) == before


def test_a_diff_for_a_device_that_holds_nothing_is_refused(
    home: EdgeHome, server: FakeServer
) -> None:
    server.lie.plan = lambda plan: setattr(plan.steps[0], "is_snapshot", False)
    with pytest.raises(MixedError, match="that it needs a base"):
        update(home)
    assert server.outcomes()[-1] == ("FAILED", "MIXED")


UNUSABLE = {
    "graph": {"graph": b"no graph"},
    "card": {"card": b"no card"},
    "foreign-card": {"card": foreign_card()},
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_generation_that_does_not_answer_never_serves(
    home: EdgeHome, server: FakeServer, name: str
) -> None:
    update(home)
    before = content_of(home)
    server.publish_next(**UNUSABLE[name])
    with pytest.raises(UnhealthyError):
        update(home)
    assert content_of(home) == before
    assert server.outcomes()[-1] == ("FAILED", "UNHEALTHY")


ROTTING = ["weights.bin", "layout.json", "generation.json", "model.onnx", "card.json", "current"]


def missing(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def one_bit(path: Path) -> None:
    """In the middle: a name or a digest, where the file is text; in weights past the padding."""
    content = bytearray(path.read_bytes())
    content[(len(content) - 1) // 2 + (path.suffix == ".bin")] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("is_behind", [True, False], ids=["behind", "up-to-date"])
@pytest.mark.parametrize("rot", [missing, empty, one_bit], ids=lambda rot: rot.__name__)
@pytest.mark.parametrize("name", ROTTING)
def test_what_rotted_on_the_disk_is_repaired_by_one_update(
    home: EdgeHome, server: FakeServer, name: str, rot: Callable[[Path], None], is_behind: bool
) -> None:
    update(home)
    rot(home.slots.pointer if name == "current" else home.slots.active().path / name)
    if is_behind:
        server.publish_next()
    result = update(home)
    assert stored(home) == generation(int(is_behind))
    active = home.slots.installed()
    active.slot.verify(active.record)
    Recognizer.open(home)
    # Without a pointer nothing is installed; graph and card of the diff's target come anew.
    if name != "current" or rot is not missing:
        assert result.repaired or name in ("model.onnx", "card.json")
    assert server.outcomes()[-1] == ("COMMITTED", "")
    assert update(home).steps == ()


def test_a_base_that_rotted_is_reported_before_it_is_repaired(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    one_bit(home.slots.active().weights)
    server.publish_next()
    assert "the diff to generation 1" in update(home).repaired
    assert server.outcomes()[-4:] == [
        ("STARTED", ""),
        ("FAILED", "WRONG_BASE"),
        ("STARTED", ""),
        ("COMMITTED", ""),
    ]


@pytest.mark.parametrize("content", [b"", b"c", b"\xff\xfe"])
def test_a_damaged_pointer_says_what_to_run(home: EdgeHome, content: bytes) -> None:
    update(home)
    home.slots.pointer.write_bytes(content)
    with pytest.raises(HomeError, match="run: ota-edge update"):
        Recognizer.open(home)


def test_too_little_room_is_found_before_anything_is_fetched(
    home: EdgeHome, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(10**9, 10**9, 1000))
    with pytest.raises(DiskFullError, match=r"free in .* for generation 0, found 1000"):
        update(home)
    assert server.reads == []
    assert server.outcomes()[-1] == ("FAILED", "DISK_FULL")
    monkeypatch.undo()
    assert update(home).after.number == 0


def test_a_disk_that_fills_up_during_any_write_keeps_the_old_generation(
    home: EdgeHome, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the n-th fsync, for every n until the update gets through."""
    update(home)
    before = content_of(home)
    server.publish_next()
    real_fsync = os.fsync
    for failing in range(1, 100):
        calls = 0

        def fsync(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if calls == failing:  # noqa: B023
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real_fsync(descriptor)

        monkeypatch.setattr(os, "fsync", fsync)
        try:
            update(home)
            break
        except DiskFullError:
            # The very last fsync is of the folder, after the pointer has moved.
            if home.slots.installed().record.generation.number == 0:
                assert content_of(home) == before
    monkeypatch.undo()
    assert failing > 8
    update(home)
    assert stored(home) == generation(1)


def test_a_report_that_does_not_arrive_does_not_undo_an_update(
    home: EdgeHome, server: FakeServer, retry: Retry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies_after_the_card(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        yield from chunks
        if sha256 == server.generations[0].card:
            server.lie.failing_calls = 1000

    server.lie.stream = dies_after_the_card
    result = update(home, retry)
    assert not result.is_reported
    assert stored(home) == generation(0)

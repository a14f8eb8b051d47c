"""Attacks A1-A9, A12 and A13: the committed model keeps serving, and the code says what it was.

The real client over a real gRPC server, whose repository is in memory and lies as it is told.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile, Targets

from edge_client import EdgeHome, Recognizer, enroll, update
from edge_client.enrollment import Wanted
from edge_client.errors import (
    BelowFloorError,
    BlobError,
    EdgeError,
    MixedError,
    NoRootError,
    OversizedError,
    ReplayError,
    RevokedError,
    SlowServerError,
    StaleError,
    TrustError,
    UnsignedError,
)
from edge_client.pace import Pace
from edge_client.retry import Retry
from edge_client.trust import trust_status
from edge_client.trust.state import read_state
from protos.ota.v1 import device_pb2, manifest_pb2
from tests.unit.edge_client.evidence import content_of
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import generation, snapshot
from tests.unit.edge_client.signed_repository import target

DAY = timedelta(days=1)


@pytest.fixture
def offered(home: EdgeHome, server: FakeServer) -> Iterator[dict[str, bytes]]:
    """Holds generation 0 and is offered 1. Whatever happens, 0 is untouched and answers."""
    update(home)
    server.publish_next()
    server.reads.clear()
    before = content_of(home)
    yield before
    assert content_of(home) == before
    assert Recognizer.open(home).generation.number == 0


def refuse(
    home: EdgeHome, server: FakeServer, error: type[EdgeError], code: str, **options: object
) -> None:
    """An update ends with this error, the server hears its code, no content was fetched."""
    with pytest.raises(error) as refused:
        update(home, Retry(sleep=lambda seconds: None), **options)
    assert type(refused.value) is error
    assert server.outcomes()[-2:] == [("STARTED", ""), ("FAILED", code)]
    assert server.reads == []


# ---- A1: wrong or missing signature


def foreign_signature(server: FakeServer, role: str) -> None:
    server.sign()
    server.repository.keys[role] = CryptoSigner.generate_ed25519()
    server.repository.sign(role, "snapshot", "timestamp")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "releases"])
def test_a1_a_foreign_signature_is_refused_before_content_is_fetched(
    home: EdgeHome, server: FakeServer, offered: object, role: str
) -> None:
    foreign_signature(server, role)
    refuse(home, server, TrustError, "UNTRUSTED")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "releases"])
def test_a1_a_missing_signature_is_refused_before_content_is_fetched(
    home: EdgeHome, server: FakeServer, offered: object, role: str
) -> None:
    def unsigned(found: str, version: int, content: bytes | None) -> bytes | None:
        if found != role or content is None:
            return content
        metadata = Metadata.from_bytes(content)
        metadata.signatures.clear()
        return metadata.to_bytes()

    server.lie.metadata = unsigned
    with pytest.raises((TrustError, OversizedError)):
        update(home)
    assert server.outcomes()[-1][1] in ("UNTRUSTED", "OVERSIZED")
    assert server.reads == []


def test_a1_a_generation_without_a_manifest_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.sign()
    del server.repository.releases["digits/1"]
    server.repository.sign("releases", "snapshot", "timestamp")
    server.sign = lambda: None
    refuse(home, server, UnsignedError, "UNSIGNED")


def test_a1_a_diff_that_nothing_names_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.lie.manifest = lambda manifest: manifest.ClearField("diffs")
    refuse(home, server, UnsignedError, "UNSIGNED")


def test_a1_garbage_instead_of_metadata_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    for garbage in (b"", b"\xff\xfe", b"[" * 3000, b"null", b'{"signed": 1}', bytes(500)):
        server.lie.metadata = lambda role, version, content, garbage=garbage: (
            garbage if role == "timestamp" else content
        )
        with pytest.raises(TrustError):
            update(home)
    assert server.reads == []


# ---- A2: replayed metadata


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


# ---- A3, A13: older generations


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
    for path in sorted((home.path / "trust" / "tuf").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
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


# ---- A4: freeze


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


# ---- A5: mix and match


def another_digest(manifest: manifest_pb2.Manifest) -> None:
    manifest.digest = bytes(32)


def another_base(manifest: manifest_pb2.Manifest) -> None:
    for diff in manifest.diffs:
        if diff.HasField("base"):
            diff.base_digest = bytes(32)


def another_model(manifest: manifest_pb2.Manifest) -> None:
    manifest.model = "letters"


def another_number(manifest: manifest_pb2.Manifest) -> None:
    manifest.generation += 1


def another_graph(manifest: manifest_pb2.Manifest) -> None:
    manifest.graph.sha256 = bytes(32)


@pytest.mark.parametrize("mixed", [another_digest, another_base, another_model, another_number])
def test_a5_a_plan_that_does_not_fit_its_manifest_is_refused(
    home: EdgeHome,
    server: FakeServer,
    offered: object,
    mixed: Callable[[manifest_pb2.Manifest], None],
) -> None:
    server.lie.manifest = mixed
    refuse(home, server, MixedError, "MIXED")


def test_a5_another_graph_than_the_signed_one_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    def foreign_graph(plan: device_pb2.Plan) -> None:
        plan.graph.CopyFrom(server.blob(server.add(b"another graph")))

    server.lie.plan = foreign_graph
    refuse(home, server, MixedError, "MIXED")


def test_a5_metadata_of_two_moments_does_not_go_together(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    old = dict(server.repository.files)
    server.repository.versions["releases"] += 0
    server.sign()
    mixed = old["snapshot", 0]
    server.lie.metadata = lambda role, version, content: mixed if role == "snapshot" else content
    with pytest.raises(TrustError):
        update(home)
    assert server.reads == []


# ---- A6: endless data


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "releases"])
def test_a6_endless_metadata_is_stopped(
    home: EdgeHome, server: FakeServer, offered: object, role: str
) -> None:
    server.lie.metadata = lambda found, version, content: (
        b" " * (1 << 22) if found == role else content
    )
    refuse(home, server, OversizedError, "OVERSIZED")


def test_a6_a_plan_longer_than_signed_is_refused_before_a_byte_is_fetched(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    def longer(plan: device_pb2.Plan) -> None:
        plan.steps[0].diff.length += 1

    server.lie.plan = longer
    refuse(home, server, OversizedError, "OVERSIZED")


def test_a6_a_manifest_that_claims_a_huge_length_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.sign()
    path = "digits/1"
    huge = TargetFile(1 << 40, target(path, server.repository.releases[path]).hashes, path)
    document = Targets(targets={path: huge})
    document.version = server.repository.versions["releases"] = 50
    document.expires = server.repository.expires["releases"].replace(microsecond=0)
    server.repository.put("releases", document, [server.repository.keys["releases"]])
    server.repository.sign("snapshot", "timestamp")
    server.sign = lambda: None
    refuse(home, server, OversizedError, "OVERSIZED")


# ---- A7: slow retrieval


def test_a7_a_drip_is_aborted_with_bounded_tries_and_resumes_later(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.publish_next()

    def drip(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            for byte in chunk:
                yield bytes([byte])
                time.sleep(0.2)

    server.lie.stream = drip
    server.reads.clear()
    pace = Pace(least_bytes_s=1000, window_s=0.5)
    retry = Retry(tries=3, sleep=lambda seconds: None, randomness=random.Random(0))
    with pytest.raises(SlowServerError):
        update(home, retry, pace=pace)
    assert server.outcomes()[-1] == ("FAILED", "TOO_SLOW")
    assert len(server.reads) == 3
    assert Recognizer.open(home).generation.number == 0
    part = next(home.staging.glob("*.part")).stat().st_size
    assert part > 0

    server.lie.stream = lambda sha256, chunks: chunks
    assert update(home, retry, pace=pace).after.number == 1
    assert server.reads[-1].offset >= part


# ---- A8, A9: a key in foreign hands


def test_a8_after_the_online_keys_were_stolen_a_new_root_recovers(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    thief = server.repository
    thief.versions["snapshot"] = thief.versions["timestamp"] = 1_000_000
    thief.sign("snapshot", "timestamp")  # so far ahead that no honest version comes after it
    update(home)
    thief.versions["snapshot"] = thief.versions["timestamp"] = 100
    server.publish_next()
    with pytest.raises(ReplayError):
        update(home)
    server.repository.rotate("snapshot", "timestamp")
    assert update(home).after.number == 1


def test_a8_the_online_keys_alone_cannot_bring_a_generation(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.sign()
    server.repository.keys["releases"] = server.repository.keys["timestamp"]
    server.repository.sign("releases", "snapshot", "timestamp")
    refuse(home, server, TrustError, "UNTRUSTED")


@pytest.mark.parametrize("stolen", ["targets", "releases"])
def test_a9_what_a_stolen_key_signs_is_refused_once_it_was_rotated(
    home: EdgeHome, server: FakeServer, offered: object, stolen: str
) -> None:
    old = server.repository.keys[stolen]
    server.repository.rotate(*(["targets"] if stolen == "targets" else []))
    if stolen == "releases":
        server.repository.keys["releases"] = CryptoSigner.generate_ed25519()
        server.repository.sign("targets", "releases", "snapshot", "timestamp")
    server.repository.keys[stolen] = old
    server.sign()
    server.repository.sign(stolen, "snapshot", "timestamp")
    refuse(home, server, TrustError, "UNTRUSTED")


def test_a9_rotation_recovers_without_touching_the_device(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    server.publish_next()
    server.repository.rotate("root", "targets", "releases", "snapshot", "timestamp", "routes")
    assert update(home).after.number == 1
    server.repository.rotate("root")
    server.publish_next()
    assert update(home).after.number == 2


def test_a9_a_root_that_the_old_one_did_not_sign_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.repository.keys["root"] = CryptoSigner.generate_ed25519()
    server.repository.rotate("root")
    refuse(home, server, TrustError, "UNTRUSTED")


def test_a9_a_key_that_was_rotated_away_does_not_come_back_with_a_wiped_cache(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    first_key = server.repository.keys["root"]
    server.repository.rotate("root")
    update(home)
    for path in sorted((home.path / "trust" / "tuf").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    server.repository.keys["root"] = first_key
    server.repository.versions["root"] -= 1
    server.repository.rotate("targets")  # a root 2 of the thief's own
    server.publish_next()
    with pytest.raises(TrustError):
        update(home)


def test_a9_a_revoked_generation_never_installs_again(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.repository.revoked["digits"] = [1]
    server.sign()
    server.repository.sign("releases", "snapshot", "timestamp")
    refuse(home, server, RevokedError, "REVOKED")
    # Even if whoever holds the keys takes it back, and the cache is gone.
    server.repository.revoked.clear()
    server.repository.sign("releases", "snapshot", "timestamp")
    for path in sorted((home.path / "trust" / "tuf").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    refuse(home, server, RevokedError, "REVOKED")


# ---- A12: names that lead out of the home


@pytest.mark.parametrize("model", ["../../escaped", "/escaped", "a\\..\\b", "..", "nul\0"])
def test_a12_no_name_from_outside_reaches_the_disk(
    tmp_path: Path, server: FakeServer, model: str
) -> None:
    home = EdgeHome(tmp_path / "inside" / "home")
    enroll(home, server.address, Wanted(model, "../name"), server.fleet)
    with suppress(EdgeError):  # what may be a name is installed, as any other
        update(home)
    found = {path.relative_to(tmp_path).parts[:2] for path in tmp_path.rglob("*")}
    assert found <= {("inside",), ("inside", "home")}
    assert not [path for path in home.path.rglob("*") if "escaped" in path.name]


# ---- the root of trust


def test_a_root_of_a_file_is_the_only_one_that_is_trusted(
    tmp_path: Path, server: FakeServer
) -> None:
    with FakeServer() as other:
        foreign = other.repository.files["root", 1]
    home = EdgeHome(tmp_path / "home")
    enroll(home, server.address, Wanted("digits"), server.fleet, root=foreign)
    with pytest.raises(TrustError):
        update(home)
    honest = server.repository.files["root", 1]
    enroll(home, server.address, Wanted("digits"), server.fleet, root=honest)
    assert update(home).after.number == 0


@pytest.mark.parametrize("root", [b"", b"{}", b"root"])
def test_a_root_that_is_none_is_refused_at_enrolment(
    tmp_path: Path, server: FakeServer, root: bytes
) -> None:
    with pytest.raises(NoRootError):
        enroll(
            EdgeHome(tmp_path / "home"), server.address, Wanted("digits"), server.fleet, root=root
        )
    assert not (tmp_path / "home").exists()


def test_a_manifest_with_another_sha256_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.sign()
    sha256 = next(s for s, number in server.manifests.items() if number == 1)
    server.blobs[sha256] = server.blobs[sha256][:-1] + b"x"
    server.sign = lambda: None
    refuse(home, server, BlobError, "BLOB_MISMATCH")

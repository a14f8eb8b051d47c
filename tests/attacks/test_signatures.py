"""Attacks A1 and A5: what was not signed, or not signed to go together.

The committed model keeps serving, and the code says what it was. The real client over a real gRPC
server, whose repository is in memory and lies as it is told.
"""

from collections.abc import Callable

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata

from edge_client import EdgeHome, update
from edge_client.errors import BlobError, MixedError, OversizedError, TrustError, UnsignedError
from protos.ota.v1 import device_pb2, manifest_pb2
from tests.attacks.refusals import refuse
from tests.unit.edge_client.fake_server import FakeServer


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


def test_a_manifest_with_another_sha256_is_refused(
    home: EdgeHome, server: FakeServer, offered: object
) -> None:
    server.sign()
    sha256 = next(s for s, number in server.manifests.items() if number == 1)
    server.blobs[sha256] = server.blobs[sha256][:-1] + b"x"
    server.sign = lambda: None
    refuse(home, server, BlobError, "BLOB_MISMATCH")


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
    server.sign()
    mixed = old["snapshot", 0]
    server.lie.metadata = lambda role, version, content: mixed if role == "snapshot" else content
    with pytest.raises(TrustError):
        update(home)
    assert server.reads == []

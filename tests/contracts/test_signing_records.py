"""What the registry keeps of signing, on every database: a version is replaced once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from server.errors import ConflictError, NotFoundError
from server.registry import Registry
from server.registry.identities import Identities
from server.registry.signing import KEPT_VERSIONS
from server.signing.records import ManifestRecord, SignedFile, SignedRelease
from tests.unit.server.values import TIME, blob, generation, step


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    opened = Registry.create(database_url)
    yield opened
    opened.close()


def file(role: str, version: int, replaces: int) -> SignedFile:
    content = f"{role} {version}".encode()
    return SignedFile(role, version, replaces, content, TIME + timedelta(days=version))


def manifest(number: int, *diffs: bytes) -> ManifestRecord:
    return ManifestRecord("digits", number, blob(f"manifest {number}"), frozenset(diffs))


def released(registry: Registry, number: int, replaces: int) -> None:
    first = step(None, number, 1000)
    release = SignedRelease(
        manifest(number, first.diff.sha256), (file("releases", replaces + 1, replaces),)
    )
    registry.add_generation(generation(number), [first], release)


def test_files_come_back_as_they_were_added(registry: Registry) -> None:
    registry.signing.add([file("root", 1, 0), file("timestamp", 7, 0)])
    registry.signing.add([file("timestamp", 9, 7)])
    assert registry.signing.latest() == {
        "root": file("root", 1, 0),
        "timestamp": file("timestamp", 9, 7),
    }
    assert registry.signing.read("timestamp", 0) == b"timestamp 9"
    assert registry.signing.read("timestamp", 7) == b"timestamp 7"
    for role, version in (("timestamp", 8), ("nobody", 0)):
        with pytest.raises(NotFoundError):
            registry.signing.read(role, version)


def test_all_files_are_added_or_none(registry: Registry) -> None:
    registry.signing.add([file("snapshot", 1, 0)])
    with pytest.raises(ConflictError):
        registry.signing.add([file("timestamp", 1, 0), file("snapshot", 2, 0)])
    assert set(registry.signing.latest()) == {"snapshot"}


def test_of_many_that_replace_one_version_at_once_one_wins(registry: Registry) -> None:
    registry.signing.add([file("timestamp", 1, 0)])

    def replace(version: int) -> bool:
        try:
            registry.signing.add([file("timestamp", version, 1)])
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(replace, range(2, 10)))
    assert won.count(True) == 1


def test_the_newest_versions_are_kept_and_every_root(registry: Registry) -> None:
    for role in ("root", "snapshot"):
        for version in range(1, KEPT_VERSIONS + 4):
            registry.signing.add([file(role, version, version - 1)])
    assert registry.signing.read("root", 1) == b"root 1"
    assert registry.signing.read("snapshot", 4) == b"snapshot 4"
    with pytest.raises(NotFoundError):
        registry.signing.read("snapshot", 3)


def test_a_generation_and_its_signatures_are_added_together(registry: Registry) -> None:
    released(registry, 0, replaces=0)
    with pytest.raises(ConflictError):
        released(registry, 1, replaces=0)
    assert registry.head("digits") == generation(0)
    assert [m.generation for m in registry.signing.manifests("digits")] == [0]
    assert registry.blob(blob("manifest 0").sha256) == blob("manifest 0")


def test_steps_that_no_manifest_names_are_found(registry: Registry) -> None:
    released(registry, 0, replaces=0)
    released(registry, 1, replaces=1)
    assert registry.signing.unnamed_steps() == ()
    later = step(0, 1, 40)
    registry.add_step("digits", later)
    (found,) = registry.signing.unnamed_steps()
    assert (found.model, found.target, found.diff) == ("digits", 1, later.diff)


def test_the_audit_log_tells_of_keys_and_revocations_and_not_of_what_servers_sign(
    registry: Registry,
) -> None:
    registry.signing.change("keys.rotate", ["root"], [file("root", 1, 0)], TIME)
    registry.signing.add([file("timestamp", 1, 0)])
    with pytest.raises(ConflictError):
        registry.signing.change("keys.rotate", ["root"], [file("root", 1, 0)], TIME)
    released(registry, 0, replaces=0)
    for _ in range(2):
        registry.signing.revoke("digits", [0], [], TIME)
    assert [(e.action, e.subject, e.details) for e in Identities(registry).audit()] == [
        ("keys.rotate", "root", {"root": 1}),
        ("generation.publish", "digits 0", {"digest": generation(0).digest.hex(), "parent": None}),
        ("generation.revoke", "digits 0", {}),
    ]


def test_a_revocation_stays(registry: Registry) -> None:
    released(registry, 0, replaces=0)
    released(registry, 1, replaces=1)
    registry.signing.revoke("digits", [1], [file("releases", 3, 2)], TIME)
    registry.signing.revoke("digits", [1], [], TIME + timedelta(days=1))
    assert registry.signing.revoked("digits") == {1}
    assert [m.is_revoked for m in registry.signing.manifests()] == [False, True]
    with pytest.raises(ConflictError):
        registry.signing.revoke("digits", [0], [file("releases", 4, 2)], TIME)
    assert registry.signing.revoked("digits") == {1}

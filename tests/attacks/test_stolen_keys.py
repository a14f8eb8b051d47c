"""Attacks A8 and A9: a key in foreign hands, and the way out of it.

The committed model keeps serving, and the code says what it was. The real client over a real gRPC
server, whose repository is in memory and lies as it is told.
"""

import pytest
from securesystemslib.signer import CryptoSigner

from edge_client import EdgeHome, update
from edge_client.errors import ReplayError, RevokedError, TrustError
from tests.attacks.refusals import forget_metadata, refuse
from tests.unit.edge_client.fake_server import FakeServer


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
    forget_metadata(home)
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
    forget_metadata(home)
    refuse(home, server, RevokedError, "REVOKED")

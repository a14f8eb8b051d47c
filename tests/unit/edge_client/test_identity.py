"""The device's key and certificates: made once, kept safe, renewed, and never mixed up."""

import os
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edge_client import EdgeHome, Wanted, enroll, update
from edge_client.address import ServerAddress
from edge_client.errors import (
    AccessDeniedError,
    CertificateRefusedError,
    CredentialError,
    NotEnrolledError,
    NotYetAcceptedError,
    ServerUnavailableError,
    UntrustedServerError,
)
from edge_client.identity.credential import (
    is_due,
    key_sha256,
    load_certificate,
    load_key,
    new_key,
    own_certificate,
)
from edge_client.retry import Retry
from edge_client.transport import Connection
from protos.ota.v1 import enrollment_pb2
from tests.unit.edge_client.fake_authority import FakeAuthority
from tests.unit.edge_client.fake_server import FakeServer

PENDING = enrollment_pb2.ENROLLMENT_STATE_PENDING
ACCEPTED = enrollment_pb2.ENROLLMENT_STATE_ACCEPTED
ROOT = Path(__file__).parents[3]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_reads_the_key(home: EdgeHome) -> None:
    folder = home.path / "identity"
    assert mode_of(folder) == 0o700
    assert mode_of(folder / "key.pem") == mode_of(folder / "ca.pem") == 0o600


def test_an_unfinished_file_that_all_could_read_does_not_lend_its_mode(tmp_path: Path) -> None:
    home = EdgeHome(tmp_path / "home")
    (home.path / "identity").mkdir(parents=True)
    left = home.path / "identity" / "key.pem.tmp"
    left.write_bytes(b"left by a power cut")
    left.chmod(0o666)
    home.identity.make_key()
    assert mode_of(home.path / "identity" / "key.pem") == 0o600


def test_the_key_is_made_once_and_never_sent(home: EdgeHome, server: FakeServer) -> None:
    before = home.identity.make_key()
    enroll(home, server.address, Wanted("digits", "test"), server.fleet)
    assert home.identity.make_key() == before
    assert len(server.devices) == 1
    secret = load_key(before).private_numbers().private_value.to_bytes(32, "big")
    assert not any(secret in request.signing_request for request in server.asked)


def test_a_device_waits_for_an_operator(tmp_path: Path, server: FakeServer) -> None:
    server.answer, told = PENDING, []

    def on_wait(key: str) -> None:
        told.append(key)
        if len(told) == 3:
            server.answer = ACCEPTED

    home, pauses = EdgeHome(tmp_path / "home"), []
    config = enroll(
        home,
        server.address,
        Wanted("digits", "test"),
        server.fleet,
        Retry(sleep=pauses.append),
        on_wait,
    )
    assert config == home.config()
    assert told == [key_sha256(load_key(home.identity.make_key())).hex()] * 3
    assert pauses == sorted(pauses)
    assert len(server.devices) == 1


def test_who_waits_for_an_operator_does_not_wear_out_the_flash(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer, writes, home = PENDING, [], EdgeHome(tmp_path / "home")
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (writes.append(file), real(file)))
    written = []

    def on_wait(key: str) -> None:
        written.append(len(writes))
        if len(written) == 3:
            server.answer = ACCEPTED

    wanted, retry = Wanted("digits", "test"), Retry(sleep=lambda seconds: None)
    enroll(home, server.address, wanted, server.fleet, retry, on_wait)
    assert written[0] == written[2]


def test_without_waiting_the_same_command_goes_on_later(tmp_path: Path, server: FakeServer) -> None:
    server.answer, home = PENDING, EdgeHome(tmp_path / "home")
    with pytest.raises(NotYetAcceptedError, match="ota-server device accept"):
        enroll(home, server.address, Wanted("digits", "test"), server.fleet)
    with pytest.raises(NotEnrolledError):
        update(home)
    server.answer = ACCEPTED
    assert enroll(home, server.address, Wanted("digits", "test")).device_id == "device-1"
    assert update(home).after.number == 0


def test_a_server_that_restarts_while_an_operator_is_waited_for_is_waited_for_too(
    tmp_path: Path, server: FakeServer
) -> None:
    server.answer, told = PENDING, []

    def on_wait(key: str) -> None:
        told.append(key)
        server.lie.failing_calls = 5 if len(told) == 1 else 0
        server.answer = PENDING if len(told) == 1 else ACCEPTED

    home = EdgeHome(tmp_path / "home")
    retry = Retry(tries=2, sleep=lambda seconds: None)
    enroll(home, server.address, Wanted("digits"), server.fleet, retry, on_wait)
    assert len(told) == 2


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (enrollment_pb2.ENROLLMENT_STATE_REJECTED, "rejected"),
        (enrollment_pb2.ENROLLMENT_STATE_REVOKED, r"revoked .*key\.pem"),
    ],
)
def test_a_key_that_is_refused_is_said_plainly(
    tmp_path: Path, server: FakeServer, state: int, words: str
) -> None:
    server.answer = state
    with pytest.raises(AccessDeniedError, match=words):
        enroll(EdgeHome(tmp_path / "home"), server.address, Wanted("digits"), server.fleet)


def test_a_certificate_is_renewed_by_the_device_at_half_of_its_life(
    home: EdgeHome, server: FakeServer
) -> None:
    update(home)
    assert server.renewals == []
    server.authority.age = timedelta(days=46)
    enroll(home, server.address, Wanted("digits", "test"))
    before = home.identity.credential()
    server.authority.age = timedelta(0)
    update(home)
    assert server.renewals == ["device-1"]
    assert home.identity.credential().key == before.key
    assert home.identity.credential().certificate != before.certificate
    update(home)
    assert server.renewals == ["device-1"]


def test_an_update_does_not_fail_for_a_renewal_that_does(
    home: EdgeHome, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.authority.age = timedelta(days=46)
    enroll(home, server.address, Wanted("digits", "test"))
    before = home.identity.credential()
    server.authority.device = lambda device_id, public: b"nonsense"
    assert update(home).after.number == 0
    assert home.identity.credential() == before


def test_a_device_that_slept_past_its_certificate_is_the_same_device_afterwards(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    update(home)
    server.authority.age = timedelta(days=100)
    enroll(home, server.address, Wanted("digits", "test"))
    server.authority.age = timedelta(0)
    server.publish_next()
    result = update(home, retry)
    assert result.after.number == 1
    assert set(server.callers) == {"device-1"}
    assert len(server.devices) == 1


def test_a_certificate_that_ended_and_cannot_be_had_anew_is_named(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    server.authority.age = timedelta(days=100)
    enroll(home, server.address, Wanted("digits", "test"))
    other = replace(FakeAuthority().enrolment(), authority=server.authority.pem)
    home.identity.save_fleet(other)
    with pytest.raises(CertificateRefusedError, match="likely this device's certificate has ended"):
        update(home, retry)


def test_a_server_of_another_fleet_is_not_trusted(server: FakeServer, retry: Retry) -> None:
    stranger = replace(server.credential(), authority=FakeAuthority().pem)
    with (
        Connection.open(server.address, stranger, retry) as connection,
        pytest.raises(UntrustedServerError, match="certificate of the fleet"),
    ):
        connection.check_in(None, ())
    assert server.check_ins == []


def test_a_server_of_another_name_is_not_trusted(retry: Retry) -> None:
    server = FakeServer()
    server.certificate = server.authority.server("ota.example.org")
    with (
        server,
        Connection.open(server.address, server.credential(), retry) as connection,
        pytest.raises(UntrustedServerError, match=r"for the name 127\.0\.0\.1"),
    ):
        connection.check_in(None, ())
    assert server.check_ins == []


def test_a_devices_certificate_does_not_make_a_server(retry: Retry) -> None:
    """It names no host; whoever stole a device cannot pose as the fleet's server."""
    server = FakeServer()
    stolen = server.credential()
    server.certificate = (stolen.key, stolen.certificate)
    with (
        server,
        Connection.open(server.address, server.credential(), retry) as connection,
        pytest.raises(UntrustedServerError),
    ):
        connection.check_in(None, ())


def test_a_certificate_of_another_fleet_is_refused_with_a_likely_reason(
    server: FakeServer, retry: Retry
) -> None:
    other = replace(FakeServer().credential(), authority=server.authority.pem)
    with (
        Connection.open(server.address, other, retry) as connection,
        pytest.raises(CertificateRefusedError, match="of another fleet"),
    ):
        connection.check_in(None, ())


def test_what_a_server_gives_is_taken_only_if_it_is_ours() -> None:
    fleet, key = FakeAuthority(), load_key(new_key())
    good = fleet.device("kitchen", key.public_key())
    assert load_certificate(own_certificate(good, "kitchen", key, fleet.pem))
    wrong = {
        "another device": (good, "attic", key, fleet.pem),
        "another key": (good, "kitchen", load_key(new_key()), fleet.pem),
        "another fleet": (good, "kitchen", key, FakeAuthority().pem),
        "nothing": (b"", "kitchen", key, fleet.pem),
    }
    for what, arguments in wrong.items():
        with pytest.raises(CredentialError):
            own_certificate(*arguments)
            pytest.fail(what)


def test_a_clock_that_was_lost_renews_rather_than_waits() -> None:
    fleet, key = FakeAuthority(), load_key(new_key())
    pem = own_certificate(fleet.device("d", key.public_key()), "d", key, fleet.pem)
    now = datetime.now(UTC)
    assert not is_due(pem, now + timedelta(days=44))
    assert is_due(pem, now + timedelta(days=46))
    assert is_due(pem, now + timedelta(days=400))
    assert is_due(pem, datetime(1970, 1, 2, tzinfo=UTC))


def test_kill_9_at_every_change_of_the_disk_leaves_one_key_and_a_home_that_goes_on(
    tmp_path: Path, server: FakeServer
) -> None:
    ca = server.ca_file(tmp_path)
    is_completed, points = False, 0
    for number in range(1, 100):
        for when in ("before", "after"):
            home = EdgeHome(tmp_path / f"home-{number}-{when}")
            child = [sys.executable, "-m", "tests.unit.edge_client.killed_enrolment"]
            place = [str(home.path), str(server.port), str(ca), when, f"change {number}"]
            done = subprocess.run([*child, *place], cwd=ROOT, timeout=60, check=False)
            is_completed = done.returncode == 0
            assert is_completed or done.returncode == -signal.SIGKILL
            points += not is_completed
            known = home.identity.key() if home.path.exists() else None
            enroll(home, server.address, Wanted("digits", "test"), server.fleet)
            assert known in (None, home.identity.key())
            assert mode_of(home.path / "identity" / "key.pem") == 0o600
            with Connection.open(server.address, home.identity.credential()) as connection:
                connection.check_in(None, ())
            assert server.callers[-1] == home.config().device_id
        if is_completed:
            break
    assert is_completed
    assert points > 15
    # As many devices as homes: nobody asked by two keys.
    assert len(server.devices) == number * 2


def test_a_file_of_another_fleet_does_not_take_the_place_of_one_that_works(
    home: EdgeHome, server: FakeServer, retry: Retry
) -> None:
    with pytest.raises(ServerUnavailableError):
        enroll(home, server.address, Wanted("digits"), FakeAuthority().enrolment(), retry)
    assert update(home).after.number == 0


def test_a_key_that_was_removed_asks_for_enrolment_and_never_shows_the_old_certificate(
    home: EdgeHome, server: FakeServer
) -> None:
    (home.path / "identity" / "key.pem").unlink()
    with pytest.raises(CredentialError, match="run: ota-edge enroll"):
        update(home)
    home.identity.make_key()
    with pytest.raises(CredentialError, match=r"for the key in key\.pem"):
        update(home)
    enroll(home, server.address, Wanted("digits"))
    assert update(home).after.number == 0


def test_an_absent_server_leaves_the_key_for_the_next_time(tmp_path: Path, retry: Retry) -> None:
    home, fleet = EdgeHome(tmp_path / "home"), FakeAuthority().enrolment()
    with pytest.raises(ServerUnavailableError, match="Connection refused"):
        enroll(home, ServerAddress("127.0.0.1", 9), Wanted("digits"), fleet, retry)
    assert home.identity.key() is not None

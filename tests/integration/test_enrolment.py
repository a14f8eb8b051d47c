"""How a key becomes a device: asked, accepted, known to every server of the fleet."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from protos.ota.v1 import enrollment_pb2, enrollment_pb2_grpc
from server.home import ServerHome
from server.identity.certificates import key_sha256, new_key
from server.identity.fleet import renew_enrolment
from server.identity.keys import Verb
from server.registry.identities import Identities
from tests import fleet
from tests.integration.calls import (
    ACCEPTED,
    PENDING,
    TIMEOUT_S,
    address,
    ask,
    channel,
    check_in,
    home,
    refusal,
    run,
)
from tests.integration.server_process import ROOT, server_process
from tests.postgres import PostgresServer
from tests.unit.server.values import generation, step

__all__ = ["address", "home"]


def test_a_second_key_for_a_device_waits_and_raises_an_alert(home: ServerHome) -> None:
    """A11."""
    fleet.open_to_all(home)
    with server_process(home.folder) as (process, listening):
        with channel(listening, fleet.of_enrolment(home)) as opened:
            first = ask(opened, device_id="kitchen")
            assert first.state == ACCEPTED
            rival = ask(opened, device_id="kitchen")
            assert (rival.state, rival.certificate) == (PENDING, b"")
        shown = json.loads(run("ota-server", "device", "list", home.folder, "--json").stdout)
        assert [key["is_alert"] for key in shown["devices"]] == [False, True]
        assert "ALERT" in run("ota-server", "device", "list", home.folder).stdout
        process.terminate()
        _, log = process.communicate(timeout=TIMEOUT_S)
    assert "ALERT: key" in log
    assert "asks to be device kitchen" in log


def test_requests_that_are_none_change_nothing(home: ServerHome, address: str) -> None:
    good = fleet.request_for(new_key())
    wrong = {
        "signing_request": {"signing_request": b""},
        "signing_request: expected a PKCS": {"signing_request": good[:-1]},
        "signing_request: expected a signature": {"signing_request": flipped(good)},
        "signing_request: expected at most": {"signing_request": bytes(5000)},
        "signing_request: expected a key of P-256": {"signing_request": of_another_kind()},
        "model": {"signing_request": good, "model": "x" * 201},
        "name": {"signing_request": good, "name": "x" * 201},
        "name: expected printable": {"signing_request": good, "name": "\x1b[2Jfine"},
        "device_id": {"signing_request": good, "device_id": "../kitchen"},
        "device_id: expected 1 to 32": {"signing_request": good, "device_id": "x" * 33},
    }
    with channel(address, fleet.of_enrolment(home)) as opened:
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(opened)
        for words, fields in wrong.items():
            with pytest.raises(grpc.RpcError) as refused:
                stub.Enroll(enrollment_pb2.EnrollRequest(**fields), timeout=TIMEOUT_S)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details().startswith(words)
        assert refusal(lambda o: ask(o, model="letters"), opened) == grpc.StatusCode.NOT_FOUND
    assert Identities(home.registry).all() == ()


def flipped(request: bytes) -> bytes:
    """The signature's last byte is another one."""
    return request[:-1] + bytes([request[-1] ^ 1])


def of_another_kind() -> bytes:
    return fleet.request_for(ed25519.Ed25519PrivateKey.generate(), algorithm=None)


def test_an_older_ca_pem_enrols_nobody_and_devices_go_on(home: ServerHome, address: str) -> None:
    older = fleet.of_enrolment(home)
    _, device = fleet.enrolled(home)
    renew_enrolment(home.authority(), home.registry, fleet.now())
    with channel(address, older) as opened:
        assert refusal(ask, opened) == grpc.StatusCode.UNAUTHENTICATED
    with channel(address, fleet.of_enrolment(home)) as opened:
        assert ask(opened).state == PENDING
    with channel(address, device) as opened:
        check_in(opened)


def test_a_device_enrols_waits_and_is_accepted_by_an_operator(
    home: ServerHome, address: str, tmp_path: Path
) -> None:
    """The whole story by the two programs, with kill -9 of the device while it waits."""
    place = ("--home", tmp_path / "kitchen", "--server", address)
    given = ("--ca", home.folder / "ca.pem", "--device-id", "kitchen")
    key = run("ota-edge", "key", "--home", tmp_path / "kitchen").stdout.strip()
    waiting = subprocess.Popen(
        [sys.executable, "-c", "from edge_client.cli import main; main()", "enroll",
         *map(str, (*place, *given))],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == f"waiting for an operator to accept key {key[:16]}\n"
    waiting.kill()
    waiting.communicate(timeout=TIMEOUT_S)
    told = run("ota-edge", "enroll", *place, "--no-wait").stdout
    assert "not enrolled yet" in told
    assert key[:16] in told
    run("ota-server", "device", "accept", home.folder, key[:16])
    assert "is device kitchen" in run("ota-edge", "enroll", *place).stdout
    shown = json.loads(run("ota-server", "device", "show", home.folder, "kitchen", "--json").stdout)
    assert (shown["state"], shown["key"], shown["model"]) == ("accepted", key, "digits")
    entries = run("ota-server", "audit", home.folder).stdout.splitlines()
    assert ["device.request" in line for line in entries].count(True) == 1
    assert any(" local:" in line and "device.accept kitchen" in line for line in entries)


def test_a_preauthorized_device_waits_for_nobody(
    home: ServerHome, address: str, tmp_path: Path
) -> None:
    key = run("ota-edge", "key", "--home", tmp_path / "attic").stdout.strip()
    run("ota-server", "device", "preauthorize", home.folder, key, "--device-id", "attic")
    given = ("--server", address, "--ca", home.folder / "ca.pem")
    enrolled = run("ota-edge", "enroll", "--home", tmp_path / "attic", *given)
    assert "is device attic" in enrolled.stdout


def test_what_was_answered_to_a_request_survives_kill_9_of_the_server(home: ServerHome) -> None:
    key = new_key()
    with server_process(home.folder) as (process, listening):
        with channel(listening, fleet.of_enrolment(home)) as opened:
            first = ask(opened, key)
        process.kill()
    run("ota-server", "device", "accept", home.folder, "--all")
    with (
        server_process(home.folder) as (_, listening),
        channel(listening, fleet.of_enrolment(home)) as opened,
    ):
        again = ask(opened, key)
    assert (again.state, again.device_id) == (ACCEPTED, first.device_id)


def test_two_servers_over_one_database_are_one_fleet(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    """Asked here, accepted there, revoked by a third; the keys are a copy of the first's."""
    url = postgres.new_database()
    first = ServerHome.create(tmp_path / "one", database=url)
    first.registry.add_generation(generation(0), [step(None, 0, 10)])
    subprocess.run(["cp", "-r", tmp_path / "one", tmp_path / "two"], check=True)
    option = f"--database={url}"
    key, by_key = new_key(), []
    with (
        server_process(tmp_path / "one", option) as (_, one),
        server_process(tmp_path / "two", option) as (_, two),
    ):
        with channel(one, fleet.of_enrolment(first)) as opened:
            asked = ask(opened, key)
        run("ota-server", "device", "accept", tmp_path / "two", asked.device_id, option)
        with channel(two, fleet.of_enrolment(first)) as opened:
            answer = ask(opened, key)
        assert (answer.state, answer.device_id) == (ACCEPTED, asked.device_id)
        device = fleet.signed(first.authority(), asked.device_id, key)
        for listening in (one, two):
            with channel(listening, device) as opened:
                by_key.append(check_in(opened).head)
        Identities(first.registry).decide(key_sha256(key.public_key()), Verb.REVOKE, fleet.now())
        for listening in (one, two):
            with channel(listening, device) as opened:
                assert refusal(check_in, opened) == grpc.StatusCode.PERMISSION_DENIED
    first.close()
    assert by_key == [0, 0]

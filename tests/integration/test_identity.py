"""Who gets in, and to what: real certificates, a real server, real devices."""

import asyncio
import json
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)
from server.home import ServerHome
from server.identity.authority import Authority, read_client_file
from server.identity.certificates import Role, key_sha256, new_key
from server.identity.desk import find
from server.identity.fleet import renew_enrolment
from server.identity.keys import KeyState, Verb
from server.registry.identities import Identities
from server.registry.operators import Operator, Operators
from server.serving import serving
from tests import fleet
from tests.integration.served_home import home_with
from tests.integration.test_serve_process import server_process
from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 20
ENDED = grpc.StatusCode.UNAVAILABLE
PENDING = enrollment_pb2.ENROLLMENT_STATE_PENDING
ACCEPTED = enrollment_pb2.ENROLLMENT_STATE_ACCEPTED


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = home_with(tmp_path / "srv", generations=1)
    yield made
    made.close()


@pytest.fixture
def address(home: ServerHome) -> Iterator[str]:
    with server_process(home.folder) as (_, listening):
        yield listening


@contextmanager
def channel(address: str, credential: fleet.Credential) -> Iterator[grpc.Channel]:
    with grpc.secure_channel(address, credential.for_channel()) as opened:
        yield opened


def check_in(opened: grpc.Channel) -> object:
    stub = device_pb2_grpc.DeviceServiceStub(opened)
    return stub.CheckIn(device_pb2.CheckInRequest(), timeout=TIMEOUT_S)


def report(opened: grpc.Channel) -> object:
    request = device_pb2.ReportRequest(attempt_id="x", outcome=device_pb2.OUTCOME_FAILED)
    return device_pb2_grpc.DeviceServiceStub(opened).Report(request, timeout=TIMEOUT_S)


def read_blob(opened: grpc.Channel) -> object:
    request = content_pb2.ReadBlobRequest(sha256=bytes(32))
    return list(content_pb2_grpc.ContentServiceStub(opened).ReadBlob(request, timeout=TIMEOUT_S))


def ask(opened: grpc.Channel, key: ec.EllipticCurvePrivateKey | None = None, **fields: str):
    request = enrollment_pb2.EnrollRequest(
        signing_request=fleet.request_for(key or new_key(), "claims to be admin"), **fields
    )
    stub = enrollment_pb2_grpc.EnrollmentServiceStub(opened)
    return stub.Enroll(request, timeout=TIMEOUT_S)


def renew(opened: grpc.Channel):
    request = enrollment_pb2.RenewCertificateRequest()
    stub = enrollment_pb2_grpc.EnrollmentServiceStub(opened)
    return stub.RenewCertificate(request, timeout=TIMEOUT_S)


def health(opened: grpc.Channel) -> object:
    stub = health_pb2_grpc.HealthStub(opened)
    return stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)


def reflection(opened: grpc.Channel) -> object:
    stub = reflection_pb2_grpc.ServerReflectionStub(opened)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    return list(stub.ServerReflectionInfo(iter([request]), timeout=TIMEOUT_S))


def refusal(call: Callable[[grpc.Channel], object], opened: grpc.Channel) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        call(opened)
    return refused.value.code()


EVERY_CALL = (check_in, report, read_blob, ask, renew, health, reflection)


@pytest.mark.parametrize("who", ["expired", "foreign", "nobody"])
def test_who_has_no_valid_certificate_of_the_fleet_reaches_nothing(
    home: ServerHome, address: str, who: str
) -> None:
    key, before = new_key(), Identities(home.registry).audit()
    credential = {
        "expired": lambda: fleet.signed(home.authority(), "d", key, age=timedelta(days=100)),
        "foreign": lambda: fleet.foreign(home, "d"),
        "nobody": lambda: fleet.nobody(home),
    }[who]()
    with channel(address, credential) as opened:
        assert {refusal(call, opened) for call in EVERY_CALL} == {ENDED}
    with grpc.insecure_channel(address) as opened:
        assert refusal(health, opened) == ENDED
    assert Identities(home.registry).audit() == before


def test_the_enrolment_credential_is_for_enrolment_and_health_alone(
    home: ServerHome, address: str
) -> None:
    with channel(address, fleet.of_enrolment(home)) as opened:
        for call in (check_in, report, read_blob, renew, reflection):
            assert refusal(call, opened) == grpc.StatusCode.PERMISSION_DENIED, call.__name__
        health(opened)
        assert ask(opened).state == PENDING
    assert home.registry.device_counts("digits") == {}


def test_a_device_calls_what_devices_call(home: ServerHome, address: str) -> None:
    _, device = fleet.enrolled(home)
    with channel(address, device) as opened:
        assert check_in(opened).head == 0
        assert refusal(ask, opened) == grpc.StatusCode.PERMISSION_DENIED
        health(opened)
        reflection(opened)
        assert renew(opened).certificate


def test_a_device_that_the_registry_does_not_know_is_told_to_enrol(
    home: ServerHome, address: str
) -> None:
    stranger = fleet.signed(home.authority(), "stranger", new_key())
    with channel(address, stranger) as opened, pytest.raises(grpc.RpcError) as refused:
        check_in(opened)
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
    assert "'stranger': enrol it again" in refused.value.details()


def test_a_certificate_of_one_device_by_the_key_of_another_is_refused(
    home: ServerHome, address: str
) -> None:
    """Such a one was never signed; if it was, the key decides."""
    _, kitchen = fleet.enrolled(home, "kitchen")
    fleet.enrolled(home, "attic")
    key = new_key()
    Identities(home.registry).preauthorize(key_sha256(key.public_key()), "third", "", fleet.now())
    with channel(address, fleet.signed(home.authority(), "attic", key)) as opened:
        assert refusal(check_in, opened) == grpc.StatusCode.UNAUTHENTICATED
    with channel(address, kitchen) as opened:
        check_in(opened)


@pytest.mark.parametrize("verb", ["revoke", "decommission"])
def test_who_is_revoked_or_decommissioned_is_out_at_once_on_an_open_connection(
    home: ServerHome, address: str, verb: str
) -> None:
    device_id, device = fleet.enrolled(home)
    with channel(address, device) as opened:
        assert check_in(opened).head == 0
        run("ota-server", "device", verb, home.folder, device_id)
        for call in (check_in, report, read_blob, renew):
            with pytest.raises(grpc.RpcError) as refused:
                call(opened)
            assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
            assert "is revoked" in refused.value.details()


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


def test_a_renewed_server_certificate_is_shown_without_a_restart(
    home: ServerHome, address: str
) -> None:
    _, device = fleet.enrolled(home)
    by_name = ("grpc.ssl_target_name_override", "ota.example.org")
    with channel(address, device) as before:
        check_in(before)
        credentials = device.for_channel()
        with grpc.secure_channel(address, credentials, options=[by_name]) as opened:
            assert refusal(check_in, opened) == ENDED
        run("ota-server", "tls", "renew", home.folder, "--name", "ota.example.org")
        with grpc.secure_channel(address, credentials, options=[by_name]) as opened:
            check_in(opened)
        check_in(before)
        # Again without a name: those of before stay.
        run("ota-server", "tls", "renew", home.folder)
        with grpc.secure_channel(address, credentials, options=[by_name]) as opened:
            check_in(opened)


def test_a_damaged_server_certificate_leaves_the_one_of_before_in_use(
    home: ServerHome, address: str
) -> None:
    _, device = fleet.enrolled(home)
    (home.folder / "tls" / "server.pem").write_bytes(b"damaged")
    with channel(address, device) as opened:
        check_in(opened)


def test_all_secrets_are_the_owners_alone(home: ServerHome, tmp_path: Path) -> None:
    run("ota-server", "operator", "add", home.folder, "alice", "--role", "viewer",
        "--out", tmp_path / "alice.pem")  # fmt: skip
    assert mode_of(home.folder / "tls") == 0o700
    secrets = [*(home.folder / "tls").glob("*.*"), home.folder / "ca.pem", tmp_path / "alice.pem"]
    assert len(secrets) == 7
    assert {mode_of(path) for path in secrets} == {0o600}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(program: str, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    module = {"ota-server": "server.cli", "ota-edge": "edge_client.cli"}[program]
    ended = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        capture_output=True,
        timeout=2 * TIMEOUT_S,
        check=False,
    )
    assert ended.returncode == expect, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


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
    first.registry.add_generation(*a_generation())
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


def a_generation():
    from tests.unit.server.values import generation, step

    return generation(0), [step(None, 0, 10)]


def test_a_server_with_other_keys_than_its_database_knows_does_not_serve(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    option = f"--database={postgres.new_database()}"
    run("ota-server", "init", tmp_path / "one", option)
    refused = run("ota-server", "init", tmp_path / "two", option, expect=1)
    assert "copy tls/ and ca.pem" in refused.stderr
    run("ota-server", "init", tmp_path / "three")
    refused = run(
        "ota-server", "serve", tmp_path / "three", option, "--listen", "127.0.0.1:0", expect=1
    )
    assert "expected the authority" in refused.stderr
    run("ota-server", "init", tmp_path / "three", option, "--new-authority")


def test_devices_revoked_while_many_call_at_once_are_out_and_the_others_in(
    home: ServerHome,
) -> None:
    devices = [fleet.enrolled(home) for _ in range(8)]
    for device_id, _ in devices[::2]:
        key = find(Identities(home.registry).all(), device_id)
        Identities(home.registry).decide(key.sha256, Verb.REVOKE, fleet.now())

    async def scenario() -> list[str]:
        async with serving(home, "127.0.0.1:0", grace_s=0) as server:

            async def called(credential: fleet.Credential) -> str:
                where = str(server.address)
                async with grpc.aio.secure_channel(where, credential.for_channel()) as opened:
                    stub = device_pb2_grpc.DeviceServiceStub(opened)
                    try:
                        await stub.CheckIn(device_pb2.CheckInRequest(), timeout=TIMEOUT_S)
                    except grpc.aio.AioRpcError as error:
                        return error.code().name
                    return "OK"

            return await asyncio.gather(*(called(credential) for _, credential in devices))

    assert asyncio.run(scenario()) == ["PERMISSION_DENIED", "OK"] * 4
    assert len(Identities(home.registry).all(KeyState.REVOKED)) == 4


@pytest.fixture
def people(home: ServerHome, tmp_path: Path) -> dict[str, Path]:
    """A credential file of each role."""
    files = {role: tmp_path / f"{role}.pem" for role in ("viewer", "operator", "admin")}
    for role, path in files.items():
        run("ota-server", "operator", "add", home.folder, f"ann-{role}", "--role", role,
            "--out", path)  # fmt: skip
    return files


def test_an_operator_decides_on_devices_from_another_machine(
    home: ServerHome, address: str, people: dict[str, Path]
) -> None:
    key = new_key()
    with channel(address, fleet.of_enrolment(home)) as opened:
        ask(opened, key, device_id="kitchen")
    by = ("--credential", people["operator"])
    shown = json.loads(run("ota-server", "device", "list", address, *by, "--json").stdout)
    assert [device["state"] for device in shown["devices"]] == ["pending"]
    run("ota-server", "device", "accept", address, "kitchen", *by)
    with channel(address, fleet.of_enrolment(home)) as opened:
        assert ask(opened, key).state == ACCEPTED
    other = key_sha256(new_key().public_key()).hex()
    run("ota-server", "device", "preauthorize", address, other, *by)
    run("ota-server", "device", "revoke", address, "kitchen", *by)
    run("ota-server", "device", "decommission", address, "kitchen", "--credential", people["admin"])
    assert home.registry.device("kitchen").decommissioned_at is not None
    actors = {entry.action: entry.actor for entry in Identities(home.registry).audit()}
    assert actors["device.accept"] == actors["device.revoke"] == "operator:ann-operator"
    assert actors["device.decommission"] == "operator:ann-admin"


def test_a_role_does_what_it_may_and_no_more(
    home: ServerHome, address: str, people: dict[str, Path]
) -> None:
    device_id, _ = fleet.enrolled(home)
    before = Identities(home.registry).audit()
    may_not = (("viewer", "revoke"), ("viewer", "decommission"), ("operator", "decommission"))
    for role, verb in may_not:
        by = ("--credential", people[role])
        run("ota-server", "device", "list", address, *by)
        refused = run("ota-server", "device", verb, address, device_id, *by, expect=1)
        assert refused.stderr.startswith("error: ")
        assert f"found ann-{role} with {role}" in refused.stderr
    assert Identities(home.registry).audit() == before


def test_an_operators_credential_is_no_devices_and_a_devices_no_operators(
    home: ServerHome, address: str, people: dict[str, Path], tmp_path: Path
) -> None:
    roots, certificate, key = read_client_file(people["admin"])
    with channel(address, fleet.Credential(roots, certificate, key)) as opened:
        for call in (check_in, report, read_blob, ask, renew):
            assert refusal(call, opened) == grpc.StatusCode.PERMISSION_DENIED
    _, device = fleet.enrolled(home)
    (tmp_path / "device.pem").write_bytes(device.roots + device.certificate + device.key)
    for path in (tmp_path / "device.pem", home.folder / "ca.pem"):
        refused = run("ota-server", "device", "list", address, "--credential", path, expect=1)
        assert "PERMISSION_DENIED" in refused.stderr


def test_who_was_removed_decides_on_nothing(
    home: ServerHome, address: str, people: dict[str, Path]
) -> None:
    run("ota-server", "operator", "remove", home.folder, "ann-admin")
    by = ("--credential", people["admin"])
    refused = run("ota-server", "device", "list", address, *by, expect=1)
    assert "UNAUTHENTICATED" in refused.stderr
    assert "was removed" in refused.stderr


def test_an_authority_does_not_make_what_only_the_other_one_may(
    home: ServerHome, address: str
) -> None:
    """Whoever stole the key that signs devices does not become an operator by it."""
    authority = home.authority()
    swapped = Authority(home.folder, authority.operators, authority.devices)
    pair, _ = swapped.new_operator("mallory", Role.ADMIN, fleet.now())
    operators = Operators(home.registry)
    operators.add(Operator(key_sha256(pair.key.public_key()), "mallory", "admin", fleet.now()))
    roots = fleet.of_enrolment(home).roots
    mallory = fleet.Credential(roots, pair.certificate_pem(), pair.key_pem())
    with channel(address, mallory) as opened:
        stub = operator_pb2_grpc.OperatorServiceStub(opened)
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.ListDevices(operator_pb2.ListDevicesRequest(), timeout=TIMEOUT_S))
    assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED

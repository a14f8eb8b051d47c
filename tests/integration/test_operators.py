"""People decide on devices from another machine, as far as their role goes."""

import json
from pathlib import Path

import grpc
import pytest

from protos.ota.v1 import operator_pb2, operator_pb2_grpc
from server.home import ServerHome
from server.identity.authority import Authority, read_client_file
from server.identity.certificates import Role, key_sha256, new_key
from server.registry.identities import Identities
from server.registry.operators import Operator, Operators
from tests import fleet
from tests.integration.calls import (
    ACCEPTED,
    TIMEOUT_S,
    address,
    ask,
    channel,
    check_in,
    home,
    read_blob,
    refusal,
    renew,
    report,
    run,
)

__all__ = ["address", "home"]


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

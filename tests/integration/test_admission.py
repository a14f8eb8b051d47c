"""Who gets in, and to what: real certificates, a real server."""

import asyncio
from datetime import timedelta

import grpc
import pytest

from protos.ota.v1 import device_pb2, device_pb2_grpc
from server.home import ServerHome
from server.identity.certificates import key_sha256, new_key
from server.identity.desk import find
from server.identity.keys import KeyState, Verb
from server.registry.identities import Identities
from server.serving import serving
from tests import fleet
from tests.integration.calls import (
    ENDED,
    EVERY_CALL,
    PENDING,
    TIMEOUT_S,
    address,
    ask,
    channel,
    check_in,
    health,
    home,
    read_blob,
    reflection,
    refusal,
    renew,
    report,
    run,
)

__all__ = ["address", "home"]


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

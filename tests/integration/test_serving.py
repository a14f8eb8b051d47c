"""Starting and stopping: addresses, health, reflection, grace."""

import asyncio
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.ota.v1 import content_pb2, content_pb2_grpc
from server.clock import utc_now
from server.domain import Step
from server.errors import SettingError
from server.home import ServerHome
from server.listening import ListenAddress
from server.registry.identities import Identities
from server.rollouts import operations
from server.rollouts.states import State
from server.serving import SERVICE_NAMES, serving, start
from tests import fleet
from tests.integration.served_home import channel_to, home_with
from tests.unit.server.values import generation

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def home(tmp_path: Path):
    made = home_with(tmp_path / "srv", generations=1)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051"),
        ("localhost:0", "127.0.0.1:0"),
        ("127.8.8.8:1", "127.8.8.8:1"),
        ("[::1]:65535", "[::1]:65535"),
        ("0.0.0.0:1", "0.0.0.0:1"),
        ("[::]:1", "[::]:1"),
        ("ota.example.org:1", "ota.example.org:1"),
    ],
)
def test_addresses_are_read(text: str, address: str) -> None:
    assert str(ListenAddress.parse(text)) == address


@pytest.mark.parametrize("text", ["", "127.0.0.1", ":1", "127.0.0.1:", "127.0.0.1:65536", "a:b:c"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="expected an address HOST:PORT"):
        ListenAddress.parse(text)


def test_a_port_in_use_is_refused(home: ServerHome) -> None:
    async def scenario() -> None:
        async with serving(home, "127.0.0.1:0", grace_s=0) as server:
            with pytest.raises(SettingError, match="Address already in use"):
                await start(home, str(server.address))

    asyncio.run(scenario())


def test_an_address_that_this_machine_lacks_is_not_called_in_use(
    home: ServerHome,
) -> None:
    with pytest.raises(SettingError, match="Cannot assign requested address"):
        asyncio.run(start(home, "203.0.113.1:50051"))


@pytest.mark.parametrize("service", ["", *SERVICE_NAMES])
def test_health_says_serving(home: ServerHome, service: str) -> None:
    async def scenario() -> None:
        async with channel_to(home) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
            assert answer.status == SERVING

    asyncio.run(scenario())


def test_reflection_lists_the_services(home: ServerHome) -> None:
    async def scenario() -> list[str]:
        async with channel_to(home) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            call = stub.ServerReflectionInfo(iter([request]), timeout=20)
            answer = await call.read()
            return [service.name for service in answer.list_services_response.service]

    names = asyncio.run(scenario())
    assert {"ota.v1.DeviceService", "ota.v1.ContentService", "grpc.health.v1.Health"} <= set(names)


def test_what_a_server_does_by_itself_is_in_the_audit_log_as_the_servers(home: ServerHome) -> None:
    made = operations.create(home.registry, "digits", 0)
    operations.start(home, made, utc_now(), at=utc_now())

    async def scenario() -> None:
        async with serving(home, "127.0.0.1:0", grace_s=0):
            while home.registry.rollouts.find(made.rollout_id).state is State.SCHEDULED:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(scenario(), timeout=60))
    log = [e for e in Identities(home.registry).audit() if e.subject == made.rollout_id]
    assert [entry.actor for entry in log] == [home.registry.actor] * 2 + ["server"]
    assert log[-1].details["after"] == "running"


def test_a_stopping_server_says_not_serving_and_lets_a_download_end(home: ServerHome) -> None:
    content = bytes(4_000_000)  # more than the transport holds, so that the server must still send
    blob = home.artifacts.put(content)
    home.registry.add_step("digits", Step(None, 0, generation(0).digest, blob))

    async def scenario() -> None:
        server = await start(home, "127.0.0.1:0")
        _, device = fleet.enrolled(home)
        async with grpc.aio.secure_channel(str(server.address), device.for_channel()) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
            assert (await watch.read()).status == SERVING
            download = content_pb2_grpc.ContentServiceStub(channel).ReadBlob(
                content_pb2.ReadBlobRequest(sha256=blob.sha256), timeout=20
            )
            answers = aiter(download)
            received = (await anext(answers)).chunk
            stopping = asyncio.create_task(server.stop(grace_s=15))
            assert (await watch.read()).status == NOT_SERVING
            watch.cancel()
            assert not stopping.done()
            async for answer in answers:
                received += answer.chunk
            assert received == content
            await stopping

    asyncio.run(scenario())

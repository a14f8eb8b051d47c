"""Where a server says no: size, shape, rate, room and patience, over real connections."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.ota.v1 import (
    content_pb2,
    content_pb2_grpc,
    device_pb2,
    device_pb2_grpc,
    enrollment_pb2,
    enrollment_pb2_grpc,
)
from server.domain import Step
from server.home import ServerHome
from server.identity.certificates import new_key
from server.limits.settings import Limits
from server.registry.identities import Identities
from server.serving import SERVICE_NAMES, serving
from tests import fleet
from tests.integration.served_home import home_with
from tests.integration.test_observability import channel, eventually, of_calls, served
from tests.unit.server.values import generation

TIMEOUT_S = 60
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
INVALID = grpc.StatusCode.INVALID_ARGUMENT
METHODS = ("DeviceService/CheckIn", "DeviceService/Report", "ContentService/ReadBlob")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = home_with(tmp_path / "srv", generations=1)
    yield made
    made.close()


def raw_call(opened: grpc.Channel, method: str, content: bytes) -> grpc.RpcError:
    """What a call with these bytes ends with."""
    kind = opened.unary_stream if "Read" in method else opened.unary_unary
    with pytest.raises(grpc.RpcError) as refused:
        answer = kind(f"/ota.v1.{method}")(content, timeout=TIMEOUT_S)
        list(answer)
    return refused.value


def test_what_is_malformed_or_too_large_has_a_stable_code_and_changes_nothing(
    home: ServerHome, tmp_path: Path
) -> None:
    device_id, credential = fleet.enrolled(home)
    seen_at = home.registry.device(device_id).seen_at
    with served(home.folder, tmp_path / "log", "--limit", "request-bytes=5000") as server:
        with channel(server.address, credential) as opened:
            for method in METHODS:
                error = raw_call(opened, method, b"\xff\xff\xff")
                assert error.code() == INVALID, method
                told = "expected a message of this method, found 3 bytes that are none"
                assert error.details() == told
            text = device_pb2.ReportRequest(attempt_id="xx").SerializeToString()
            not_utf8 = text.replace(b"xx", b"\xff\xfe")
            assert raw_call(opened, "DeviceService/Report", not_utf8).code() == INVALID
            error = raw_call(opened, "DeviceService/CheckIn", bytes(5001))
            assert error.code() == EXHAUSTED
            assert "5001 vs. 5000" in error.details()
            assert raw_call(opened, "ContentService/ReadBlob", bytes(50_000)).code() == EXHAUSTED
            held = device_pb2.CheckInRequest(held=[b"short"]).SerializeToString()
            error = raw_call(opened, "DeviceService/CheckIn", held)
            assert (error.code(), error.details()) == (
                INVALID,
                "held[0]: expected 32 bytes, found 5",
            )
            assert home.registry.device(device_id).seen_at == seen_at
            device_pb2_grpc.DeviceServiceStub(opened).CheckIn(
                device_pb2.CheckInRequest(), timeout=TIMEOUT_S
            )
        values = server.metrics()
        assert values[of_calls("/ota.v1.DeviceService/CheckIn", "UNREAD")] == 1
        assert values[of_calls("/ota.v1.DeviceService/CheckIn", "INVALID_ARGUMENT")] == 2
        assert "Traceback" not in server.log.read_text()


def test_a_device_that_calls_too_often_is_told_when_and_others_go_on(home: ServerHome) -> None:
    async def scenario() -> None:
        limits = Limits(calls_per_s=0.5, calls_at_once=5)
        async with serving(home, "127.0.0.1:0", grace_s=0, limits=limits) as server:
            (_, eager), (_, other) = fleet.enrolled(home), fleet.enrolled(home)
            async with (
                grpc.aio.secure_channel(str(server.address), eager.for_channel()) as opened,
                grpc.aio.secure_channel(str(server.address), other.for_channel()) as patient,
            ):
                refused = []
                for _ in range(9):
                    try:
                        await ask_to_check_in(opened)
                    except grpc.aio.AioRpcError as error:
                        refused.append(error)
                assert 1 <= len(refused) <= 4
                assert {error.code() for error in refused} == {EXHAUSTED}
                assert {dict(e.trailing_metadata())["retry-after-s"] for e in refused} <= {"1", "2"}
                await ask_to_check_in(patient)

    asyncio.run(scenario())


async def ask_to_check_in(opened: grpc.aio.Channel) -> None:
    stub = device_pb2_grpc.DeviceServiceStub(opened)
    await stub.CheckIn(device_pb2.CheckInRequest(), timeout=TIMEOUT_S)


def test_who_enrols_is_bounded_in_rate_and_in_requests_that_wait(home: ServerHome) -> None:
    async def ask(opened: grpc.aio.Channel) -> tuple[grpc.StatusCode, str]:
        request = enrollment_pb2.EnrollRequest(signing_request=fleet.request_for(new_key()))
        stub = enrollment_pb2_grpc.EnrollmentServiceStub(opened)
        try:
            await stub.Enroll(request, timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            return error.code(), dict(error.trailing_metadata()).get("retry-after-s", "")
        return grpc.StatusCode.OK, ""

    async def scenario() -> None:
        limits = Limits(enrolments_per_s=0.001, enrolments_at_once=4, pending_enrolments=2)
        credential = fleet.of_enrolment(home)
        async with (
            serving(home, "127.0.0.1:0", grace_s=0, limits=limits) as server,
            grpc.aio.secure_channel(str(server.address), credential.for_channel()) as opened,
        ):
            answers = [await ask(opened) for _ in range(5)]
            ok = (grpc.StatusCode.OK, "")
            assert answers[:4] == [ok, ok, (EXHAUSTED, "3600"), (EXHAUSTED, "3600")]
            code, after_s = answers[4]
            assert code == EXHAUSTED
            assert 900 <= int(after_s) <= 1000

    asyncio.run(scenario())
    assert len(Identities(home.registry).all()) == 2


def large_blob(home: ServerHome, length: int = 40_000_000) -> bytes:
    """More than the transport holds, so that the server must wait for its reader."""
    blob = home.artifacts.put(bytes(length))
    home.registry.add_step("digits", Step(None, 0, generation(0).digest, blob))
    return blob.sha256


def test_streams_are_bounded_by_caller_and_together_and_room_comes_back(home: ServerHome) -> None:
    request = content_pb2.ReadBlobRequest(sha256=large_blob(home))

    async def begin(opened: grpc.aio.Channel) -> grpc.aio.UnaryStreamCall:
        call = content_pb2_grpc.ContentServiceStub(opened).ReadBlob(request, timeout=TIMEOUT_S)
        await call.read()
        return call

    async def scenario() -> None:
        limits = Limits(caller_streams=2, streams=3)
        async with serving(home, "127.0.0.1:0", grace_s=0, limits=limits) as server:
            (_, one), (_, other) = fleet.enrolled(home), fleet.enrolled(home)
            async with (
                grpc.aio.secure_channel(str(server.address), one.for_channel()) as first,
                grpc.aio.secure_channel(str(server.address), other.for_channel()) as second,
            ):
                calls = [await begin(first), await begin(first)]
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await begin(first)
                assert refused.value.code() == EXHAUSTED
                assert "2 streams of one caller" in refused.value.details()
                calls.append(await begin(second))
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await begin(second)
                assert refused.value.details().startswith("too many streams at once")
                assert dict(refused.value.trailing_metadata())["retry-after-s"] == "10"
                for call in calls:
                    call.cancel()
                deadline = time.monotonic() + TIMEOUT_S
                while True:
                    try:
                        (await begin(first)).cancel()
                        break
                    except grpc.aio.AioRpcError:
                        assert time.monotonic() < deadline
                        await asyncio.sleep(0.1)

    asyncio.run(scenario())


def test_a_stream_that_nobody_reads_ends_and_the_next_one_resumes(
    home: ServerHome, tmp_path: Path
) -> None:
    sha256 = large_blob(home)
    _, credential = fleet.enrolled(home)
    with served(home.folder, tmp_path / "log", "--limit", "stall-s=1") as server:
        with channel(server.address, credential) as opened:
            stub = content_pb2_grpc.ContentServiceStub(opened)
            stream = stub.ReadBlob(content_pb2.ReadBlobRequest(sha256=sha256), timeout=TIMEOUT_S)
            received = len(next(stream).chunk)
            stalls = ("ota_refusals_total", "limit=stall-s")
            eventually(server.metrics, lambda found: found.get(stalls) == 1)
            with pytest.raises(grpc.RpcError) as cut:
                for answer in stream:
                    received += len(answer.chunk)
            assert cut.value.code() in (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.CANCELLED,  # where the reader came back too late to be told
            )
            rest = content_pb2.ReadBlobRequest(sha256=sha256, offset=received)
            received += sum(len(a.chunk) for a in stub.ReadBlob(rest, timeout=TIMEOUT_S))
            assert received == 40_000_000
        under_way = ("ota_calls_under_way", "method=/ota.v1.ContentService/ReadBlob")
        assert eventually(server.metrics, lambda found: found[under_way] == 0)
        assert "Traceback" not in server.log.read_text()


def test_who_pings_without_need_is_cut_off(home: ServerHome) -> None:
    options = [
        ("grpc.keepalive_time_ms", 200),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.ping_timeout_ms", 20_000),
    ]

    async def scenario() -> None:
        _, credential = fleet.enrolled(home)
        async with (
            serving(home, "127.0.0.1:0", grace_s=0, limits=Limits(least_ping_s=300)) as server,
            grpc.aio.secure_channel(
                str(server.address), credential.for_channel(), options
            ) as opened,
        ):
            stub = health_pb2_grpc.HealthStub(opened)
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
            await watch.read()
            with pytest.raises(grpc.aio.AioRpcError) as cut:
                while await watch.read() is not grpc.aio.EOF:
                    pass
            assert cut.value.code() == grpc.StatusCode.UNAVAILABLE
            assert "pings" in cut.value.details()

    asyncio.run(scenario())


def test_reflection_lists_every_service_and_describes_it_with_its_rules(home: ServerHome) -> None:
    async def scenario() -> tuple[set[str], bytes]:
        _, credential = fleet.enrolled(home)
        async with (
            serving(home, "127.0.0.1:0", grace_s=0) as server,
            grpc.aio.secure_channel(str(server.address), credential.for_channel()) as opened,
        ):
            call = reflection_pb2_grpc.ServerReflectionStub(opened).ServerReflectionInfo(
                iter(
                    [
                        reflection_pb2.ServerReflectionRequest(list_services=""),
                        reflection_pb2.ServerReflectionRequest(
                            file_containing_symbol="ota.v1.DeviceService"
                        ),
                    ]
                ),
                timeout=TIMEOUT_S,
            )
            listed, described = await call.read(), await call.read()
            files = described.file_descriptor_response.file_descriptor_proto
            names = {service.name for service in listed.list_services_response.service}
            return names, b"".join(files)

    names, described = asyncio.run(scenario())
    served_names = {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert names == {*SERVICE_NAMES, *served_names}
    assert b"buf/validate/validate.proto" in described


def test_health_knows_every_service_and_no_other(home: ServerHome) -> None:
    async def scenario() -> None:
        async with serving(home, "127.0.0.1:0", grace_s=0) as server:
            for credential in (fleet.enrolled(home)[1], fleet.of_enrolment(home)):
                async with grpc.aio.secure_channel(
                    str(server.address), credential.for_channel()
                ) as opened:
                    stub = health_pb2_grpc.HealthStub(opened)
                    for name in ("", *SERVICE_NAMES):
                        request = health_pb2.HealthCheckRequest(service=name)
                        answer = await stub.Check(request, timeout=TIMEOUT_S)
                        assert answer.status == health_pb2.HealthCheckResponse.SERVING
                    with pytest.raises(grpc.aio.AioRpcError) as unknown:
                        await stub.Check(health_pb2.HealthCheckRequest(service="no"), timeout=20)
                    assert unknown.value.code() == grpc.StatusCode.NOT_FOUND

    asyncio.run(scenario())


def test_a_fault_of_the_server_tells_the_caller_where_to_look_and_not_what(
    home: ServerHome, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("internals")

    monkeypatch.setattr("server.devices.check_in", broken)

    async def scenario() -> str:
        _, credential = fleet.enrolled(home)
        async with (
            serving(home, "127.0.0.1:0", grace_s=0) as server,
            grpc.aio.secure_channel(str(server.address), credential.for_channel()) as opened,
        ):
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await ask_to_check_in(opened)
            assert failed.value.code() == grpc.StatusCode.INTERNAL
            return failed.value.details()

    told = asyncio.run(scenario())
    assert "internals" not in told
    assert told.startswith("the server failed; its log says more of request ")
    assert "ZeroDivisionError: internals" in caplog.text

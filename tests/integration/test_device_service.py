"""The device service over real connections: check-ins and reports."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from diffcodec import Coder
from protos.ota.v1 import device_pb2, device_pb2_grpc, diff_pb2
from server.domain import AttemptState, Step
from server.home import ServerHome
from server.serving import serving
from tests import fleet
from tests.integration.served_home import CARD, GRAPH, add_generation, home_with
from tests.unit.server.values import digest, generation

TIMEOUT_S = 20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[ServerHome]:
    made = home_with(tmp_path / "srv", generations=3)
    yield made
    made.close()


class Client:
    """Calls with a deadline, each over the connection of the device that makes it."""

    def __init__(self, home: ServerHome, address: str, channels: AsyncExitStack) -> None:
        self._home = home
        self._address = address
        self._channels = channels
        self._stubs: dict[str, device_pb2_grpc.DeviceServiceStub] = {}

    async def enroll(self, model: str = "digits", name: str = "kitchen") -> str:
        device_id, credential = fleet.enrolled(self._home, model=model, name=name)
        channel = await self._channels.enter_async_context(
            grpc.aio.secure_channel(self._address, credential.for_channel())
        )
        self._stubs[device_id] = device_pb2_grpc.DeviceServiceStub(channel)
        return device_id

    async def check_in(
        self,
        device_id: str,
        installed: int | None = None,
        held: tuple[bytes, ...] = (),
        coders: tuple[int, ...] = (),
        **wrong: Any,
    ) -> device_pb2.CheckInResponse:
        request = device_pb2.CheckInRequest(device_id=device_id, held=held, coders=coders)
        if installed is not None:
            request.installed.number = installed
            request.installed.digest = wrong.get("digest", generation(installed).digest)
        stub = self._stubs[wrong.get("caller", device_id)]
        return await stub.CheckIn(request, timeout=TIMEOUT_S)

    async def report(self, *, caller: str = "", **fields: Any) -> None:
        stub = self._stubs[caller or fields["device_id"]]
        await stub.Report(device_pb2.ReportRequest(**fields), timeout=TIMEOUT_S)


def run(home: ServerHome, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def connected() -> None:
        async with (
            serving(home, "127.0.0.1:0", grace_s=0) as server,
            AsyncExitStack() as channels,
        ):
            await scenario(Client(home, str(server.address), channels))

    asyncio.run(connected())


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code(), error.value.details() or ""


def test_an_empty_device_is_sent_to_the_head_with_graph_and_card(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.check_in(await client.enroll())
        assert answer.head == 2
        assert (answer.plan.generation, answer.plan.digest) == (2, generation(2).digest)
        [step] = answer.plan.steps
        assert (step.generation, step.is_snapshot) == (2, True)
        assert home.artifacts.read(answer.plan.graph.sha256, 0, 99) == GRAPH
        assert home.artifacts.read(answer.plan.card.sha256, 0, 99) == CARD

    run(home, scenario)


def test_a_device_that_missed_two_generations_gets_the_chain(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        held = (generation_blob(home, "graph"), generation_blob(home, "card"))
        answer = await client.check_in(await client.enroll(), installed=0, held=held)
        steps = [(s.generation, s.is_snapshot, s.diff.length) for s in answer.plan.steps]
        assert steps == [(1, False, 40), (2, False, 40)]
        assert answer.plan.steps[0].target_digest == generation(1).digest
        assert not answer.plan.HasField("graph")
        assert not answer.plan.HasField("card")

    run(home, scenario)


def generation_blob(home: ServerHome, kind: str) -> bytes:
    return getattr(home.registry.generation("digits", 0), kind).sha256


def test_a_device_at_the_head_has_nothing_to_do(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.check_in(await client.enroll(), installed=2)
        assert answer.head == 2
        assert not answer.HasField("plan")

    run(home, scenario)


FAST, MAX, OF_A_NEWER_PROTOCOL = diff_pb2.CODER_FAST, diff_pb2.CODER_MAX, 99


@pytest.mark.parametrize(
    ("coders", "takes_max"),
    [
        ((), False),
        ((FAST,), False),
        ((OF_A_NEWER_PROTOCOL, 0), False),
        ((FAST, MAX), True),
        ((MAX,), True),
        ((OF_A_NEWER_PROTOCOL, MAX), True),
    ],
    ids=str,
)
def test_a_device_is_sent_the_smallest_files_of_those_that_it_says_it_decodes(
    home: ServerHome, coders: tuple[int, ...], takes_max: bool
) -> None:
    by_max = home.artifacts.put(b"smaller")
    home.registry.add_step(
        "digits", Step(1, 2, generation(2).digest, by_max, frozenset({Coder.MAX}))
    )

    async def scenario(client: Client) -> None:
        answer = await client.check_in(await client.enroll(), installed=1, coders=coders)
        [step] = answer.plan.steps
        assert (step.diff.sha256 == by_max.sha256) == takes_max

    run(home, scenario)


def test_a_generation_published_while_serving_is_planned_at_the_next_check_in(
    home: ServerHome,
) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        assert not (await client.check_in(device, installed=2)).HasField("plan")
        add_generation(home, 3)
        assert (await client.check_in(device, installed=2)).plan.generation == 3

    run(home, scenario)


def test_a_committed_attempt_is_final_and_moves_the_device(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        attempt = (await client.check_in(device, installed=1)).plan.attempt_id
        for sequence, outcome in enumerate(
            (
                device_pb2.OUTCOME_STARTED,
                device_pb2.OUTCOME_COMMITTED,
                device_pb2.OUTCOME_FAILED,
                device_pb2.OUTCOME_STARTED,
            )
        ):
            for _ in range(2):  # a repeated report has no effect
                await client.report(
                    device_id=device,
                    attempt_id=attempt,
                    sequence=sequence,
                    outcome=outcome,
                    bytes_sent=100,
                    bytes_received=2**40,
                    apply_ms=7,
                )
        assert home.registry.attempt(attempt).state is AttemptState.COMMITTED
        assert home.registry.device(device).installed == 2

    run(home, scenario)


def test_checking_in_again_supersedes_the_open_attempt(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        first = (await client.check_in(device, installed=1)).plan.attempt_id
        second = (await client.check_in(device, installed=1)).plan.attempt_id
        assert first != second
        assert home.registry.attempt(first).state is AttemptState.SUPERSEDED
        assert home.registry.attempt(second).state is AttemptState.PLANNED

    run(home, scenario)


def test_many_devices_at_once_each_get_their_own_plan(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        devices = await asyncio.gather(*(client.enroll(name=str(n)) for n in range(40)))
        answers = await asyncio.gather(*(client.check_in(d, installed=1) for d in devices))
        assert len({answer.plan.attempt_id for answer in answers}) == 40

    run(home, scenario)
    assert home.registry.device_counts("digits") == {1: 40}


def test_what_the_server_does_not_know_is_not_found(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        code, details = await refused(
            client.report(device_id=device, attempt_id="never", outcome=device_pb2.OUTCOME_FAILED)
        )
        assert (code, "'never'" in details) == (grpc.StatusCode.NOT_FOUND, True)

    run(home, scenario)


def test_a_request_that_names_another_device_is_refused(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device, other = await client.enroll(), await client.enroll()
        code, details = await refused(client.check_in(other, caller=device))
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert device in details
        assert other in details
        assert (await client.check_in("", installed=1, caller=device)).plan.generation == 2

    run(home, scenario)


def test_a_replayed_report_has_no_effect_whoever_sends_it(home: ServerHome) -> None:
    """A10. Repeated by the device itself, and by another one under its own certificate."""

    async def scenario(client: Client) -> None:
        device, thief = await client.enroll(), await client.enroll()
        attempt = (await client.check_in(device, installed=1)).plan.attempt_id
        failed = {"attempt_id": attempt, "sequence": 2, "outcome": device_pb2.OUTCOME_FAILED}
        code, details = await refused(client.report(caller=thief, **failed))
        assert (code, attempt in details) == (grpc.StatusCode.NOT_FOUND, True)
        code, _ = await refused(client.report(caller=thief, device_id=device, **failed))
        assert code == grpc.StatusCode.PERMISSION_DENIED
        assert home.registry.attempt(attempt).state is AttemptState.PLANNED
        started = {"attempt_id": attempt, "sequence": 1, "outcome": device_pb2.OUTCOME_STARTED}
        committed = {**failed, "outcome": device_pb2.OUTCOME_COMMITTED}
        for report in (started, committed, started, failed, committed):
            await client.report(caller=device, **report)
        assert home.registry.attempt(attempt).state is AttemptState.COMMITTED
        assert home.registry.device(device).installed == 2

    run(home, scenario)


def test_a_device_that_runs_something_else_is_told_both_digests(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        other = digest("something else")
        code, details = await refused(client.check_in(device, installed=1, digest=other))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert other.hex() in details
        assert generation(1).digest.hex() in details
        code, details = await refused(client.check_in(device, installed=9))
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert "generation 9" in details
        assert home.registry.device(device).installed is None

    run(home, scenario)


def test_malformed_requests_are_invalid_and_name_the_field(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        attempt = (await client.check_in(device, installed=1)).plan.attempt_id
        good = {
            "device_id": device,
            "attempt_id": attempt,
            "outcome": device_pb2.OUTCOME_COMMITTED,
        }
        calls = {
            "installed.digest": client.check_in(device, installed=1, digest=b"short"),
            "held": client.check_in(device, held=(b"short",)),
            "held: expected at most": client.check_in(device, held=(bytes(32),) * 65),
            "outcome": client.report(**{**good, "outcome": device_pb2.OUTCOME_UNSPECIFIED}),
            "code": client.report(**good, code="X" * 65),
            "bytes_sent": client.report(**good, bytes_sent=2**63),
        }
        for field, call in calls.items():
            code, details = await refused(call)
            assert code == grpc.StatusCode.INVALID_ARGUMENT, field
            assert details.startswith(field)
        assert home.registry.attempt(attempt).state is AttemptState.PLANNED

    run(home, scenario)


def test_an_outcome_of_a_newer_protocol_is_heard_and_passed_over(home: ServerHome) -> None:
    async def scenario(client: Client) -> None:
        device = await client.enroll()
        attempt = (await client.check_in(device, installed=1)).plan.attempt_id
        await client.report(device_id=device, attempt_id=attempt, outcome=99)
        assert home.registry.attempt(attempt).state is AttemptState.PLANNED

    run(home, scenario)

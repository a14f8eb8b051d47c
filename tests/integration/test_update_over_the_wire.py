"""Published weights, fetched and applied over a real connection, as a device would do it."""

import asyncio
from pathlib import Path

import grpc
import pytest

from diffcodec import ParameterSet, apply, decode, fit_sparse
from protos.ota.v1 import content_pb2, content_pb2_grpc, device_pb2, device_pb2_grpc
from server.home import ServerHome
from server.publishing import publish, weights_of
from tests.integration.served_home import channel_to
from tests.unit.server.models import CARD, snapshot, weights

TIMEOUT_S = 20
HEAD = 3


@pytest.fixture
def home(tmp_path: Path):
    """A snapshot and three budgeted diffs."""
    made = ServerHome.create(tmp_path / "srv")
    publish(made, "digits", snapshot(weights(0)), graph=b"graph", card=CARD)
    for number in range(HEAD):
        base = weights_of(made, "digits", number)
        publish(made, "digits", fit_sparse(base, weights(number + 1), 2_000))
    yield made
    made.close()


async def update(
    channel: grpc.aio.Channel, number: int | None, base: ParameterSet | None
) -> tuple[ParameterSet | None, list[int]]:
    """Check in, fetch and apply every step: the weights afterwards, the bytes of each step."""
    devices = device_pb2_grpc.DeviceServiceStub(channel)
    content = content_pb2_grpc.ContentServiceStub(channel)
    request = device_pb2.CheckInRequest()
    if number is not None and base is not None:
        request.installed.number, request.installed.digest = number, base.digest()
    plan = (await devices.CheckIn(request, timeout=TIMEOUT_S)).plan
    for step in plan.steps:
        wanted = content_pb2.ReadBlobRequest(sha256=step.diff.sha256)
        answers = content.ReadBlob(wanted, timeout=TIMEOUT_S)
        data = b"".join([answer.chunk async for answer in answers])
        base = apply(base, decode(data, base.layout if base is not None else None))
        assert base.digest() == step.target_digest
    return base, [step.diff.length for step in plan.steps]


@pytest.mark.parametrize("start", [None, 0, 1, 2, 3])
def test_from_every_generation_a_device_reaches_the_head_bit_for_bit(
    home: ServerHome, start: int | None
) -> None:
    async def scenario() -> None:
        base = weights_of(home, "digits", start) if start is not None else None
        async with channel_to(home) as channel:
            reached, lengths = await update(channel, start, base)
        assert reached == weights_of(home, "digits", HEAD)
        if start is not None:
            assert len(lengths) == HEAD - start
            assert all(length <= 2_000 for length in lengths)

    asyncio.run(scenario())

"""A server home with made-up blobs, and a real server and channel around it.

The bytes are no diffs: the service only names, counts and streams them.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc

from server.domain import Generation, Step
from server.home import ServerHome
from server.serving import serving
from tests import fleet
from tests.unit.server.values import generation

GRAPH, CARD = b"a graph", b'{"kind": "spoken-command"}'


def home_with(folder: Path, generations: int, diff_bytes: int = 40) -> ServerHome:
    """A home with one model, `digits`: each generation has a diff and a snapshot."""
    home = ServerHome.create(folder)
    for number in range(generations):
        add_generation(home, number, diff_bytes)
    return home


def add_generation(home: ServerHome, number: int, diff_bytes: int = 40) -> Generation:
    snapshot = home.artifacts.put(f"snapshot {number} ".encode() * 100)
    made = replace(
        generation(number),
        snapshot=snapshot,
        graph=home.artifacts.put(GRAPH),
        card=home.artifacts.put(CARD),
    )
    steps = [Step(None, number, made.digest, snapshot)]
    if number:
        diff = home.artifacts.put(f"{number:0{diff_bytes}d}".encode())
        steps.append(Step(number - 1, number, made.digest, diff))
    home.registry.add_generation(made, steps)
    return made


@asynccontextmanager
async def channel_to(home: ServerHome) -> AsyncIterator[grpc.aio.Channel]:
    """A device's connection to a server of its own."""
    _, credential = fleet.enrolled(home)
    async with (
        serving(home, "127.0.0.1:0", grace_s=0) as server,
        grpc.aio.secure_channel(str(server.address), credential.for_channel()) as channel,
    ):
        yield channel

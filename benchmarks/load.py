"""Many devices at once: `ota-server serve` beside a bare grpc.aio server.

Measured: a round in which every device connects, checks in and downloads the diff that it is told
to, as many at a time as IN_FLIGHT says; from the first connection to the last byte, over
loopback. Every device has a key and a certificate of its own, and every connection makes a whole
TLS handshake, to either server. The client is this process: it holds all devices, decodes what
comes and counts it. After each round no attempt is reported, so that all devices are offered the
same again; the server ends what they left.

`peak MB` is the resident memory of the server's process after the round, `at start` after the
warm-up: a server that keeps something of every device grows.

Not measured: a real network, metadata, and what a device does with what it got. Client and server
share the machine's cores.
"""

import asyncio
import hashlib
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np

from benchmarks.bare_service import serving_bare
from benchmarks.rebuild import memory_bytes
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.results import Case, Sample
from diffcodec.bench.timing import Contender, OnProgress, timed, with_turns
from protos.ota.v1 import content_pb2, content_pb2_grpc, device_pb2, device_pb2_grpc
from server.domain import Blob, Generation, Step
from server.home import ServerHome
from server.identity.authority import Authority
from server.identity.certificates import Pair, key_sha256, new_key
from server.identity.keys import Policy
from server.registry.identities import Identities
from simulator.programs import ServerProcess, serving

MODEL = "benchmark"
DIFF_BYTES = 111_360
"""A fortieth of the paper's model of 1,113,600 float32 weights."""
IN_FLIGHT = 64
TIMEOUT_S = 120.0
CHANNEL_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # Devices share no connections.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class Fleet:
    """Devices that run generation 0, and what they are offered."""

    devices: tuple[grpc.ChannelCredentials, ...]
    installed: bytes
    diff: Blob


def compare(
    devices: int, seed: int, runs: int, on_progress: OnProgress = lambda text: None
) -> tuple[Case, ...]:
    """One case: our server and the bare one.

    Raises:
        BenchmarkError: a call failed or brought other bytes.
        ProgramError: `ota-server serve` did not start.
    """
    with TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        content = np.random.default_rng(seed).bytes(DIFF_BYTES)
        on_progress(f"enrolling {devices:,} devices")
        fleet = _make_fleet(folder / "home", content, devices)
        (folder / "blob").write_bytes(content)
        ours = servers.enter_context(serving(folder / "home", folder / "log"))
        bare = servers.enter_context(serving_bare(folder / "blob", folder / "home"))
        rows = with_turns(
            [
                Contender("ota-server", lambda: _round(ours, fleet)),
                Contender("bare grpc.aio", lambda: _round(bare, fleet)),
            ],
            runs,
            on_progress,
        )
    work = f"{devices:,} devices connect, check in and download {DIFF_BYTES:,} bytes each"
    return (Case(work, devices * DIFF_BYTES, rows),)


def _make_fleet(folder: Path, content: bytes, devices: int) -> Fleet:
    home = ServerHome.create(folder, enrolment=Policy.OPEN)
    try:
        snapshot, diff = home.artifacts.put(content[::-1]), home.artifacts.put(content)
        older, newer = (hashlib.sha256(bytes([number])).digest() for number in range(2))
        home.registry.add_generation(
            _generation(0, older, snapshot), [Step(None, 0, older, snapshot)]
        )
        home.registry.add_generation(_generation(1, newer, snapshot), [Step(0, 1, newer, diff)])
        authority = home.authority()
        shown = tuple(_enrolled(home, authority, f"device-{n}") for n in range(devices))
        return Fleet(shown, older, diff)
    finally:
        home.close()


def _generation(number: int, digest: bytes, snapshot: Blob) -> Generation:
    parent = number - 1 if number else None
    now = datetime.now(UTC)
    return Generation(MODEL, number, parent, digest, digest, snapshot, None, None, now)


def _enrolled(home: ServerHome, authority: Authority, device_id: str) -> grpc.ChannelCredentials:
    key = new_key()
    now = datetime.now(UTC)
    Identities(home.registry).request(key_sha256(key.public_key()), device_id, MODEL, "", now)
    pair = Pair(authority.sign_device(device_id, key.public_key(), now), key)
    return grpc.ssl_channel_credentials(
        authority.devices.certificate_pem(), pair.key_pem(), pair.certificate_pem()
    )


def _round(server: ServerProcess, fleet: Fleet) -> Sample:
    before = memory_bytes("VmRSS", server.pid)
    try:
        _, seconds = timed(lambda: asyncio.run(_all(server.address, fleet)))
    except* grpc.RpcError as errors:
        raise BenchmarkError(f"a call failed: {errors.exceptions[0]}") from errors
    return Sample(seconds, peak_bytes=memory_bytes("VmRSS", server.pid), start_bytes=before)


async def _all(address: str, fleet: Fleet) -> None:
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(device: grpc.ChannelCredentials) -> None:
        async with free:
            await _cycle(address, device, fleet)

    async with asyncio.TaskGroup() as group:
        for device in fleet.devices:
            group.create_task(one(device))


async def _cycle(address: str, device: grpc.ChannelCredentials, fleet: Fleet) -> None:
    """Connect, check in, download."""
    request = device_pb2.CheckInRequest()
    request.installed.number, request.installed.digest = 0, fleet.installed
    async with grpc.aio.secure_channel(address, device, options=CHANNEL_OPTIONS) as channel:
        answer = await device_pb2_grpc.DeviceServiceStub(channel).CheckIn(
            request, timeout=TIMEOUT_S
        )
        (step,) = answer.plan.steps
        asked = content_pb2.ReadBlobRequest(sha256=step.diff.sha256)
        stream = content_pb2_grpc.ContentServiceStub(channel).ReadBlob(asked, timeout=TIMEOUT_S)
        got = b"".join([answer.chunk async for answer in stream])
    if hashlib.sha256(got).digest() != fleet.diff.sha256:
        raise BenchmarkError(f"{address}: expected the diff, found other bytes")

"""Streaming a blob: `ota-server serve` beside a bare grpc.aio server, and the client's relay.

Measured: a call of ReadBlob by the generated stub, from the call to the last chunk, over
loopback. Servers are processes of their own; the client is this one, its connection made before
the clock starts. The blob is random bytes, in the server's page cache; its SHA-256 is checked after
every run, outside the clock. `through the relay` puts the meter of edge_client between, as
every device does, and counts what passes: `bytes` are all TCP payload of the connection, both
directions, HTTP/2 framing and the handshake of TLS included. Both servers have the same
certificate and ask the client for its own.

Not measured: a real network, many devices at once, the client's writing and hashing. Client
and server share the machine's cores.
"""

import hashlib
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np

from benchmarks.bare_service import serving_bare
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.results import Case, Sample
from diffcodec.bench.timing import Contender, OnProgress, timed, with_turns
from edge_client import EdgeHome, Wanted, enroll
from edge_client.address import ServerAddress
from edge_client.identity import Credential
from edge_client.meter import Meter
from protos.ota.v1 import content_pb2, content_pb2_grpc
from server.domain import Blob, Generation, Step
from server.home import ServerHome
from server.identity.authority import CREDENTIAL_NAME
from server.identity.keys import Policy
from server.service import CHUNK_BYTES
from simulator.programs import serving

TIMEOUT_S = 120.0
# A proxy from the environment must not come between.
CHANNEL_OPTIONS = (("grpc.enable_http_proxy", 0),)


def compare(
    blob_bytes: int, seed: int, runs: int, on_progress: OnProgress = lambda text: None
) -> tuple[Case, ...]:
    """One case: our server and the bare one, each directly and through the relay.

    Raises:
        BenchmarkError: a stream broke or brought other bytes.
        ProgramError: `ota-server serve` did not start.
    """
    content = np.random.default_rng(seed).bytes(blob_bytes)
    blob = Blob(hashlib.sha256(content).digest(), len(content))
    with TemporaryDirectory() as name, ExitStack() as servers:
        folder = Path(name)
        on_progress("starting the servers")
        _make_home(folder / "home", content)
        ours = servers.enter_context(serving(folder / "home", folder / "log")).address
        (folder / "blob").write_bytes(content)
        bare = servers.enter_context(serving_bare(folder / "blob", folder / "home")).address
        device = _enrolled(folder, ours)
        contenders = [
            Contender("ota-server", lambda: _direct(ours, device, blob)),
            Contender("bare grpc.aio", lambda: _direct(bare, device, blob)),
            Contender("ota-server through the relay", lambda: _relayed(ours, device, blob)),
            Contender("bare through the relay", lambda: _relayed(bare, device, blob)),
        ]
        rows = with_turns(contenders, runs, on_progress)
    return (Case(f"a blob in chunks of {CHUNK_BYTES // 1024} KiB", blob_bytes, rows),)


def _make_home(folder: Path, content: bytes) -> None:
    """A home whose only generation names the blob; that it is no diff matters to nobody here."""
    home = ServerHome.create(folder, enrolment=Policy.OPEN)
    try:
        blob = home.artifacts.put(content)
        generation = Generation(
            model="benchmark",
            number=0,
            parent=None,
            layout_fingerprint=blob.sha256,
            digest=blob.sha256,
            snapshot=blob,
            graph=None,
            card=None,
            published_at=datetime.now(UTC),
        )
        home.registry.add_generation(generation, [Step(None, 0, blob.sha256, blob)])
    finally:
        home.close()


def _enrolled(folder: Path, address: str) -> grpc.ChannelCredentials:
    """What a new device of the home shows, to either server."""
    fleet = Credential.from_pem((folder / "home" / CREDENTIAL_NAME).read_bytes())
    device = EdgeHome(folder / "device")
    enroll(device, ServerAddress.parse(address), Wanted(), fleet)
    own = device.identity.credential()
    return grpc.ssl_channel_credentials(own.authority, own.key, own.certificate)


def _direct(address: str, device: grpc.ChannelCredentials, blob: Blob) -> Sample:
    return Sample(_read_blob_s(address, device, blob))


def _relayed(address: str, device: grpc.ChannelCredentials, blob: Blob) -> Sample:
    with Meter(ServerAddress.parse(address)) as meter:
        seconds = _read_blob_s(meter.address, device, blob)
    traffic = meter.traffic
    return Sample(seconds, size_bytes=traffic.sent_bytes + traffic.received_bytes)


def _read_blob_s(address: str, device: grpc.ChannelCredentials, blob: Blob) -> float:
    """Seconds from the call to the last chunk."""
    request = content_pb2.ReadBlobRequest(sha256=blob.sha256)
    try:
        with grpc.secure_channel(address, device, options=CHANNEL_OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(TIMEOUT_S)
            stub = content_pb2_grpc.ContentServiceStub(channel)
            chunks, seconds = timed(
                lambda: [answer.chunk for answer in stub.ReadBlob(request, timeout=TIMEOUT_S)]
            )
    except (grpc.RpcError, grpc.FutureTimeoutError) as error:
        raise BenchmarkError(f"the stream from {address} broke: {error}") from error
    if hashlib.sha256(b"".join(chunks)).digest() != blob.sha256:
        raise BenchmarkError(f"{address}: expected the blob, found other bytes")
    return seconds

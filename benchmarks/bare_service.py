"""The peer of `ota-server serve`: a grpc.aio server that answers from memory.

No registry, no disk, no checks, no other services: what gRPC, TLS and Python cost on their own. It
answers the same methods with messages of the same size, whoever asks for whatever; they are made,
cut and serialised before the first call (serialising on the way, from 64 MiB that no cache holds,
is slower than reading a MiB at a time).

    python -m benchmarks.bare_service FILE HOME     # prints: listening on 127.0.0.1:PORT
"""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from diffcodec.bench.errors import BenchmarkError
from protos.ota.v1 import content_pb2, device_pb2
from server.domain import DIGEST_BYTES
from server.identity.authority import Authority
from server.identity.credentials import server_credentials
from server.service import CHUNK_BYTES
from simulator.programs import ServerProcess

ROOT = Path(__file__).parents[1]
CONTENT = content_pb2.DESCRIPTOR.services_by_name["ContentService"].full_name
DEVICE = device_pb2.DESCRIPTOR.services_by_name["DeviceService"].full_name

Context = grpc.aio.ServicerContext[Any, Any]


@contextmanager
def serving_bare(file: Path, home: Path) -> Iterator[ServerProcess]:
    """Run this module for as long as the block runs.

    Args:
        file: The blob that it streams.
        home: A server home, for its certificates.

    Raises:
        BenchmarkError: it did not start.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bare_service", str(file), str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout is not None else ""
        _, is_announced, address = line.strip().partition("listening on ")
        if not is_announced:
            raise BenchmarkError(f"the bare server: expected an address, found {line!r}")
        yield ServerProcess(process.pid, address)
    finally:
        process.terminate()
        process.communicate()


async def serve(content: bytes, home: Path) -> None:
    """Serve until the process is ended, with the certificates of a server's home."""
    chunks, answer = _chunks(content), _answer(content)

    async def read_blob(request: bytes, context: Context) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def check_in(request: bytes, context: Context) -> bytes:
        return answer

    # Without a serialiser, requests and answers are bytes.
    stream: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(read_blob)
    single: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(check_in)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(CONTENT, {"ReadBlob": stream}),
            grpc.method_handlers_generic_handler(DEVICE, {"CheckIn": single}),
        )
    )
    port = server.add_secure_port("127.0.0.1:0", server_credentials(Authority.open(home)))
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def _chunks(content: bytes) -> list[bytes]:
    starts = range(0, len(content), CHUNK_BYTES)
    chunks = (content[start : start + CHUNK_BYTES] for start in starts)
    return [content_pb2.ReadBlobResponse(chunk=chunk).SerializeToString() for chunk in chunks]


def _answer(content: bytes) -> bytes:
    """A plan of one diff; its digests are names of nothing."""
    blob = content_pb2.Blob(sha256=hashlib.sha256(content).digest(), length=len(content))
    nothing = bytes(DIGEST_BYTES)
    step = device_pb2.Step(generation=1, diff=blob, target_digest=nothing)
    plan = device_pb2.Plan(attempt_id="0" * 32, generation=1, digest=nothing, steps=[step])
    answer = device_pb2.CheckInResponse(head=1, plan=plan, check_in_after_s=3600)
    return answer.SerializeToString()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])))

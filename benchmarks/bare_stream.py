"""The peer of `ota-server serve`: a grpc.aio server that streams one file from memory.

No registry, no disk, no checks, no other services: what gRPC, TLS and Python cost on their own. It
answers the same method with chunks of the same size, cut and serialised before the first call;
serialising on the way, from 64 MiB that no cache holds, is slower than reading a MiB at a time.

    python -m benchmarks.bare_stream FILE HOME     # prints: listening on 127.0.0.1:PORT
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from protos.ota.v1 import content_pb2
from server.identity.authority import Authority
from server.identity.credentials import server_credentials
from server.service import CHUNK_BYTES

SERVICE = content_pb2.DESCRIPTOR.services_by_name["ContentService"].full_name


async def serve(content: bytes, home: Path) -> None:
    """Serve until the process is ended, with the certificates of a server's home."""
    messages = _messages(content)

    async def read_blob(
        request: bytes, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bytes]:
        """Stream the same to whoever asks for whatever."""
        for message in messages:
            yield message

    # Without a serialiser, requests and answers are bytes.
    method: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_stream_rpc_method_handler(read_blob)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"ReadBlob": method}),)
    )
    port = server.add_secure_port("127.0.0.1:0", server_credentials(Authority.open(home)))
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def _messages(content: bytes) -> list[bytes]:
    starts = range(0, len(content), CHUNK_BYTES)
    chunks = (content[start : start + CHUNK_BYTES] for start in starts)
    return [content_pb2.ReadBlobResponse(chunk=chunk).SerializeToString() for chunk in chunks]


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])))

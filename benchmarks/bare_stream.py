"""The peer of `ota-server serve`: a grpc.aio server that streams one file from memory.

No registry, no disk, no checks, no other services: what gRPC and Python cost on their own. It
speaks the same method with chunks of the same size, cut before the first call.

    python -m benchmarks.bare_stream FILE          # prints: listening on 127.0.0.1:PORT
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from protos.ota.v1 import content_pb2, content_pb2_grpc
from server.service import CHUNK_BYTES


class BareContent(content_pb2_grpc.ContentServiceServicer):
    """Streams the same chunks to whoever asks for whatever."""

    def __init__(self, content: bytes) -> None:
        starts = range(0, len(content), CHUNK_BYTES)
        self._chunks = [content[start : start + CHUNK_BYTES] for start in starts]

    async def ReadBlob(  # noqa: N802 - the name of the rpc
        self,
        request: content_pb2.ReadBlobRequest,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[content_pb2.ReadBlobResponse]:
        """Stream the file."""
        for chunk in self._chunks:
            yield content_pb2.ReadBlobResponse(chunk=chunk)


async def serve(content: bytes) -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    content_pb2_grpc.add_ContentServiceServicer_to_server(BareContent(content), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes()))

"""What a server can do wrong, for a FakeServer to do it (server.lie.stream = endless)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc

from protos.ota.v1 import device_pb2, manifest_pb2

CHUNK_BYTES = 512
"""Small, so that a small diff takes several messages."""

ChangePlan = Callable[[device_pb2.Plan], None]
ChangeAnswer = Callable[[device_pb2.CheckInResponse], None]
ChangeStream = Callable[[bytes, Iterator[bytes]], Iterator[bytes]]
"""Takes the blob's SHA-256 and the honest chunks. Raising CutError breaks the stream off."""
ChangeMetadata = Callable[[str, int, bytes | None], bytes | None]
"""Takes role, version and the honest file; None is NOT_FOUND."""
ChangeManifest = Callable[[manifest_pb2.Manifest], None]
"""Changes what the publisher signs."""


class CutError(Exception):
    """The connection is lost here."""


@dataclass
class Lie:
    """What the server does wrong; nothing by default.

    `withdrawn_from` is the sequence from which on reports are answered that nobody wants it any
    more.
    """

    plan: ChangePlan = lambda plan: None
    answer: ChangeAnswer = lambda answer: None
    stream: ChangeStream = lambda sha256, chunks: chunks
    withdrawn_from: int | None = None
    failing_calls: int = 0
    status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    details: str = "told to fail"
    metadata: ChangeMetadata = lambda role, version, content: content
    manifest: ChangeManifest = lambda manifest: None


def endless(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """More and more data."""
    yield from chunks
    while True:
        yield b"x" * CHUNK_BYTES


def one_wrong_byte(sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The last byte of the first chunk is another one."""
    first = next(chunks)
    yield first[:-1] + bytes([first[-1] ^ 1])
    yield from chunks


@dataclass
class CutAfter:
    """Break off every stream after some chunks, as many streams as there are numbers."""

    chunks_of_streams: list[int]

    def __call__(self, sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        if not self.chunks_of_streams:
            yield from chunks
            return
        left = self.chunks_of_streams.pop(0)
        for chunk in chunks:
            if left == 0:
                raise CutError
            left -= 1
            yield chunk


@dataclass
class EndAfter:
    """Like CutAfter, but the stream ends as if it were complete."""

    chunks_of_streams: list[int]

    def __call__(self, sha256: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from CutAfter(self.chunks_of_streams)(sha256, chunks)
        except CutError:
            return

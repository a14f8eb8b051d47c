"""Blobs over a real connection: ranges, resumption, what cannot be read."""

import asyncio
from pathlib import Path

import grpc
import pytest

from protos.ota.v1 import content_pb2, content_pb2_grpc
from server.domain import Blob, Step
from server.home import ServerHome
from tests.integration.served_home import channel_to, home_with
from tests.unit.server.values import generation

CONTENT = bytes(range(256)) * 12_000  # about 3 MB, in three reads and twelve chunks


@pytest.fixture
def home(tmp_path: Path):
    made = home_with(tmp_path / "srv", generations=1)
    yield made
    made.close()


@pytest.fixture
def blob(home: ServerHome) -> Blob:
    stored = home.artifacts.put(CONTENT)
    home.registry.add_step("digits", Step(None, 0, generation(0).digest, stored))
    return stored


def read(home: ServerHome, sha256: bytes, offset: int = 0, length: int = 0) -> list[bytes]:
    async def call() -> list[bytes]:
        async with channel_to(home) as channel:
            stub = content_pb2_grpc.ContentServiceStub(channel)
            request = content_pb2.ReadBlobRequest(sha256=sha256, offset=offset, length=length)
            return [answer.chunk async for answer in stub.ReadBlob(request, timeout=20)]

    return asyncio.run(call())


def code_of_refusal(home: ServerHome, sha256: bytes, offset: int = 0) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        read(home, sha256, offset)
    return error.value.code()


def test_a_blob_arrives_whole_in_chunks_of_64_to_256_kib(home: ServerHome, blob: Blob) -> None:
    chunks = read(home, blob.sha256)
    assert b"".join(chunks) == CONTENT
    assert all(64 * 1024 <= len(chunk) <= 256 * 1024 for chunk in chunks[:-1])


@pytest.mark.parametrize("offset", [1, 262_143, 262_144, 1_048_577, len(CONTENT) - 1])
def test_a_download_resumes_at_any_offset(home: ServerHome, blob: Blob, offset: int) -> None:
    assert b"".join(read(home, blob.sha256, offset)) == CONTENT[offset:]


def test_a_range_has_the_length_that_was_asked_for(home: ServerHome, blob: Blob) -> None:
    assert b"".join(read(home, blob.sha256, 1000, 300_000)) == CONTENT[1000:301_000]


def test_a_range_ends_with_the_blob(home: ServerHome, blob: Blob) -> None:
    assert b"".join(read(home, blob.sha256, len(CONTENT) - 5, 2**60)) == CONTENT[-5:]


def test_resuming_a_complete_download_gives_nothing(home: ServerHome, blob: Blob) -> None:
    assert read(home, blob.sha256, len(CONTENT)) == []


@pytest.mark.parametrize("offset", [len(CONTENT) + 1, 2**64 - 1])
def test_an_offset_beyond_the_end_is_out_of_range(
    home: ServerHome, blob: Blob, offset: int
) -> None:
    assert code_of_refusal(home, blob.sha256, offset) == grpc.StatusCode.OUT_OF_RANGE


def test_a_blob_that_nothing_names_is_not_found_even_if_it_is_stored(home: ServerHome) -> None:
    assert code_of_refusal(home, bytes(32)) == grpc.StatusCode.NOT_FOUND
    private = home.artifacts.put(b"not published")
    assert code_of_refusal(home, private.sha256) == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("sha256", [b"", b"../../../etc/passwd", bytes(31), bytes(33)])
def test_a_name_that_is_no_sha256_is_invalid(home: ServerHome, sha256: bytes) -> None:
    assert code_of_refusal(home, sha256) == grpc.StatusCode.INVALID_ARGUMENT


def test_a_blob_that_disk_has_lost_or_cut_is_data_loss(home: ServerHome, blob: Blob) -> None:
    name = blob.sha256.hex()
    path = home.folder / "artifacts" / name[:2] / name[2:]
    path.write_bytes(CONTENT[:-1])
    assert code_of_refusal(home, blob.sha256) == grpc.StatusCode.DATA_LOSS
    path.unlink()
    assert code_of_refusal(home, blob.sha256) == grpc.StatusCode.DATA_LOSS


def test_a_reader_that_goes_away_does_not_disturb_the_server(home: ServerHome, blob: Blob) -> None:
    async def scenario() -> None:
        async with channel_to(home) as channel:
            stub = content_pb2_grpc.ContentServiceStub(channel)
            request = content_pb2.ReadBlobRequest(sha256=blob.sha256)
            leaving = stub.ReadBlob(request, timeout=20)
            await leaving.read()
            leaving.cancel()
            chunks = [answer.chunk async for answer in stub.ReadBlob(request, timeout=20)]
            assert b"".join(chunks) == CONTENT

    asyncio.run(scenario())

"""Downloads from sources that break off, lie, or have nothing to say."""

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client import download
from edge_client.errors import BlobError, DiskFullError, ServerUnavailableError
from edge_client.offer import Blob
from edge_client.retry import Retry

CONTENT = bytes(range(256)) * 40


class Source:
    """Serves CONTENT in chunks of 100 bytes; a stream breaks after as many bytes as `cuts` says."""

    def __init__(self, *cuts: int, content: bytes = CONTENT) -> None:
        self.cuts = list(cuts)
        self.content = content
        self.offsets: list[int] = []
        self.sent_bytes = 0

    def read_blob(self, blob: Blob, offset: int) -> Iterator[bytes]:
        self.offsets.append(offset)
        end = offset + self.cuts.pop(0) if self.cuts else None
        for at in range(offset, len(self.content[:end]), 100):
            chunk = self.content[:end][at : at + 100]
            self.sent_bytes += len(chunk)
            yield chunk
        if end is not None:
            raise ServerUnavailableError("cut")


def blob_of(content: bytes) -> Blob:
    return Blob(hashlib.sha256(content).digest(), len(content))


def part_of(blob: Blob, staging: Path) -> Path:
    return staging / f"{blob.sha256.hex()}.part"


def test_a_blob_arrives_whole(tmp_path: Path, retry: Retry) -> None:
    path = download.fetch(blob_of(CONTENT), tmp_path, Source(), retry)
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in tmp_path.iterdir()] == [blob_of(CONTENT).sha256.hex()]


def test_an_empty_blob_needs_no_stream(tmp_path: Path, retry: Retry) -> None:
    source = Source(content=b"")
    assert download.fetch(blob_of(b""), tmp_path, source, retry).read_bytes() == b""
    assert source.offsets == []


def test_what_lies_there_complete_is_not_fetched_again(tmp_path: Path, retry: Retry) -> None:
    download.fetch(blob_of(CONTENT), tmp_path, Source(), retry)
    source = Source()
    download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert source.offsets == []


def test_what_lies_there_complete_but_rotten_is_fetched_again(tmp_path: Path, retry: Retry) -> None:
    path = download.fetch(blob_of(CONTENT), tmp_path, Source(), retry)
    path.write_bytes(b"rot" + CONTENT[3:])
    assert download.fetch(blob_of(CONTENT), tmp_path, Source(), retry).read_bytes() == CONTENT


def test_twenty_cuts_cost_no_byte_twice(tmp_path: Path, retry: Retry) -> None:
    source = Source(*[333] * 20)
    download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert source.offsets == [333 * n for n in range(21)]
    assert source.sent_bytes == len(CONTENT)


def test_streams_that_bring_nothing_end_it_and_keep_the_part(tmp_path: Path, retry: Retry) -> None:
    source = Source(500, *[0] * 50)
    with pytest.raises(ServerUnavailableError):
        download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert len(source.offsets) == retry.tries
    assert part_of(blob_of(CONTENT), tmp_path).read_bytes() == CONTENT[:500]


def test_a_later_process_resumes_at_the_offset(tmp_path: Path, retry: Retry) -> None:
    part_of(blob_of(CONTENT), tmp_path).write_bytes(CONTENT[:1234])
    source = Source()
    path = download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert (source.offsets, source.sent_bytes) == ([1234], len(CONTENT) - 1234)
    assert path.read_bytes() == CONTENT


def test_a_part_of_wrong_bytes_is_dropped_and_fetched_from_the_start(
    tmp_path: Path, retry: Retry
) -> None:
    part_of(blob_of(CONTENT), tmp_path).write_bytes(bytes(1234))
    source = Source()
    assert download.fetch(blob_of(CONTENT), tmp_path, source, retry).read_bytes() == CONTENT
    assert source.offsets == [1234, 0]


def test_a_part_that_is_too_long_is_dropped(tmp_path: Path, retry: Retry) -> None:
    part_of(blob_of(CONTENT), tmp_path).write_bytes(CONTENT + b"more")
    source = Source()
    assert download.fetch(blob_of(CONTENT), tmp_path, source, retry).read_bytes() == CONTENT
    assert source.offsets == [0]


def test_wrong_bytes_are_refused_and_not_kept(tmp_path: Path, retry: Retry) -> None:
    source = Source(content=b"x" + CONTENT[1:])
    with pytest.raises(BlobError, match="expected a file with SHA-256"):
        download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert list(tmp_path.iterdir()) == []
    assert source.offsets == [0]


def test_data_beyond_the_announced_length_is_refused_and_not_kept(
    tmp_path: Path, retry: Retry
) -> None:
    source = Source(content=CONTENT + bytes(10**6))
    with pytest.raises(BlobError, match="the server sends more"):
        download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert source.sent_bytes <= len(CONTENT) + 100
    assert list(tmp_path.iterdir()) == []


def test_empty_chunks_do_not_keep_us_for_ever(tmp_path: Path, retry: Retry) -> None:
    class Idle:
        def read_blob(self, blob: Blob, offset: int) -> Iterator[bytes]:
            while True:
                yield b""

    with pytest.raises(BlobError, match="empty chunks"):
        download.fetch(blob_of(CONTENT), tmp_path, Idle(), retry)


def test_waits_between_tries_grow_and_differ(tmp_path: Path) -> None:
    waits: list[float] = []
    retry = Retry(tries=6, first_wait_s=1.0, longest_wait_s=4.0, sleep=waits.append)
    with pytest.raises(ServerUnavailableError):
        download.fetch(blob_of(CONTENT), tmp_path, Source(*[0] * 10), retry)
    assert len(waits) == 5
    for wait, whole in zip(waits, (1, 2, 4, 4, 4), strict=True):
        assert whole / 2 <= wait <= whole
    assert len(set(waits)) == 5


def test_a_full_disk_is_said_as_such_and_keeps_what_fitted(tmp_path: Path, retry: Retry) -> None:
    """The kernel's limit on file sizes stands in for a disk without room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, hard))
    try:
        with pytest.raises(DiskFullError, match="File too large"):
            download.fetch(blob_of(CONTENT), tmp_path, Source(), retry)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    source = Source()
    download.fetch(blob_of(CONTENT), tmp_path, source, retry)
    assert source.offsets == [8000]


def test_missing_bytes_counts_what_is_still_to_come(tmp_path: Path, retry: Retry) -> None:
    here, begun, absent = (blob_of(bytes([n]) * 1000) for n in range(3))
    download.fetch(here, tmp_path, Source(content=bytes(1000)), retry)
    part_of(begun, tmp_path).write_bytes(bytes(300))
    assert download.missing_bytes([here, begun, absent], tmp_path) == 700 + 1000


def test_what_no_plan_names_is_removed(tmp_path: Path) -> None:
    kept, dropped = blob_of(b"kept"), blob_of(b"dropped")
    part_of(kept, tmp_path).write_bytes(b"ke")
    part_of(dropped, tmp_path).write_bytes(b"dr")
    download.keep_only([kept], tmp_path)
    assert list(tmp_path.iterdir()) == [part_of(kept, tmp_path)]


def test_progress_counts_every_byte_once(tmp_path: Path, retry: Retry) -> None:
    part_of(blob_of(CONTENT), tmp_path).write_bytes(bytes(1000))
    seen: list[int] = []
    download.fetch(blob_of(CONTENT), tmp_path, Source(400), retry, seen.append)
    assert sum(seen) == len(CONTENT)

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.artifacts import ArtifactStore, create_store, open_store, read_whole
from server.domain import Blob
from server.errors import ArtifactError, HomeError, SettingError
from tests.s3 import S3Server

Overwrite = Callable[[Blob, bytes], None]


@pytest.fixture(params=["folder", "s3"])
def url_and_overwrite(request, tmp_path: Path) -> tuple[str, Overwrite]:
    """The URL of a new, empty store of each kind, and a way to damage what it holds."""
    if request.param == "folder":
        folder = tmp_path / "artifacts"
        return str(folder), lambda blob, content: (folder / key(blob)).write_bytes(content)
    server: S3Server = request.getfixturevalue("s3")
    bucket = server.new_bucket()
    return f"s3://{bucket}/some/where", lambda blob, content: server.overwrite(
        bucket, f"some/where/{key(blob)}", content
    )


@pytest.fixture
def store(url_and_overwrite) -> ArtifactStore:
    return create_store(url_and_overwrite[0])


@pytest.fixture
def overwrite(url_and_overwrite) -> Overwrite:
    return url_and_overwrite[1]


def key(blob: Blob) -> str:
    name = blob.sha256.hex()
    return f"{name[:2]}/{name[2:]}"


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None
)
@given(content=st.binary(max_size=4000))
def test_what_is_put_is_read(store: ArtifactStore, content: bytes) -> None:
    blob = store.put(content)
    assert blob == Blob(hashlib.sha256(content).digest(), len(content))
    assert store.read(blob.sha256, 0, blob.length) == content
    store.verify(blob)


def test_a_blob_of_many_parts_is_read(store: ArtifactStore) -> None:
    content = bytes(range(256)) * 4096 * 12
    blob = store.put(content)
    store.verify(blob)
    assert store.read(blob.sha256, 5_000_000, 300) == content[5_000_000:5_000_300]


def test_a_range_is_read_and_ends_with_the_blob(store: ArtifactStore) -> None:
    blob = store.put(b"0123456789")
    assert store.read(blob.sha256, 3, 4) == b"3456"
    assert store.read(blob.sha256, 8, 100) == b"89"
    assert store.read(blob.sha256, 10, 1) == b""
    assert store.read(blob.sha256, 0, 0) == b""


def test_what_was_put_is_there_after_reopening(store: ArtifactStore, url_and_overwrite) -> None:
    blob = store.put(b"durable")
    open_store(url_and_overwrite[0]).verify(blob)


def test_a_missing_blob_is_an_error_that_names_it(store: ArtifactStore) -> None:
    missing = Blob(bytes(32), 5)
    with pytest.raises(ArtifactError, match=f"{'00' * 32}, found no"):
        store.read(missing.sha256, 0, 5)
    with pytest.raises(ArtifactError, match=f"{'00' * 32}, found no"):
        store.verify(missing)


@pytest.mark.parametrize("damage", [b"", b"damag", b"damage!", b"damage and more"])
def test_changed_bytes_are_found_and_putting_again_mends_them(
    store: ArtifactStore, overwrite: Overwrite, damage: bytes
) -> None:
    blob = store.put(b"precious")
    overwrite(blob, damage)
    with pytest.raises(ArtifactError, match="expected 8 bytes"):
        store.verify(blob)
    store.put(b"precious")
    store.verify(blob)
    assert read_whole(store, blob) == b"precious"


@pytest.mark.parametrize("damage", [b"", b"damag", b"damaged!"])
def test_changed_bytes_are_not_read_as_whole(
    store: ArtifactStore, overwrite: Overwrite, damage: bytes
) -> None:
    blob = store.put(b"precious")
    overwrite(blob, damage)
    with pytest.raises(ArtifactError, match=f"{blob.sha256.hex()}: expected 8 bytes"):
        read_whole(store, blob)


def test_a_folder_that_is_not_there_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(HomeError, match="found no"):
        open_store(str(tmp_path / "nowhere"))


def test_an_endpoint_that_does_not_answer_is_one_clear_line(s3: S3Server, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ArtifactError, match="cannot be listed") as failed:
        open_store("s3://bucket")
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    "url", ["s3://", "s3://key:secret@bucket/x", "s3://bucket/x?region=y", "gs://bucket"]
)
def test_the_url_of_no_store_is_refused_without_telling_its_secrets(url: str) -> None:
    with pytest.raises(SettingError, match="expected a store") as refused:
        create_store(url)
    assert "secret" not in str(refused.value)

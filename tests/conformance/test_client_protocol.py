"""The protocol of tuf-conformance (its CLIENT-CLI.md), by our shim, over a repository on HTTP."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from tests.unit.edge_client.signed_repository import SignedRepository

ROOT = Path(__file__).parents[2]


class Site:
    """Serves a repository as files; keeps what was asked for."""

    def __init__(self) -> None:
        self.repository = SignedRepository()
        self.targets: dict[str, bytes] = {}
        self.requests: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.requests.append(self.path)
                content = site.content(self.path)
                self.send_response(200 if content is not None else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *arguments: object) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def content(self, path: str) -> bytes | None:
        kind, _, name = path.strip("/").partition("/")
        if kind == "targets":
            return self.targets.get(name)
        version, dot, role = name.removesuffix(".json").partition(".")
        wanted = (role, int(version)) if dot else (version, 0)
        return self.repository.files.get(wanted)

    def publish(self, path: str, content: bytes) -> None:
        folder, _, name = path.rpartition("/")
        self.targets[f"{folder}/{hashlib.sha256(content).hexdigest()}.{name}"] = content
        self.repository.list({**self.repository.releases, path: content})


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def client(tmp_path: Path, site: Site) -> "Client":
    made = Client(tmp_path, site)
    root = tmp_path / "initial.json"
    root.write_bytes(site.repository.files["root", 1])
    assert made.run("init", str(root)) == 0
    assert site.requests == []
    return made


class Client:
    def __init__(self, folder: Path, site: Site) -> None:
        self.metadata, self.targets, self.url = folder / "metadata", folder / "targets", site.url
        self.targets.mkdir()

    def run(self, *command: str, target: str = "") -> int:
        options = ["--metadata-dir", str(self.metadata)]
        if command[0] != "init":
            options += ["--metadata-url", f"{self.url}/metadata"]
        if target:
            options += ["--target-name", target, "--target-base-url", f"{self.url}/targets"]
            options += ["--target-dir", str(self.targets)]
        done = subprocess.run(
            [ROOT / "tests" / "conformance" / "client", *options, *command],
            cwd=ROOT,
            env={**os.environ, "PYTHON": sys.executable},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode

    def trusted(self, role: str) -> bytes:
        return (self.metadata / f"{role}.json").read_bytes()


def test_refresh_keeps_what_it_trusts_under_plain_names(site: Site, client: Client) -> None:
    assert client.run("refresh") == 0
    for role in ("root", "timestamp", "snapshot", "targets"):
        assert client.trusted(role) == site.repository.files[role, 0]
    assert site.requests == [
        "/metadata/2.root.json",
        "/metadata/timestamp.json",
        "/metadata/1.snapshot.json",
        "/metadata/1.targets.json",
    ]


def test_a_second_refresh_asks_for_root_and_timestamp_alone(site: Site, client: Client) -> None:
    client.run("refresh")
    site.requests.clear()
    assert client.run("refresh") == 0
    assert site.requests == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_a_target_is_downloaded_once(site: Site, client: Client) -> None:
    site.publish("some/file.txt", b"content")
    assert client.run("download", target="some/file.txt") == 0
    assert [path.read_bytes() for path in client.targets.iterdir()] == [b"content"]
    site.requests.clear()
    assert client.run("download", target="some/file.txt") == 0
    assert not any(path.startswith("/targets") for path in site.requests)


def test_a_target_that_changed_keeps_its_name(site: Site, client: Client) -> None:
    for content in (b"one", b"other"):
        site.publish("some/file.txt", content)
        assert client.run("download", target="some/file.txt") == 0
        assert [path.read_bytes() for path in client.targets.iterdir()] == [content]


def test_a_target_that_nobody_signed_or_that_was_changed_fails(site: Site, client: Client) -> None:
    assert client.run("download", target="some/file.txt") == 1
    site.publish("some/file.txt", b"content")
    for name in site.targets:
        site.targets[name] = b"c0ntent"
    assert client.run("download", target="some/file.txt") == 1
    assert list(client.targets.iterdir()) == []


def test_a_rotated_root_is_followed(site: Site, client: Client) -> None:
    site.repository.rotate("root", "timestamp")
    site.repository.rotate("root")
    assert client.run("refresh") == 0
    assert client.trusted("root") == site.repository.files["root", 3]


def test_a_foreign_signature_fails_and_is_not_kept(site: Site, client: Client) -> None:
    client.run("refresh")
    before = client.trusted("timestamp")
    site.repository.keys["timestamp"] = CryptoSigner.generate_ed25519()
    site.repository.sign("timestamp")
    assert client.run("refresh") == 1
    assert client.trusted("timestamp") == before


def test_an_older_timestamp_fails(site: Site, client: Client) -> None:
    old = site.repository.files["timestamp", 0]
    site.repository.sign("timestamp")
    assert client.run("refresh") == 0
    site.repository.files["timestamp", 0] = old
    assert client.run("refresh") == 1


@pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
def test_expired_metadata_fails(site: Site, client: Client, role: str) -> None:
    site.repository.expires[role] = site.repository.now - timedelta(days=1)
    if role == "root":
        site.repository.rotate("root")
    else:
        site.repository.sign(role, "snapshot", "timestamp")
    assert client.run("refresh") == 1

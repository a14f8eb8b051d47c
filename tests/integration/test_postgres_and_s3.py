"""Several servers over one PostgreSQL and one S3 bucket."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from protos.ota.v1 import content_pb2, content_pb2_grpc
from server.errors import ArtifactError, RegistryError
from server.home import ServerHome
from server.registry import Registry
from tests import fleet
from tests.integration.served_home import GRAPH, add_generation
from tests.integration.server_process import check_in, enroll, server_process
from tests.postgres import PostgresServer
from tests.s3 import S3Server
from tests.unit.server.values import generation, step

TIMEOUT_S = 30


@pytest.fixture
def options(postgres: PostgresServer, s3: S3Server) -> dict[str, str]:
    return {"database": postgres.new_database(), "store": f"s3://{s3.new_bucket()}/ota"}


def graph_from(address: str, device: fleet.Credential) -> bytes:
    with grpc.secure_channel(address, device.for_channel()) as channel:
        stub = content_pb2_grpc.ContentServiceStub(channel)
        request = content_pb2.ReadBlobRequest(sha256=hashlib.sha256(GRAPH).digest())
        return b"".join(part.chunk for part in stub.ReadBlob(request, timeout=TIMEOUT_S))


def test_two_servers_know_the_same_devices_and_blobs(tmp_path: Path, options) -> None:
    home = ServerHome.create(tmp_path / "srv", **options)
    add_generation(home, 0)
    urls = [f"--{name}={value}" for name, value in options.items()]
    with (
        server_process(tmp_path / "srv", *urls) as (_, first),
        server_process(tmp_path / "srv", *urls) as (_, second),
    ):
        _, device = enroll(tmp_path / "srv", **options)
        assert check_in(second, device).plan.generation == 0
        assert graph_from(first, device) == graph_from(second, device) == GRAPH
        add_generation(home, 1)
        assert check_in(first, device).plan.generation == 1
    assert home.registry.attempt_counts("digits") == {"planned": 1, "superseded": 1}
    home.close()
    kept = {path.name for path in (tmp_path / "srv").iterdir()}
    assert kept == {"artifacts", "ca.pem", "keys", "tls"}


def test_a_home_on_both_is_made_and_looked_at_by_the_command(tmp_path: Path, options) -> None:
    urls = [f"--{name}={value}" for name, value in options.items()]
    for command in (["init"], ["status", "--json"]):
        name, *flags = command
        ended = subprocess.run(
            [sys.executable, "-m", "server.cli", name, tmp_path / "srv", *flags, *urls],
            check=True,
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT_S,
        )
    assert json.loads(ended.stdout)["models"] == []


def test_a_bucket_that_is_not_there_is_found_at_the_start(tmp_path: Path, options) -> None:
    with pytest.raises(ArtifactError, match="s3://nowhere: cannot be listed") as failed:
        ServerHome.create(tmp_path / "srv", store="s3://nowhere")
    assert "\n" not in str(failed.value)


def test_a_registry_outlives_a_restart_of_its_database(postgres: PostgresServer) -> None:
    registry = Registry.create(postgres.new_database())
    registry.add_generation(generation(0), [step(None, 0, 10)])
    postgres.stop()
    with pytest.raises(RegistryError, match="the database failed") as failed:
        registry.head("digits")
    assert "\n" not in str(failed.value)
    postgres.start()
    assert registry.head("digits") == generation(0)
    registry.add_generation(generation(1), [step(0, 1, 10)])
    registry.close()


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(RegistryError, match=r"postgresql://me:\*+@127\.0\.0\.1:9/ota: ") as failed:
        Registry.open("postgresql://me:secret@127.0.0.1:9/ota")
    assert "secret" not in str(failed.value)
    assert "\n" not in str(failed.value)

"""A server with generations, and a home that follows it."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client import EdgeHome, Wanted, enroll
from edge_client.retry import Retry
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import generation, snapshot


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """Generation 0, offered as a snapshot."""
    with FakeServer() as running:
        running.publish(generation(0), snapshot(generation(0)), base=None)
        yield running


@pytest.fixture
def home(tmp_path: Path, server: FakeServer) -> EdgeHome:
    """Enrolled, holds nothing yet."""
    folder = EdgeHome(tmp_path / "home")
    enroll(folder, server.address, Wanted("digits", "test"), server.fleet)
    return folder


@pytest.fixture
def retry() -> Retry:
    """As patient as in real life, in no time."""
    return Retry(sleep=lambda seconds: None, randomness=random.Random(0))

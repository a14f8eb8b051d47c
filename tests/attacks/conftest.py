"""A server that can be made to lie about everything, and a device that follows it."""

from collections.abc import Iterator

import pytest

from edge_client import EdgeHome, Recognizer, update
from tests.unit.edge_client.conftest import home, retry, server
from tests.unit.edge_client.evidence import content_of
from tests.unit.edge_client.fake_server import FakeServer

__all__ = ["home", "retry", "server"]


@pytest.fixture
def offered(home: EdgeHome, server: FakeServer) -> Iterator[dict[str, bytes]]:
    """Holds generation 0 and is offered 1. Whatever happens, 0 is untouched and answers."""
    update(home)
    server.publish_next()
    server.reads.clear()
    before = content_of(home)
    yield before
    assert content_of(home) == before
    assert Recognizer.open(home).generation.number == 0

"""How an attack ends, and what an attacker may do to a device before."""

import shutil

import pytest

from edge_client import EdgeHome, update
from edge_client.errors import EdgeError
from edge_client.retry import Retry
from tests.unit.edge_client.fake_server import FakeServer


def refuse(
    home: EdgeHome, server: FakeServer, error: type[EdgeError], code: str, **options: object
) -> None:
    """An update ends with this error, the server hears its code, no content was fetched."""
    with pytest.raises(error) as refused:
        update(home, Retry(sleep=lambda seconds: None), **options)
    assert type(refused.value) is error
    assert server.outcomes()[-2:] == [("STARTED", ""), ("FAILED", code)]
    assert server.reads == []


def forget_metadata(home: EdgeHome) -> None:
    """Wipe the cache of metadata; what the device keeps beside it stays."""
    shutil.rmtree(home.path / "trust" / "tuf")

"""What every test of this folder shares."""

import tracemalloc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def traced() -> Iterator[None]:
    """The properties leave the tracing of memory on, which would count for others too."""
    yield
    tracemalloc.stop()

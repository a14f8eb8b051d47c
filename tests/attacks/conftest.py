"""A server that can be made to lie about everything, and a device that follows it."""

from tests.unit.edge_client.conftest import home, retry, server

__all__ = ["home", "retry", "server"]

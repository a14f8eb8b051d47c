"""What the server knows: models, generations, steps, devices, attempts.

    >>> registry = Registry.open("sqlite:////srv/ota/registry.db")
    >>> registry.head("digits")

SQLAlchemy and Alembic are used inside this package alone; what it takes and returns are values
of server.domain. Every method is one transaction, and blocks: the service calls it in threads.
"""

from server.registry.database import sqlite_url
from server.registry.registry import Registry

__all__ = ["Registry", "sqlite_url"]

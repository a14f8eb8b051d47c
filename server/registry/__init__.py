"""What the server knows: models, generations, steps, devices, attempts.

    >>> registry = Registry.open("sqlite:////srv/ota/registry.db")
    >>> registry.head("digits")

    registry        the whole of it: what is below, over one database
    generations, devices, rollouts, roll_ups, collecting, signing, identities, operators
                    the parts; each takes and returns values of its subject, in one transaction
    attempts, members, inserts, rollout_values
                    what the parts share: functions over the session of a transaction
    audit           who changed what
    rows, *_rows    the tables
    transactions, database, migrations
                    how the database is reached

SQLAlchemy and Alembic are used inside this package alone. Methods block: the service calls them
in threads.
"""

from server.registry.database import sqlite_url
from server.registry.registry import Registry

__all__ = ["Registry", "sqlite_url"]

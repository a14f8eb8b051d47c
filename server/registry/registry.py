"""The registry: one database, opened, with all its parts.

What it knows is in modules of its own: generations and devices are asked for directly, rollouts
and signing by name, and server.registry.identities and .operators are built over it.

Changes of state are compare-and-swap: an UPDATE names the state that it saw, so that two servers
on one database cannot both be right. A writer that loses gets ConflictError and has changed
nothing.
"""

from sqlalchemy import Engine

from server.registry import database
from server.registry.check_ins import CheckInRecords
from server.registry.collecting import CollectingRecords
from server.registry.devices import DeviceRecords
from server.registry.generations import GenerationRecords
from server.registry.roll_ups import RollUpRecords
from server.registry.rollouts import RolloutRecords
from server.registry.signing import SigningRecords
from server.registry.transactions import database_errors


class Registry(GenerationRecords, DeviceRecords):
    """The server's memory.

    Attributes:
        actor: Who changes it, for the audit log.
        check_ins: What check-ins are decided by, and what they leave behind.
        collecting: What nobody needs any more.
        roll_ups: Diffs that servers make by themselves.
        rollouts: Rollouts, and what they know of devices.
        signing: Metadata, manifests, revocations.
    """

    def __init__(self, engine: Engine, actor: str | None = None) -> None:
        super().__init__(engine, actor)
        self.check_ins = CheckInRecords(self)
        self.collecting = CollectingRecords(self)
        self.roll_ups = RollUpRecords(self)
        self.rollouts = RolloutRecords(self)
        self.signing = SigningRecords(self)

    @classmethod
    def create(cls, url: str) -> "Registry":
        """Create the schema in a database, or bring an older one up to date, and open it.

        Raises:
            SettingError: the URL is not one that we know.
            RegistryError: the database cannot be written.
        """
        engine = database.connect(url)
        with database_errors(engine):
            database.upgrade(engine)
        return cls(engine)

    @classmethod
    def open(cls, url: str) -> "Registry":
        """Open a database that has the schema of this program.

        Raises:
            SettingError: the URL is not one that we know.
            HomeError: the schema is older, newer or not there.
            RegistryError: the database cannot be read.
        """
        engine = database.connect(url)
        with database_errors(engine):
            database.require_current(engine)
        return cls(engine)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def acting_as(self, actor: str) -> "Registry":
        """The same database, for what somebody else changes."""
        return Registry(self._engine, actor)

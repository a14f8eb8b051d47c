"""The folder of one device: which model it follows, and where everything lies.

    HOME/config.json      server, model, device id
    HOME/identity/        key and certificates (see identity/store.py)
    HOME/trust/           what the device believes (see trust/__init__.py)
    HOME/lock             held by the process that changes the home
    HOME/current          names the active slot (see slots.py)
    HOME/slots/{a,b}/     two generations at most
    HOME/staging/         downloads, each named by its SHA-256 (see download.py)

>>> with EdgeHome(Path("home")).locked() as home: ...
"""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_client import durable
from edge_client.address import ServerAddress
from edge_client.errors import HomeBusyError, HomeError, NotEnrolledError
from edge_client.identity import IdentityStore
from edge_client.slots import Slots

FORMAT = 1
"""Version of config.json; another one is refused."""


@dataclass(frozen=True)
class Config:
    """What enrolment decided."""

    server: ServerAddress
    model: str
    device_id: str
    name: str

    def to_json(self) -> str:
        """Serialise for config.json."""
        content = {
            "format": FORMAT,
            "server": str(self.server),
            "model": self.model,
            "device_id": self.device_id,
            "name": self.name,
        }
        return json.dumps(content, ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """Read config.json.

        Raises:
            HomeError: not JSON, a missing key, or another format.
            AddressError: the server is no HOST:PORT.
        """
        try:
            content = json.loads(text)
            found, server = content["format"], str(content["server"])
            model, device_id, name = (str(content[key]) for key in ("model", "device_id", "name"))
        except (ValueError, KeyError, TypeError) as error:
            raise HomeError(
                "expected JSON with format, server, model, device_id and name"
            ) from error
        if found != FORMAT:
            raise HomeError(f"expected format {FORMAT}, found {found!r}")
        return cls(ServerAddress.parse(server), model, device_id, name)


@dataclass(frozen=True)
class EdgeHome:
    """A device's folder. Making one touches nothing; `locked` and `save_config` write."""

    path: Path

    @property
    def slots(self) -> Slots:
        """The two slots and the pointer."""
        return Slots(self.path)

    @property
    def identity(self) -> IdentityStore:
        """This device's key and certificates."""
        return IdentityStore(self.path / "identity")

    @property
    def staging(self) -> Path:
        """Where downloads are kept until they are installed."""
        return self.path / "staging"

    def config(self) -> Config:
        """Read what enrolment decided.

        Raises:
            NotEnrolledError: there is no config.json.
            HomeError: it cannot be read.
            AddressError: its server is no HOST:PORT.
        """
        path = self.path / "config.json"
        if not path.exists():
            raise NotEnrolledError(f"{self.path} is not enrolled; run: ota-edge enroll")
        try:
            with durable.storage_errors(f"cannot read {path}"):
                return Config.from_json(path.read_text(encoding="utf-8"))
        except (HomeError, UnicodeDecodeError) as error:
            raise HomeError(f"{path}: {error}") from error

    def save_config(self, config: Config) -> None:
        """Write config.json, durably."""
        durable.write(self.path / "config.json", config.to_json().encode())

    @contextmanager
    def locked(self) -> Iterator["EdgeHome"]:
        """Be the only process that changes this home, for as long as the block runs.

        The lock is the kernel's: it ends with the process, however that ends.

        Raises:
            HomeBusyError: another process holds it.
        """
        durable.make_folder(self.path)
        with durable.storage_errors(f"cannot lock {self.path}"):
            file = (self.path / "lock").open("a")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise HomeBusyError(
                    f"{self.path} is in use by another ota-edge process; wait for it to end"
                ) from error
            yield self

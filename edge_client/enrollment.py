"""Make a folder the home of a device that follows one model of one server."""

from contextlib import suppress
from dataclasses import replace

from edge_client.address import ServerAddress
from edge_client.errors import (
    AlreadyEnrolledError,
    EdgeError,
    HomeError,
    NoRootError,
    NotEnrolledError,
    StorageError,
    UnknownDeviceError,
    UnknownGenerationError,
)
from edge_client.home import Config, EdgeHome
from edge_client.transport import Connection, Retry
from edge_client.trust import MOST_ROOT_BYTES, pin_root, pinned_root, require_root


def enroll(
    home: EdgeHome,
    server: ServerAddress,
    model: str,
    name: str,
    retry: Retry | None = None,
    root: bytes | None = None,
) -> Config:
    """Enrol a home; where that is done already, ask the server whether it still knows the device.

    A server that has forgotten it (its registry was lost) enrols it anew. What is installed
    stays, and the next update says whether a way leads on from it. The same model under another
    address is followed there from now on.

    Args:
        home: Where; the folder is created.
        server: Which server to follow.
        model: Which of its models; empty for the one that the home follows already, or else
            for the only one that the server has.
        name: How people call the device; need not be unique. Not changed while it is known.
        retry: How patiently to wait for the server.
        root: The root of trust (root.json) to pin; without it, the one that is pinned already,
            or else the server's is trusted at this first use.

    Raises:
        NoRootError: the root is none that is signed by itself.
        AlreadyEnrolledError: the home follows another model; it is left as it is.
        UnknownDeviceError: the server has no such model.
        ServerUnavailableError, ServerFaultError, HomeBusyError: nothing has changed.
    """
    if root is not None:
        require_root(root)
    with home.locked():
        known = _known_config(home)
        if known is not None and model not in ("", known.model):
            raise AlreadyEnrolledError(
                f"{home.path} follows {known.model!r} at {known.server} already; "
                f"expected the same model, found {model!r} at {server}: use another home"
            )
        try:
            with Connection.open(server, retry) as connection:
                config = _followed(home, known, connection, Config(server, model, "", name))
                new_root = root if root is not None else _first_root(home, connection)
        except EdgeError:
            if known is None:
                home.abandon()
            raise
        if new_root is not None:
            pin_root(home.path, new_root)
        if config != known:
            home.save_config(config)
        return config


def _followed(
    home: EdgeHome, known: Config | None, connection: Connection, wanted: Config
) -> Config:
    """The configuration that the server agrees to."""
    if known is not None and _is_known(home, known, connection):
        return replace(known, server=wanted.server)
    model = wanted.model or (known.model if known is not None else "")
    device_id, model = connection.enroll(model, wanted.name)
    return replace(wanted, device_id=device_id, model=model)


def _first_root(home: EdgeHome, connection: Connection) -> bytes | None:
    """The server's root, trusted at this first use; None where the home has one."""
    try:
        pinned_root(home.path)
    except NoRootError:
        offered = connection.read_metadata("root", 0, MOST_ROOT_BYTES)
        require_root(offered)
        return offered
    return None


def _is_known(home: EdgeHome, config: Config, connection: Connection) -> bool:
    """Ask by a check-in, the one call that changes nothing for a device."""
    generation = None
    with suppress(HomeError, StorageError):  # what is damaged is for an update to repair
        installed = home.slots.installed()
        generation = installed.record.generation if installed else None
    try:
        connection.check_in(config.device_id, generation, ())
    except UnknownDeviceError:
        return False
    except UnknownGenerationError:
        return True
    return True


def _known_config(home: EdgeHome) -> Config | None:
    try:
        return home.config()
    except NotEnrolledError:
        return None

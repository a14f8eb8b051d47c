"""Make a folder the home of a device that follows one model of one server."""

from edge_client.address import ServerAddress
from edge_client.errors import AlreadyEnrolledError, NotEnrolledError
from edge_client.home import Config, EdgeHome
from edge_client.transport import Connection, Retry


def enroll(
    home: EdgeHome, server: ServerAddress, model: str, name: str, retry: Retry | None = None
) -> Config:
    """Enrol a home. Enrolling it again with the same server and model changes nothing.

    Args:
        home: Where; the folder is created.
        server: Which server to follow.
        model: Which of its models.
        name: How people call the device; need not be unique. Not changed by a second time.
        retry: How patiently to wait for the server.

    Raises:
        AlreadyEnrolledError: the home follows another server or model; it is left as it is.
        UnknownDeviceError: the server has no such model.
        ServerUnavailableError, ServerFaultError, HomeBusyError
    """
    with home.locked():
        known = _known_config(home)
        if known is None:
            with Connection.open(server, retry) as connection:
                device_id = connection.enroll(model, name)
            known = Config(server, model, device_id, name)
            home.save_config(known)
        elif (known.server, known.model) != (server, model):
            raise AlreadyEnrolledError(
                f"{home.path} follows {known.model!r} at {known.server} already; "
                f"expected the same, found {model!r} at {server}: use another home"
            )
        return known


def _known_config(home: EdgeHome) -> Config | None:
    try:
        return home.config()
    except NotEnrolledError:
        return None

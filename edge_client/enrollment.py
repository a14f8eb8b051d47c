"""Make a folder the home of a device that follows one model of one fleet.

The device makes a key and asks for a certificate of it, until an operator (or a rule of the fleet)
has accepted the key. Asking twice has no effect, so the same command goes on wherever an earlier
one ended, be it by kill -9: what is durable is the key, then the certificate, then config.json.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from edge_client.address import ServerAddress
from edge_client.errors import (
    AccessDeniedError,
    AlreadyEnrolledError,
    EdgeError,
    NoRootError,
    NotEnrolledError,
    NotYetAcceptedError,
    ServerUnavailableError,
)
from edge_client.home import Config, EdgeHome
from edge_client.identity.credential import (
    Credential,
    is_due,
    key_sha256,
    load_key,
    own_certificate,
    signing_request,
)
from edge_client.retry import Retry
from edge_client.transport import Connection, Enrolled, EnrollmentState
from edge_client.trust import MOST_ROOT_BYTES, pin_root, pinned_root, require_root

FIRST_POLL_S, LONGEST_POLL_S = 1.0, 30.0

REFUSALS = {
    EnrollmentState.REJECTED: "has rejected this device's key",
    EnrollmentState.REVOKED: "has revoked this device's key; remove {key} to ask by a new one",
}


@dataclass(frozen=True)
class Wanted:
    """What a device asks for.

    Attributes:
        model: The model to follow; empty for the one that the home follows already, or else for
            the only one that the server has.
        name: How people call the device; need not be unique.
        device_id: The id that it had or is to have; empty: the server makes one.
    """

    model: str = ""
    name: str = ""
    device_id: str = ""


def enroll(
    home: EdgeHome,
    server: ServerAddress,
    wanted: Wanted,
    fleet: Credential | None = None,
    retry: Retry | None = None,
    on_wait: Callable[[str], None] | None = None,
    root: bytes | None = None,
) -> Config:
    """Enrol a home, or learn of the server what has become of it; what is installed stays.

    A home that is enrolled keeps its key and its id, also where the server has forgotten it or has
    moved to another address.

    Args:
        home: Where; the folder is created.
        server: Which server to follow.
        wanted: What to ask for.
        fleet: The fleet's ca.pem; None for the one that the home has.
        retry: How patiently to wait for the server.
        on_wait: Wait for an operator, and call this with the key's SHA-256 in hex before each
            further question; None: do not wait.
        root: The root of trust (root.json) to pin; without it, the one that is pinned already,
            or else the server's is trusted at this first use.

    Raises:
        NoRootError: the root is none that is signed by itself.
        AlreadyEnrolledError: the home follows another model; it is left as it is.
        NotYetAcceptedError: an operator has to decide; ask again later.
        AccessDeniedError: the key was rejected or revoked.
        CredentialError: there is no ca.pem, or the key is damaged.
        UnknownDeviceError: the server has no such model.
        ServerUnavailableError, ServerFaultError, HomeBusyError: nothing has changed.
    """
    if root is not None:
        require_root(root)
    retry = retry or Retry()
    fleet = fleet or home.identity.fleet()  # before the lock makes a folder
    with home.locked():
        known = _known_config(home)
        if known is not None and wanted.model not in ("", known.model):
            raise AlreadyEnrolledError(
                f"{home.path} follows {known.model!r} at {known.server} already; "
                f"expected the same model, found {wanted.model!r} at {server}: use another home"
            )
        key = load_key(home.identity.make_key())
        if not home.identity.has_fleet():
            home.identity.save_fleet(fleet)
        asked = _with_known(wanted, known)
        with Connection.open(server, fleet, retry) as connection:
            request = _Request(home, fleet, connection, asked, key)
            enrolled = request.ask_until_decided(retry, on_wait)
            new_root = root if root is not None else _first_root(home, connection)
        if new_root is not None:
            pin_root(home.path, new_root)
        config = Config(server, enrolled.model, enrolled.device_id, asked.name)
        if config != known:
            home.save_config(config)
        return config


def fetch_certificate(home: EdgeHome, config: Config, connection: Connection) -> None:
    """Ask for another certificate by the same key, as who was accepted once.

    For a device that slept past the end of its certificate. The connection has its own
    credential again afterwards, whatever happens.

    Raises:
        NotYetAcceptedError, AccessDeniedError: the key does not count any more.
        CredentialError, ServerUnavailableError, ServerFaultError
    """
    fleet = home.identity.fleet()
    connection.use(fleet)
    wanted = Wanted(config.model, config.name, config.device_id)
    key = load_key(home.identity.make_key())
    try:
        _Request(home, fleet, connection, wanted, key).ask()
    finally:
        connection.use(home.identity.credential())


def renew_when_due(home: EdgeHome, config: Config, connection: Connection) -> None:
    """Replace this device's certificate at half of its life; if that fails, the old one stays."""
    with suppress(EdgeError):
        credential = home.identity.credential()
        if is_due(credential.certificate, datetime.now(UTC)):
            der, key = connection.renew_certificate(), load_key(credential.key)
            pem = own_certificate(der, config.device_id, key, credential.authority)
            home.identity.save_certificate(pem)


@dataclass(frozen=True)
class _Request:
    """A request for a certificate, asked as often as it takes."""

    home: EdgeHome
    fleet: Credential
    connection: Connection
    wanted: Wanted
    key: ec.EllipticCurvePrivateKey

    def ask_until_decided(self, retry: Retry, on_wait: Callable[[str], None] | None) -> Enrolled:
        """Ask until an operator has decided, or once, if nobody is to wait."""
        pause_s = FIRST_POLL_S
        is_heard = False
        while True:
            try:
                return self.ask()
            except NotYetAcceptedError:
                if on_wait is None:
                    raise
                is_heard = True
            except ServerUnavailableError:
                # Who waits for a person waits for a server that restarts meanwhile, too.
                if on_wait is None or not is_heard:
                    raise
            on_wait(key_sha256(self.key).hex())
            retry.sleep(pause_s)
            pause_s = min(LONGEST_POLL_S, pause_s * 1.5)

    def ask(self) -> Enrolled:
        """Ask once, and keep the certificate if there is one."""
        identity, wanted = self.home.identity, self.wanted
        answer = self.connection.enroll(
            signing_request(self.key), wanted.model, wanted.name, wanted.device_id
        )
        # Not before: a file of another fleet must not take the place of one that works.
        identity.save_fleet(self.fleet)
        shown = key_sha256(self.key).hex()[:16]
        if answer.state is EnrollmentState.PENDING:
            raise NotYetAcceptedError(
                f"an operator has to accept key {shown} of this device first: "
                f"ota-server device accept HOME {shown}"
            )
        if answer.state is not EnrollmentState.ACCEPTED:
            refusal = REFUSALS[answer.state].format(key=identity.path / "key.pem")
            raise AccessDeniedError(f"the fleet {refusal} ({shown})")
        identity.save_certificate(
            own_certificate(answer.certificate, answer.device_id, self.key, self.fleet.authority)
        )
        return answer


def _first_root(home: EdgeHome, connection: Connection) -> bytes | None:
    """The server's root, trusted at this first use; None where the home has one."""
    try:
        pinned_root(home.path)
    except NoRootError:
        connection.use(home.identity.credential())
        return connection.read_metadata("root", 0, MOST_ROOT_BYTES)
    return None


def _with_known(wanted: Wanted, known: Config | None) -> Wanted:
    if known is None:
        return wanted
    return replace(wanted, model=known.model, name=known.name, device_id=known.device_id)


def _known_config(home: EdgeHome) -> Config | None:
    try:
        return home.config()
    except NotEnrolledError:
        return None

"""HOME/tls: the keys of a fleet's authorities, and what they have signed for the servers.

    HOME/tls/device-authority.{pem,key}     signs devices, the enrolment credential, servers
    HOME/tls/operator-authority.{pem,key}   signs operators
    HOME/tls/server.pem                     key and certificate that this server shows
    HOME/ca.pem                             for devices: the authority's certificate, and the
                                            enrolment credential with its key

All but the authorities' certificates are secrets: files of mode 0600 in a folder of 0700. Servers
of one fleet share HOME/tls. Files are replaced whole and durably; `create` ends what an earlier
one began.

    >>> authority = Authority.create(Path("srv"), now)
    >>> authority.sign_device("kitchen", public_key, now)
"""

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.durable import write_secret
from server.errors import HomeError
from server.identity.certificates import (
    SERVER_LIFE,
    Identity,
    Pair,
    Role,
    device_certificate,
    enrolment_credential,
    identity_of,
    is_half_over,
    key_sha256,
    names_of,
    new_authority,
    operator_credential,
    require_server_name,
    server_certificate,
)

TLS_NAME = "tls"
CREDENTIAL_NAME = "ca.pem"
DEVICE_AUTHORITY, OPERATOR_AUTHORITY = "device-authority", "operator-authority"
SERVER_FILE = "server.pem"
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Authority:
    """Both authorities of a fleet, with their keys."""

    home: Path
    devices: Pair
    operators: Pair

    @classmethod
    def create(cls, home: Path, now: datetime, names: Sequence[str] = ()) -> "Authority":
        """Make what is missing in a home; what is there stays.

        Args:
            home: A folder that exists.
            now: The time.
            names: How devices reach the servers, beside the names of loopback and those that
                the server's certificate has already.

        Raises:
            HomeError: what is there cannot be read, or the folder not be written.
            RequestError: a name is none.
        """
        names = tuple(require_server_name(name) for name in names)
        folder = home / TLS_NAME
        with _home_errors(folder):
            folder.mkdir(mode=0o700, exist_ok=True)
            with _locked(folder):
                for name in (DEVICE_AUTHORITY, OPERATOR_AUTHORITY):
                    # The certificate comes last: where it is, the key is.
                    if not (folder / f"{name}.pem").exists():
                        made = new_authority(f"neuraldiff {name}", now)
                        write_secret(folder / f"{name}.key", made.key_pem())
                        write_secret(folder / f"{name}.pem", made.certificate_pem())
                authority = cls.open(home)
                known = authority._server_names()
                if not known or not set(names) <= set(known):
                    authority._write_server((*LOOPBACK_NAMES, *known, *names), now)
                if not (home / CREDENTIAL_NAME).exists():
                    authority.renew_enrolment(now)
        return authority

    @classmethod
    def open(cls, home: Path) -> "Authority":
        """Read the authorities of a home.

        Raises:
            HomeError: they are missing or damaged.
        """
        folder = home / TLS_NAME
        devices, operators = (
            Pair(
                read_certificate(folder / f"{name}.pem"),
                _read_key(folder / f"{name}.key"),
            )
            for name in (DEVICE_AUTHORITY, OPERATOR_AUTHORITY)
        )
        return cls(home, devices, operators)

    @property
    def sha256(self) -> bytes:
        """What the fleet's registry knows its authority by: the key for devices."""
        return key_sha256(self.devices.key.public_key())

    @property
    def roots_pem(self) -> bytes:
        """The certificates that a client's must be signed by."""
        return self.devices.certificate_pem() + self.operators.certificate_pem()

    def identity_of(self, certificate: x509.Certificate) -> Identity | None:
        """Whom a client's certificate names; None: nobody that we know."""
        return identity_of(certificate, self.devices.certificate, self.operators.certificate)

    def sign_device(
        self, device_id: str, key: ec.EllipticCurvePublicKey, now: datetime
    ) -> x509.Certificate:
        """A device's next certificate."""
        return device_certificate(self.devices, device_id, key, now)

    def new_operator(self, name: str, role: Role, now: datetime) -> tuple[Pair, bytes]:
        """A person's credential, and the one file (PEM) to give them."""
        pair = operator_credential(self.operators, name, role, now)
        return pair, self._client_file(pair)

    def renew_server(self, names: Sequence[str], now: datetime) -> tuple[str, ...]:
        """Replace the server's key and certificate; a server that runs takes them up by itself.

        Args:
            names: How devices reach the servers, beside loopback; none: as before.
            now: The time.

        Returns:
            The names of the new certificate.

        Raises:
            RequestError: a name is none.
            HomeError: the file cannot be written.
        """
        folder = self.home / TLS_NAME
        chosen = tuple(require_server_name(name) for name in names)
        with _home_errors(folder), _locked(folder):
            if names:
                return self._write_server((*LOOPBACK_NAMES, *chosen), now)
            return self._write_server(names_of(self.server_certificate()), now)

    def server_certificate(self) -> x509.Certificate:
        """The certificate that servers show now."""
        return read_certificate(self.home / TLS_NAME / SERVER_FILE)

    def renew_server_when_half_over(self, now: datetime) -> bool:
        """Replace the server's certificate if less than half of its life is left."""
        if not is_half_over(self.server_certificate(), SERVER_LIFE, now):
            return False
        self.renew_server((), now)
        return True

    def renew_enrolment(self, now: datetime) -> None:
        """Write a new HOME/ca.pem."""
        pair = enrolment_credential(self.devices, now)
        with _home_errors(self.home):
            write_secret(self.home / CREDENTIAL_NAME, self._client_file(pair))

    def enrolment_key_sha256(self) -> bytes:
        """What the enrolment credential of HOME/ca.pem is known by."""
        path = self.home / CREDENTIAL_NAME
        _, own = _two_certificates(path)
        key = own.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise HomeError(f"{path}: expected a key of P-256, found another kind")
        return key_sha256(key)

    def _server_names(self) -> tuple[str, ...]:
        is_there = (self.home / TLS_NAME / SERVER_FILE).exists()
        return names_of(self.server_certificate()) if is_there else ()

    def _client_file(self, pair: Pair) -> bytes:
        """Whom to trust as a server, then who one is: the order that clients read by."""
        return self.devices.certificate_pem() + pair.certificate_pem() + pair.key_pem()

    def _write_server(self, names: Sequence[str], now: datetime) -> tuple[str, ...]:
        unique = tuple(dict.fromkeys(names))
        pair = server_certificate(self.devices, unique, now)
        # One file: key and certificate change at once.
        write_secret(self.home / TLS_NAME / SERVER_FILE, pair.certificate_pem() + pair.key_pem())
        return unique


def read_client_file(path: Path) -> tuple[bytes, bytes, bytes]:
    """(whom to trust, certificate, private key) of a file such as ca.pem, each PEM.

    Raises:
        HomeError: it is no such file.
    """
    authority, own = _two_certificates(path)
    pair = Pair(own, _read_key(path))
    roots = authority.public_bytes(serialization.Encoding.PEM)
    return roots, pair.certificate_pem(), pair.key_pem()


class ServerFile:
    """HOME/tls/server.pem as gRPC wants it, read again whenever it has changed."""

    def __init__(self, authority: Authority, now: Callable[[], datetime]) -> None:
        self._authority = authority
        self._now = now
        self._seen: tuple[int, int] | None = None
        self._certificate: x509.Certificate | None = None

    def changed(self) -> tuple[bytes, bytes] | None:
        """(private key, certificate) as PEM; None where they are what they were last time.

        Raises:
            HomeError: the file is missing or damaged.
        """
        path = self._authority.home / TLS_NAME / SERVER_FILE
        known = self._certificate
        if known is None or is_half_over(known, SERVER_LIFE, self._now()):
            self._authority.renew_server_when_half_over(self._now())
        with _home_errors(path):
            status = path.stat()
        if (status.st_ino, status.st_mtime_ns) == self._seen:
            return None
        pair = Pair(read_certificate(path), _read_key(path))
        self._seen, self._certificate = (status.st_ino, status.st_mtime_ns), pair.certificate
        return pair.key_pem(), pair.certificate_pem()


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file.

    Raises:
        HomeError: it cannot be read, or has none.
    """
    return _read_certificates(path)[0]


def _two_certificates(path: Path) -> tuple[x509.Certificate, x509.Certificate]:
    """Of a client's file: whom to trust, and its own."""
    certificates = _read_certificates(path)
    if len(certificates) != 2:
        raise HomeError(f"{path}: expected two certificates, found {len(certificates)}")
    return certificates[0], certificates[1]


def _read_certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise HomeError(f"{path}: expected a certificate in PEM, found none") from error


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    content = _read(path)
    start = content.find(b"-----BEGIN PRIVATE KEY-----")
    try:
        key = serialization.load_pem_private_key(content[max(0, start) :], None)
    except (ValueError, TypeError) as error:
        raise HomeError(f"{path}: expected a private key in PEM, found none") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HomeError(f"{path}: expected a key of P-256, found another kind")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise HomeError(f"expected {path}, found none; `ota-server init` makes it") from error
    except OSError as error:
        raise HomeError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def _home_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HomeError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only process that makes keys here; the kernel frees it, however we end."""
    with (folder / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

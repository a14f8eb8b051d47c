"""A fleet's authority for tests of the device alone, where no server package is installed."""

import ipaddress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from edge_client.identity import Credential
from edge_client.identity.credential import DEVICE_URI

Key = ec.EllipticCurvePrivateKey
LONG = timedelta(days=900)


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class FakeAuthority:
    """Signs what it is asked to; `life` and `age` are those of devices' certificates."""

    key: Key = field(default_factory=new_key)
    life: timedelta = timedelta(days=90)
    age: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fleet")])
        self.name = name
        self.certificate = (
            _builder(name, name, self.key.public_key(), timedelta(days=1), LONG)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def server(self, *names: str) -> tuple[bytes, bytes]:
        """(key, certificate) of a server of these names, loopback without any."""
        key = new_key()
        alternatives = [_general(name) for name in names or ("localhost", "127.0.0.1", "::1")]
        return key_pem(key), self._sign(key, alternatives, timedelta(days=1), LONG)

    def enrolment(self) -> Credential:
        """What ca.pem holds."""
        key = new_key()
        uri = [x509.UniformResourceIdentifier("urn:neuraldiff:enrolment")]
        certificate = self._sign(key, uri, timedelta(days=1), LONG)
        return Credential(self.pem, certificate, key_pem(key))

    def device(self, device_id: str, public: ec.EllipticCurvePublicKey) -> bytes:
        """A device's certificate, DER."""
        uri = [x509.UniformResourceIdentifier(DEVICE_URI + device_id)]
        pem = self._sign(public, uri, self.age + timedelta(seconds=1), self.life - self.age)
        return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)

    def _sign(self, key, alternatives, age: timedelta, left: timedelta) -> bytes:
        public = key.public_key() if isinstance(key, Key) else key
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of the fleet")])
        return (
            _builder(subject, self.name, public, age, left)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(self.key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )


def _builder(subject, issuer, public, age: timedelta, left: timedelta):
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - age)
        .not_valid_after(now + left)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

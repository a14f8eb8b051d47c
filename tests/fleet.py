"""Certificates for tests: devices of a home that is served, and whoever should not get in.

credential = enrolled(home, "kitchen")            # accepted, without a call
with grpc.secure_channel(address, credential.for_channel()) as channel: ...
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from server.home import ServerHome
from server.identity.authority import CREDENTIAL_NAME, Authority, read_client_file
from server.identity.certificates import Pair, key_sha256, new_authority, new_key
from server.identity.keys import Policy, Verb
from server.registry.identities import POLICY, Identities

SHA256 = hashes.SHA256()


@dataclass(frozen=True)
class Credential:
    """What a client shows and trusts, in PEM."""

    roots: bytes
    certificate: bytes | None
    key: bytes | None

    def for_channel(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.roots, self.key, self.certificate)


def now() -> datetime:
    return datetime.now(UTC)


def of_enrolment(home: ServerHome) -> Credential:
    """The fleet's ca.pem."""
    return Credential(*read_client_file(home.folder / CREDENTIAL_NAME))


def open_to_all(home: ServerHome) -> None:
    Identities(home.registry).set(POLICY, Policy.OPEN, now())


def request_for(key: Any, common_name: str = "", algorithm: Any = SHA256) -> bytes:
    """A signing request, DER."""
    names = [x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)] if common_name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    return builder.sign(key, algorithm).public_bytes(Encoding.DER)


def enrolled(home: ServerHome, device_id: str = "", model: str = "", name: str = "") -> tuple:
    """(device id, credential) of a new device that was accepted."""
    key = new_key()
    identities = Identities(home.registry)
    sha256 = key_sha256(key.public_key())
    asked = identities.request(sha256, device_id, model, name, now())
    identities.decide(sha256, Verb.ACCEPT, now(), replace=True)
    return asked.device_id, signed(home.authority(), asked.device_id, key)


def signed(
    authority: Authority,
    device_id: str,
    key: ec.EllipticCurvePrivateKey,
    age: timedelta = timedelta(0),
) -> Credential:
    """A certificate of the fleet, as it would have been made some time ago."""
    certificate = authority.sign_device(device_id, key.public_key(), now() - age)
    return _shown(authority.devices, Pair(certificate, key))


def foreign(home: ServerHome, device_id: str) -> Credential:
    """A certificate of the same names, by another authority that calls itself the same."""
    name = home.authority().devices.certificate.subject.rfc4514_string().removeprefix("CN=")
    stranger = Authority(home.folder, new_authority(name, now()), new_authority(name, now()))
    other = signed(stranger, device_id, new_key())
    return Credential(of_enrolment(home).roots, other.certificate, other.key)


def nobody(home: ServerHome) -> Credential:
    """Trusts the fleet, and shows no certificate."""
    return Credential(of_enrolment(home).roots, None, None)


def _shown(authority: Pair, pair: Pair) -> Credential:
    return Credential(authority.certificate_pem(), pair.certificate_pem(), pair.key_pem())

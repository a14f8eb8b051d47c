"""What stands in the fleet's certificates: X.509, ECDSA on P-256, SHA-256.

Two authorities sign: one for devices, the enrolment credential and the servers, one for operators.
Whom a certificate names is one URI among its alternative names, which the authority writes and
never copies from a request:

    urn:neuraldiff:device:<id>    urn:neuraldiff:enrolment    urn:neuraldiff:operator:<role>:<name>

What a device checks (authorities, servers) is valid from 1970 on and far ahead, because a device
may have lost its clock. What the servers check is as short as it is useful.

    >>> identity_of(certificate, device_authority, operator_authority)
    DeviceIdentity(device_id='kitchen', key_sha256=b'...')
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.errors import RequestError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AUTHORITY_LIFE = timedelta(days=20 * 365)
ENROLMENT_LIFE = timedelta(days=10 * 365)
SERVER_LIFE = timedelta(days=3 * 365)
"""Renewed at half of it: a device whose clock is more than a year ahead still connects."""
DEVICE_LIFE = timedelta(days=90)
"""A device renews at half of it, and can enrol again by the same key after it."""
OPERATOR_LIFE = timedelta(days=365)
CLOCK_SKEW = timedelta(days=1)

LONGEST_REQUEST_BYTES = 4096
URN = "urn:neuraldiff:"
DEVICE, ENROLMENT, OPERATOR = "device", "enrolment", "operator"


class Role(StrEnum):
    """What an operator may do; each may do what those before it may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: "Role") -> bool:
        """Whether this role may do what the other one may."""
        roles = list(Role)
        return roles.index(self) >= roles.index(other)


@dataclass(frozen=True)
class DeviceIdentity:
    """A device, as its certificate names it, and the key that it has proven to hold."""

    device_id: str
    key_sha256: bytes


@dataclass(frozen=True)
class EnrolmentIdentity:
    """Whoever was given ca.pem."""

    key_sha256: bytes


@dataclass(frozen=True)
class OperatorIdentity:
    """A person, as the certificate names them."""

    name: str
    role: Role
    key_sha256: bytes


Identity = DeviceIdentity | EnrolmentIdentity | OperatorIdentity


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The private key, PKCS #8, not encrypted: the file's mode protects it."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def new_key() -> ec.EllipticCurvePrivateKey:
    """A key of the curve that every TLS library takes."""
    return ec.generate_private_key(ec.SECP256R1())


def key_sha256(key: ec.EllipticCurvePublicKey) -> bytes:
    """What a key is known by: SHA-256 of its SubjectPublicKeyInfo (DER)."""
    return sha256(
        key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    ).digest()


def new_authority(name: str, now: datetime) -> Pair:
    """An authority that signs end certificates, and no other authorities."""
    key = new_key()
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    certificate = (
        _builder(_name(name), _name(name), key.public_key(), EPOCH, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def server_certificate(authority: Pair, names: Sequence[str], now: datetime) -> Pair:
    """A new key and certificate for servers that are reached by these names and addresses."""
    key = new_key()
    alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
    builder = _end_builder(authority, names[0], key.public_key(), EPOCH, now + SERVER_LIFE)
    certificate = (
        builder.add_extension(alternatives, critical=False)
        .add_extension(_usage(ExtendedKeyUsageOID.SERVER_AUTH), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return Pair(certificate, key)


def enrolment_credential(authority: Pair, now: datetime) -> Pair:
    """A new key and certificate that devices ask for their own certificates with."""
    key = new_key()
    certificate = _client_certificate(
        authority, key.public_key(), ENROLMENT, ENROLMENT, EPOCH, now + ENROLMENT_LIFE
    )
    return Pair(certificate, key)


def device_certificate(
    authority: Pair, device_id: str, key: ec.EllipticCurvePublicKey, now: datetime
) -> x509.Certificate:
    """A device's certificate, for a key that the device made."""
    return _client_certificate(
        authority,
        key,
        device_id,
        f"{DEVICE}:{device_id}",
        now - CLOCK_SKEW,
        now + DEVICE_LIFE,
    )


def operator_credential(authority: Pair, name: str, role: Role, now: datetime) -> Pair:
    """A new key and certificate for a person."""
    key = new_key()
    certificate = _client_certificate(
        authority,
        key.public_key(),
        name,
        f"{OPERATOR}:{role}:{name}",
        now - CLOCK_SKEW,
        now + OPERATOR_LIFE,
    )
    return Pair(certificate, key)


def key_of_request(signing_request: bytes) -> ec.EllipticCurvePublicKey:
    """The key of a signing request, once its signature proves that the sender holds it.

    Nothing else is taken from the request: names in it are only claims.

    Args:
        signing_request: PKCS #10, DER.

    Raises:
        RequestError: it is no such thing, of another kind of key, or not signed by its key.
    """
    if len(signing_request) > LONGEST_REQUEST_BYTES:
        raise RequestError(
            f"signing_request: expected at most {LONGEST_REQUEST_BYTES} bytes, "
            f"found {len(signing_request)}"
        )
    try:
        request = x509.load_der_x509_csr(signing_request)
        key = request.public_key()
        is_signed = request.is_signature_valid
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise RequestError(
            "signing_request: expected a PKCS #10 signing request in DER, found other bytes"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RequestError("signing_request: expected a key of P-256, found another kind")
    if not is_signed:
        raise RequestError("signing_request: expected a signature by its own key, found another")
    return key


def identity_of(
    certificate: x509.Certificate,
    device_authority: x509.Certificate,
    operator_authority: x509.Certificate,
) -> Identity | None:
    """Whom a client's certificate names; None where it names nobody that we know.

    TLS has checked the signature and the time. Which of the two authorities signed is checked
    here: one must not make what only the other may.
    """
    key = certificate.public_key()
    words = _words_of(certificate)
    if words is None or not isinstance(key, ec.EllipticCurvePublicKey):
        return None
    kind, _, rest = words.partition(":")
    if kind in (DEVICE, ENROLMENT) and _is_signed_by(certificate, device_authority):
        if kind == ENROLMENT:
            return EnrolmentIdentity(key_sha256(key)) if not rest else None
        return DeviceIdentity(rest, key_sha256(key))
    if kind == OPERATOR and _is_signed_by(certificate, operator_authority):
        role, _, name = rest.partition(":")
        if role in list(Role):
            return OperatorIdentity(name, Role(role), key_sha256(key))
    return None


def is_half_over(certificate: x509.Certificate, life: timedelta, now: datetime) -> bool:
    """Whether less than half of a certificate's life is left."""
    return certificate.not_valid_after_utc - now < life / 2


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses of a server's certificate, in their order."""
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return tuple(str(general.value) for general in extension.value)


def require_server_name(text: str) -> str:
    """A host name or an address, fit for a certificate.

    Raises:
        RequestError: it is neither.
    """
    try:
        _general_name(text)
    except ValueError as error:
        raise RequestError(f"expected a host name or an address, found {text!r}") from error
    if not text or any(c.isspace() or not c.isprintable() or c in "/:," for c in text):
        try:
            ipaddress.ip_address(text)
        except ValueError as error:
            raise RequestError(f"expected a host name or an address, found {text!r}") from error
    return text


def _words_of(certificate: x509.Certificate) -> str | None:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(URN):
        return None
    return uris[0].removeprefix(URN)


def _is_signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _client_certificate(
    authority: Pair,
    key: ec.EllipticCurvePublicKey,
    common_name: str,
    words: str,
    start: datetime,
    end: datetime,
) -> x509.Certificate:
    # Never beyond the authority's own end: BoringSSL would refuse the chain.
    end = min(end, authority.certificate.not_valid_after_utc)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URN + words)])
    return (
        _end_builder(authority, common_name, key, start, end)
        .add_extension(uri, critical=False)
        .add_extension(_usage(ExtendedKeyUsageOID.CLIENT_AUTH), critical=False)
        .sign(authority.key, hashes.SHA256())
    )


def _end_builder(
    authority: Pair,
    common_name: str,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        _builder(_name(common_name), authority.certificate.subject, key, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )


def _name(common_name: str) -> x509.Name:
    # X.520 ends a common name at 64 characters; who it is stands in the URI anyway.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(purpose: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage([purpose])


def _key_usage(
    digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

"""Whom to trust and who one is, as TLS wants it; and the certificates of this device.

Keys are ECDSA on P-256. A key is known by the SHA-256 of its SubjectPublicKeyInfo in DER, and a
device by the one URI among its certificate's alternative names, urn:neuraldiff:device:<id>.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge_client.errors import CredentialError

DEVICE_URI = "urn:neuraldiff:device:"
CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----\s*", re.DOTALL
)
KEY = re.compile(rb"-----BEGIN PRIVATE KEY-----\s.*?-----END PRIVATE KEY-----\s*", re.DOTALL)


@dataclass(frozen=True)
class Credential:
    """PEM: the authority that servers must be signed by, a certificate, and its private key."""

    authority: bytes
    certificate: bytes
    key: bytes

    @classmethod
    def from_pem(cls, content: bytes) -> "Credential":
        """Read a file such as ca.pem: authority, certificate and key, in this order.

        Raises:
            CredentialError: it is not such a file.
        """
        certificates, keys = CERTIFICATE.findall(content), KEY.findall(content)
        if len(certificates) != 2 or len(keys) != 1:
            raise CredentialError(
                "expected two certificates and a private key in PEM, such as ca.pem of "
                f"`ota-server init`, found {len(certificates)} and {len(keys)}"
            )
        credential = cls(certificates[0], certificates[1], keys[0])
        try:
            load_certificate(credential.authority)
            own = load_certificate(credential.certificate)
        except ValueError as error:
            raise CredentialError(f"expected sound certificates, found: {error}") from error
        if own.public_key() != load_key(credential.key).public_key():
            raise CredentialError("expected the key of its certificate, found another")
        return credential

    def to_pem(self) -> bytes:
        """The file again."""
        return self.authority + self.certificate + self.key


def new_key() -> bytes:
    """A new private key, PKCS #8 in PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read a private key.

    Raises:
        CredentialError: it is none, or of another kind.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise CredentialError("expected a private key in PEM, found other bytes") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CredentialError("expected a private key of P-256, found another kind")
    return key


def load_certificate(pem: bytes) -> x509.Certificate:
    """Read a certificate; ValueError where it is none."""
    return x509.load_pem_x509_certificate(pem)


def key_sha256(key: ec.EllipticCurvePrivateKey) -> bytes:
    """What the key is known by to people and servers."""
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256(public).digest()


def signing_request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS #10 in DER. It proves that we hold the key, and claims nothing else."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def own_certificate(
    der: bytes, device_id: str, key: ec.EllipticCurvePrivateKey, authority: bytes
) -> bytes:
    """A certificate that the server gave us, in PEM, once it is seen to be ours.

    Raises:
        CredentialError: it is of another key, device or authority, or none at all.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        certificate.verify_directly_issued_by(load_certificate(authority))
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise CredentialError("expected a certificate of the fleet, found other bytes") from error
    uris = names.value.get_values_for_type(x509.UniformResourceIdentifier)
    if certificate.public_key() != key.public_key() or uris != [DEVICE_URI + device_id]:
        raise CredentialError(
            f"expected a certificate for this device's key and id {device_id!r}, found another"
        )
    return certificate.public_bytes(serialization.Encoding.PEM)


def is_due(pem: bytes, now: datetime) -> bool:
    """Whether to renew a certificate: half of its life is over, or it has not begun.

    The latter is what a clock says that was lost; then renewing is the safe thing, too.
    """
    certificate = load_certificate(pem)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return not start <= now < start + (end - start) / 2

"""Errors of the device, grouped by what to do about them.

EdgeError
├── RetryLaterError             nothing is wrong with the offer or the device: try again later
│   ├── ServerUnavailableError  nobody answers, or not in time
│   │   ├── ServerBusyError     it answers that too many ask at once
│   │   ├── SlowServerError     a download is slower than any link that is in use
│   │   ├── CertificateRefusedError  the server does not take our certificate
│   │   └── UntrustedServerError     its certificate is not the fleet's, or for another name
│   ├── NotYetAcceptedError     an operator has not decided on our key
│   ├── ServerFaultError        the server answers, but with a failure of its own
│   │   └── MissingMetadataError  it has no such file of signed metadata
│   ├── StaleError              what is signed has expired: keep serving, install nothing
│   ├── WithdrawnError          the server takes back what it offered
│   ├── DiskFullError           make room first
│   ├── StorageError            the disk or its permissions fail
│   └── HomeBusyError           another process works on the same home
├── RejectedError               what was offered is refused; the installed generation stays
│   ├── TrustError              signed metadata or a manifest cannot be believed
│   │   ├── UnsignedError       nothing that is signed names what was offered
│   │   ├── ReplayError         metadata that is older than what was seen before
│   │   ├── MixedError          plan, manifest and device do not belong together
│   │   ├── OversizedError      longer than was signed
│   │   ├── RevokedError        the generation was revoked
│   │   └── BelowFloorError     older than a generation that was committed here
│   ├── OfferError              the plan contradicts itself
│   ├── BlobError               a file is not what its SHA-256 and length promise
│   ├── CorruptDiffError        a diff cannot be decoded
│   ├── UnsupportedDiffError    a diff of a version or method that this program lacks
│   ├── WrongBaseError          a diff is for other weights than those that the device holds
│   ├── DigestMismatchError     the rebuilt weights are not those that were promised
│   └── UnhealthyError          the new generation does not load or does not answer
└── ConfigurationError          a person must change something
    ├── AddressError            a server's address that cannot be used
    ├── HomeError               the home's own files are missing or damaged
    │   └── UnreadableSlotError the installed generation cannot be read; an update replaces it
    ├── NoRootError             no root of trust is pinned, or not a sound one: enrol again
    ├── NotEnrolledError        enrol first
    ├── AlreadyEnrolledError    the home belongs to another model
    ├── ListError               a list of recordings cannot be read
    ├── NoGenerationError       nothing is installed yet: update first
    ├── NoCardError             what is installed is a model for another program
    ├── CredentialError         ca.pem, our key or our certificate cannot be used
    ├── AccessDeniedError       our key was rejected or revoked, or may not do this
    ├── UnknownDeviceError      the server does not know this device or model
    └── UnknownGenerationError  the server knows no way on from what this device runs

Every class has a `code`: a stable word for the report to the server. Messages are one line for
people and say what was expected and what was found.
"""

from typing import ClassVar

LONGEST_QUOTE = 200


class EdgeError(Exception):
    """Base of all errors of this package."""

    code: ClassVar[str] = "INTERNAL"


class RetryLaterError(EdgeError):
    """Nothing is wrong with the offer or the device; the same command may succeed later."""

    code = "RETRY"


class ServerUnavailableError(RetryLaterError):
    """Nobody answers at the server's address, or not before the deadline."""

    code = "SERVER_UNAVAILABLE"


class ServerBusyError(ServerUnavailableError):
    """Too many devices ask the server at once."""


class WithdrawnError(RetryLaterError):
    """The server took back what it had offered, before it was activated."""

    code = "WITHDRAWN"


class CertificateRefusedError(ServerUnavailableError):
    """The server answers and ends the handshake: it does not take this device's certificate."""

    code = "CERTIFICATE_REFUSED"


class UntrustedServerError(ServerUnavailableError):
    """Whoever answers has no certificate of the fleet for the name that was called."""

    code = "UNTRUSTED_SERVER"


class NotYetAcceptedError(RetryLaterError):
    """An operator has to accept this device's key first."""

    code = "NOT_YET_ACCEPTED"


class SlowServerError(ServerUnavailableError):
    """A download brings fewer bytes a second than the least that is accepted; it can resume."""

    code = "TOO_SLOW"


class ServerFaultError(RetryLaterError):
    """The server answered with a failure that no rule here expects."""

    code = "SERVER_FAULT"


class MissingMetadataError(ServerFaultError):
    """The server has no metadata of this role and version."""

    code = "NO_METADATA"


class StaleError(RetryLaterError):
    """The signed metadata has expired; what is installed keeps serving.

    Somebody keeps newer metadata from this device, the server has lost its keys, or the clock is
    wrong.
    """

    code = "STALE"


class DiskFullError(RetryLaterError):
    """There is no room for the update."""

    code = "DISK_FULL"


class StorageError(RetryLaterError):
    """The operating system refused to read or write a file of the home."""

    code = "STORAGE"


class HomeBusyError(RetryLaterError):
    """Another process holds the home's lock."""

    code = "HOME_BUSY"


class RejectedError(EdgeError):
    """What was offered is refused. The installed generation keeps serving."""

    code = "REJECTED"


class TrustError(RejectedError):
    """Signed metadata or a manifest cannot be believed: a wrong signature, or no sound file."""

    code = "UNTRUSTED"


class UnsignedError(TrustError):
    """Nothing that is signed names the generation, or a file of the plan."""

    code = "UNSIGNED"


class ReplayError(TrustError):
    """Metadata of a version that is older than one that was seen before."""

    code = "REPLAYED"


class MixedError(TrustError):
    """Plan, manifest and what the device holds do not belong together."""

    code = "MIXED"


class OversizedError(TrustError):
    """Metadata or a file is longer than what was signed, or than any may be."""

    code = "OVERSIZED"


class RevokedError(TrustError):
    """The generation was revoked: it is never installed again."""

    code = "REVOKED"


class BelowFloorError(TrustError):
    """The generation is older than one that was committed on this device."""

    code = "BELOW_FLOOR"


class OfferError(RejectedError):
    """The plan contradicts itself or what was asked."""

    code = "BAD_PLAN"


class BlobError(RejectedError):
    """A file is missing on the server, longer than announced, or has another SHA-256."""

    code = "BLOB_MISMATCH"


class CorruptDiffError(RejectedError):
    """A diff cannot be decoded or does not fit its base's layout."""

    code = "CORRUPT_DIFF"


class UnsupportedDiffError(RejectedError):
    """A diff is of a version, method or coder that this program cannot decode."""

    code = "UNSUPPORTED_DIFF"


class WrongBaseError(RejectedError):
    """A diff was made for other weights than those that the device holds."""

    code = "WRONG_BASE"


class DigestMismatchError(RejectedError):
    """Weights, graph or card on disk are not those that were promised."""

    code = "DIGEST_MISMATCH"


class UnhealthyError(RejectedError):
    """A generation does not load in ONNX Runtime, or gives no usable answer."""

    code = "UNHEALTHY"


class ConfigurationError(EdgeError):
    """A person must change something before the same command can succeed."""

    code = "CONFIGURATION"


class AddressError(ConfigurationError):
    """A server address that is not HOST:PORT."""


class HomeError(ConfigurationError):
    """The home's own files are missing, damaged, or of another version."""

    code = "HOME_DAMAGED"


class UnreadableSlotError(HomeError):
    """Pointer, record or layout of what is installed is damaged; a snapshot can replace it."""


class NoRootError(ConfigurationError):
    """The home has no root of trust, or one that is damaged."""

    code = "NO_ROOT"


class NotEnrolledError(ConfigurationError):
    """The home follows no model yet."""


class AlreadyEnrolledError(ConfigurationError):
    """The home follows another model."""


class ListError(ConfigurationError):
    """A list of recordings cannot be read or is not text."""


class NoGenerationError(ConfigurationError):
    """No generation is installed yet."""


class NoCardError(ConfigurationError):
    """The installed model lacks the graph or the card that recognition needs."""


class CredentialError(ConfigurationError):
    """The fleet's ca.pem, this device's key or its certificate is missing or damaged."""

    code = "CREDENTIAL"


class AccessDeniedError(ConfigurationError):
    """The server knows this device's key and refuses it, or refuses it this call."""

    code = "ACCESS_DENIED"


class UnknownDeviceError(ConfigurationError):
    """The server knows no such device, model or attempt."""

    code = "UNKNOWN_DEVICE"


class UnknownGenerationError(ConfigurationError):
    """The server does not know the generation that this device runs, or no way on from it."""

    code = "UNKNOWN_GENERATION"


def one_line(text: str) -> str:
    """Somebody else's words, fit for one line of a terminal: printable and not too long."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:LONGEST_QUOTE]

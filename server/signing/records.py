"""The values of signing that the registry keeps."""

from dataclasses import dataclass
from datetime import datetime

from server.domain import Blob


@dataclass(frozen=True)
class SignedFile:
    """One version of a role's metadata, as bytes that are never changed again.

    Attributes:
        role: Whose.
        version: As it says itself.
        replaces: The version before it, 0 for the first; a version is replaced once, so of two
            writers one loses.
        content: The signed JSON.
        expires_at: As it says itself.
    """

    role: str
    version: int
    replaces: int
    content: bytes
    expires_at: datetime


@dataclass(frozen=True)
class ManifestRecord:
    """The manifest of a generation: the blob, the SHA-256 of the diffs that it names."""

    model: str
    generation: int
    blob: Blob
    diffs: frozenset[bytes] = frozenset()
    is_revoked: bool = False


@dataclass(frozen=True)
class UnnamedStep:
    """A diff that was made after its target's manifest was signed, so that it does not name it."""

    model: str
    target: int
    diff: Blob


@dataclass(frozen=True)
class SignedRelease:
    """What makes a generation trusted; stored in one transaction with it."""

    manifest: ManifestRecord
    files: tuple[SignedFile, ...]

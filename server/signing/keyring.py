"""Private keys, as files of folders that can lie on different machines.

    HOME/keys/offline/root-1f0c92aa.pem       not needed to serve or to publish: move it away
    HOME/keys/offline/targets-93bd01e2.pem
    HOME/keys/releases/releases-77aa0c1d.pem  what a publisher needs
    HOME/keys/online/snapshot-....pem         what a server needs; timestamp-, routes- too

A file is named by its role and the beginning of its key id, so a rotation only adds files. Which
of them counts is what the metadata says. Ed25519, PKCS #8 in PEM, not encrypted: file
permissions protect them (0600 in folders of 0700).
"""

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from diffcodec.durable import sync_folder
from server.errors import HomeError, MissingKeyError
from server.signing.roles import OFFLINE, RELEASES

KEYS_NAME = "keys"
SHOWN_ID = 8
"""Hex digits of a key id in a file's name."""


@dataclass(frozen=True)
class Keyring:
    """Where the keys of a home lie. Nothing is read before it is needed."""

    folder: Path
    offline: Path

    @classmethod
    def of(cls, home: Path, offline: Path | None = None) -> "Keyring":
        """The keys of a home; `offline` where those are kept elsewhere."""
        folder = home / KEYS_NAME
        return cls(folder, offline or folder / "offline")

    def folder_of(self, role: str) -> Path:
        """Where a role's keys lie."""
        if role in OFFLINE:
            return self.offline
        return self.folder / (RELEASES if role == RELEASES else "online")

    def make(self, role: str) -> CryptoSigner:
        """Make a key and write it, durably.

        Raises:
            HomeError: it cannot be written.
        """
        signer = CryptoSigner.generate_ed25519()
        folder = self.folder_of(role)
        path = folder / f"{role}-{signer.public_key.keyid[:SHOWN_ID]}.pem"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(signer.private_bytes)
                file.flush()
                os.fsync(file.fileno())
            sync_folder(folder)
        except OSError as error:
            raise HomeError(f"{path}: the key cannot be written: {error.strerror}") from error
        return signer

    def signer(self, role: str, keyids: list[str]) -> CryptoSigner:
        """The key of a role.

        Args:
            role: Whose.
            keyids: The keys that the metadata trusts for it.

        Raises:
            MissingKeyError: none of them is here.
        """
        for path in self.files(role):
            signer = _load(path)
            if signer.public_key.keyid in keyids:
                return signer
        wanted = " or ".join(f"{role}-{keyid[:SHOWN_ID]}.pem" for keyid in keyids)
        raise MissingKeyError(
            f"expected the key {wanted} in {self.folder_of(role)}, found none that is trusted"
        )

    def holds(self, role: str, keyids: list[str]) -> bool:
        """Whether the key of a role is here."""
        try:
            self.signer(role, keyids)
        except MissingKeyError:
            return False
        return True

    def files(self, role: str) -> list[Path]:
        """The key files of a role, trusted or not."""
        return sorted(self.folder_of(role).glob(f"{role}-*.pem"))


def remove(path: Path) -> None:
    """Remove a key file that nothing trusts."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def _load(path: Path) -> CryptoSigner:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise MissingKeyError(
            f"{path}: expected a readable private key: {error.strerror}"
        ) from error
    except (ValueError, TypeError) as error:
        raise MissingKeyError(f"{path}: expected a private key in PEM, found none") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise MissingKeyError(f"{path}: expected an Ed25519 key, found another kind")
    return CryptoSigner(key)

"""Private keys, as files of folders that can lie on different machines.

    HOME/keys/offline/root-1f0c92aa.pem       not needed to serve or to publish: move it away
    HOME/keys/offline/targets-93bd01e2.pem
    HOME/keys/releases/releases-77aa0c1d.pem  what a publisher needs
    HOME/keys/online/snapshot-....pem         what a server needs; timestamp-, routes- too

A file is named by its role and the beginning of its key id, so a rotation only adds files. Which
of them counts is what the metadata says. Ed25519, PKCS #8 in PEM, not encrypted: file
permissions protect them (0600 in folders of 0700).
"""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from diffcodec.durable import sync_folder
from server.durable import write_secret
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

    def path_of(self, role: str, keyid: str) -> Path:
        """The file of a key, whether it is here or not."""
        return self.folder_of(role) / f"{role}-{keyid[:SHOWN_ID]}.pem"

    def make(self, role: str) -> CryptoSigner:
        """Make a key and write it, durably.

        Raises:
            HomeError: it cannot be written.
        """
        signer = CryptoSigner.generate_ed25519()
        path = self.path_of(role, signer.public_key.keyid)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_secret(path, signer.private_bytes)
        except OSError as error:
            raise HomeError(f"{path}: the key cannot be written: {error.strerror}") from error
        return signer

    def remove(self, role: str, keyid: str) -> None:
        """Remove a key that nothing trusts."""
        path = self.path_of(role, keyid)
        path.unlink(missing_ok=True)
        sync_folder(path.parent)

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
        wanted = " or ".join(self.path_of(role, keyid).name for keyid in keyids)
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

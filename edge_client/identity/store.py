"""Where a device keeps its key and certificates, each file whole at any time.

    HOME/identity/              mode 0700
    HOME/identity/key.pem           0600: made here, never sent
    HOME/identity/ca.pem            0600: the fleet's, as it was given to us
    HOME/identity/certificate.pem   ours, once the fleet has accepted the key

The key is durable before anybody hears of it: a device that loses power in the middle of
enrolment asks again by the same key, and is the same device.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_client import durable
from edge_client.errors import CredentialError
from edge_client.identity.credential import Credential, load_certificate, load_key, new_key


@dataclass(frozen=True)
class IdentityStore:
    """The folder. Making one touches nothing; write to it while the home is locked."""

    path: Path

    def key(self) -> bytes | None:
        """The private key (PEM); None where there is none yet.

        Raises:
            CredentialError: the file is damaged.
        """
        content = self._read("key.pem")
        if content is not None:
            try:
                load_key(content)
            except CredentialError as error:
                raise CredentialError(f"{self.path / 'key.pem'}: {error}") from error
        return content

    def make_key(self) -> bytes:
        """The private key (PEM), made and durable if there was none."""
        key = self.key()
        if key is None:
            durable.make_folder(self.path)
            with durable.storage_errors(f"cannot protect {self.path}"):
                self.path.chmod(0o700)
            key = new_key()
            durable.write(self.path / "key.pem", key, is_secret=True)
        return key

    def fleet(self) -> Credential:
        """The fleet's enrolment credential.

        Raises:
            CredentialError: there is none, or it is damaged.
        """
        path = self.path / "ca.pem"
        content = self._read(path.name)
        if content is None:
            raise CredentialError(
                f"expected the fleet's ca.pem, found no {path}; run: ota-edge enroll --ca FILE"
            )
        try:
            return Credential.from_pem(content)
        except CredentialError as error:
            raise CredentialError(f"{path}: {error}") from error

    def has_fleet(self) -> bool:
        """Whether there is a ca.pem, sound or not."""
        return (self.path / "ca.pem").exists()

    def save_fleet(self, fleet: Credential) -> None:
        """Keep the fleet's enrolment credential; nothing is written where it is kept already."""
        content = fleet.to_pem()
        if self._read("ca.pem") != content:
            durable.write(self.path / "ca.pem", content, is_secret=True)

    def credential(self) -> Credential:
        """Who this device is, for every call but enrolment.

        Raises:
            CredentialError: a part of it is missing or damaged.
        """
        path = self.path / "certificate.pem"
        certificate, key = self._read(path.name), self.key()
        if certificate is None or key is None:
            missing = path if certificate is None else self.path / "key.pem"
            raise CredentialError(f"expected {missing}, found none; run: ota-edge enroll")
        try:
            public = load_certificate(certificate).public_key()
        except ValueError as error:
            raise CredentialError(
                f"{path}: expected a certificate, found other bytes; run: ota-edge enroll"
            ) from error
        if public != load_key(key).public_key():
            raise CredentialError(
                f"{path}: expected a certificate for the key in key.pem, found another; "
                "run: ota-edge enroll"
            )
        return Credential(self.fleet().authority, certificate, key)

    def save_certificate(self, pem: bytes) -> None:
        """Keep this device's certificate, in the place of an older one."""
        durable.write(self.path / "certificate.pem", pem)

    def _read(self, name: str) -> bytes | None:
        path = self.path / name
        with durable.storage_errors(f"cannot read {path}"):
            return path.read_bytes() if path.exists() else None

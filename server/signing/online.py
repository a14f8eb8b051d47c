"""Keep what a server signs by itself fresh: routes, snapshot, timestamp.

Whoever asks for the timestamp asks for this first, on every replica. Nothing is remembered
between calls: what is due follows from the registry, and of two replicas that sign at once one
wins and the other reads what it wrote. So a publisher needs no online key, and a server no other.

    >>> OnlineSigner(registry.signing, keyring).freshen()
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Snapshot, Targets, Timestamp

from server.clock import Clock, utc_now
from server.errors import ConflictError
from server.registry.signing import SigningRecords
from server.signing.documents import (
    is_due,
    is_signed_by,
    keyids_of,
    read,
    routes_document,
    signed,
    snapshot_document,
    timestamp_document,
)
from server.signing.keyring import Keyring
from server.signing.records import SignedFile, UnnamedStep
from server.signing.roles import ONLINE, ROUTES, SNAPSHOT, TIMESTAMP

TRIES = 5
"""Replicas that sign at the same moment; each loss means that another one has won."""

SignerOf = Callable[[str], CryptoSigner]


class OnlineSigner:
    """Signs with the online keys what has changed or comes to its end."""

    def __init__(self, records: SigningRecords, keys: Keyring, now: Clock = utc_now) -> None:
        self._records = records
        self._keys = keys
        self._now = now

    def freshen(self) -> None:
        """Sign what is due.

        Raises:
            MissingKeyError: something is due whose key is not here.
            ConflictError: others were faster, again and again.
            RegistryError: the database failed.
        """
        for _ in range(TRIES - 1):
            try:
                return self._freshen()
            except ConflictError:
                continue
        return self._freshen()

    def read(self, role: str, version: int) -> bytes:
        """A file of metadata; the newest timestamp is fresh, and so is what it leads to.

        Raises:
            NotFoundError: there is none of this role and version.
            As `freshen`.
        """
        if role == TIMESTAMP:
            self.freshen()
        return self._records.read(role, version)

    def require_keys(self) -> None:
        """Find out when a server starts, and not in a night when they are needed.

        Raises:
            MissingKeyError: a key of an online role is not here.
        """
        files = self._records.latest()
        for role in ONLINE:
            self._keys.signer(role, keyids_of(role, files))

    def _freshen(self) -> None:
        latest = self._records.latest()
        new = due_files(latest, self._records.unnamed_steps(), self._now(), self._signer(latest))
        if new:
            self._records.add(new)

    def _signer(self, latest: Mapping[str, SignedFile]) -> SignerOf:
        return lambda role: self._keys.signer(role, keyids_of(role, latest))


def due_files(
    latest: Mapping[str, SignedFile],
    unnamed: tuple[UnnamedStep, ...],
    now: datetime,
    signer_of: SignerOf,
) -> tuple[SignedFile, ...]:
    """What must be signed now, so that all of it agrees and holds.

    Args:
        latest: The newest file of each role.
        unnamed: Diffs that only `routes` can name.
        now: The time.
        signer_of: The key of a role.
    """
    files, new = dict(latest), []

    def sign(role: str, document: Targets | Snapshot | Timestamp) -> None:
        files[role] = signed(role, document, [signer_of(role)], latest.get(role), now)
        new.append(files[role])

    routes = routes_document(unnamed)
    if _is_stale(ROUTES, files, now) or read(Targets, files[ROUTES]).targets != routes.targets:
        sign(ROUTES, routes)
    snapshot = snapshot_document(files)
    if _is_stale(SNAPSHOT, files, now) or read(Snapshot, files[SNAPSHOT]).meta != snapshot.meta:
        sign(SNAPSHOT, snapshot)
    timestamp = timestamp_document(files[SNAPSHOT])
    if (
        _is_stale(TIMESTAMP, files, now)
        or read(Timestamp, files[TIMESTAMP]).snapshot_meta != timestamp.snapshot_meta
    ):
        sign(TIMESTAMP, timestamp)
    return tuple(new)


def _is_stale(role: str, files: Mapping[str, SignedFile], now: datetime) -> bool:
    """Whether it is missing, comes to its end, or was signed by a key that was replaced."""
    file = files.get(role)
    return file is None or is_due(file, now) or not is_signed_by(file, keyids_of(role, files))

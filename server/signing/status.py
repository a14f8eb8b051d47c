"""What is signed by whom, until when, and which keys are here. Values only; the cli prints them."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from server.registry import Registry
from server.signing.documents import first_to_end, keyids_of
from server.signing.keyring import Keyring
from server.signing.releasing import require_founded
from server.signing.roles import ROLES, ROOT, needs_somebody


@dataclass(frozen=True)
class RoleStatus:
    """One role.

    Attributes:
        role: Its name.
        version: Of its newest metadata.
        expires_at: When that expires, or the first of the lists of `releases`; ISO 8601.
        is_due: Less than a quarter of its time is left, and no server renews it by itself.
        keyid: The key that is trusted.
        is_key_here: Whether that key is in its folder on this machine.
        unused: Key files of the role that nothing trusts any more.
    """

    role: str
    version: int
    expires_at: str
    is_due: bool
    keyid: str
    is_key_here: bool
    unused: tuple[str, ...]


@dataclass(frozen=True)
class KeysStatus:
    """All roles, and the SHA-256 of the root that devices pin."""

    root_sha256: str
    roles: tuple[RoleStatus, ...]


def keys_status(registry: Registry, keys: Keyring, now: datetime) -> KeysStatus:
    """Look at metadata and key files; nothing is changed.

    Raises:
        InputError: nothing was ever signed.
    """
    latest = registry.signing.latest()
    require_founded(latest)
    roles = []
    for role in ROLES:
        expires_at, keyids = first_to_end(role, latest).expires_at, keyids_of(role, latest)
        trusted = [keys.path_of(role, keyid) for keyid in keyids]
        roles.append(
            RoleStatus(
                role=role,
                version=latest[role].version,
                expires_at=expires_at.isoformat(timespec="seconds"),
                is_due=needs_somebody(role, expires_at, now),
                keyid=keyids[0],
                is_key_here=keys.holds(role, keyids),
                unused=tuple(str(path) for path in keys.files(role) if path not in trusted),
            )
        )
    return KeysStatus(hashlib.sha256(latest[ROOT].content).hexdigest(), tuple(roles))

"""What needs the offline keys: the first root, and every change of a key.

Each one ends in a single transaction of new metadata; keys are written before it, so that a crash
leaves at most a key that nothing trusts. Devices learn of a new root by themselves.

    >>> found(registry, keyring, now)
    >>> rotate(registry, keyring, "releases", now)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Root, Targets

from server.errors import ConflictError
from server.registry import Registry
from server.signing.documents import (
    KEYS_OF_ROOT,
    keyids_of,
    read,
    releases_documents,
    root_document,
    routes_document,
    signed,
    targets_document,
)
from server.signing.keyring import Keyring
from server.signing.online import due_files
from server.signing.records import SignedFile
from server.signing.releasing import due_releases, require_founded
from server.signing.roles import (
    MODEL_PATHS,
    ONLINE,
    RELEASES,
    ROLES,
    ROOT,
    ROUTES,
    TARGETS,
    family_of,
)

Files = dict[str, SignedFile]


def is_founded(registry: Registry) -> bool:
    """Whether there is a root already."""
    return ROOT in registry.signing.latest()


def found(registry: Registry, keys: Keyring, now: datetime) -> None:
    """Make all keys and the first version of all metadata.

    Raises:
        ConflictError: somebody else did so meanwhile; the keys made here are removed.
        HomeError: a key cannot be written.
    """
    signers = {role: keys.make(role) for role in ROLES}
    public = {role: signer.public_key for role, signer in signers.items()}
    documents: dict[str, Root | Targets] = {
        ROOT: root_document(public),
        TARGETS: targets_document(public[RELEASES], public[ROUTES], MODEL_PATHS),
        **releases_documents(public[RELEASES], ()),
        ROUTES: routes_document(()),
    }
    files: Files = {
        role: signed(role, document, [signers[role]], None, now)
        for role, document in documents.items()
    }
    online = due_files(files, (), now, lambda role: signers[role])
    try:
        registry.signing.change("keys.make", ROLES, [*files.values(), *online], now)
    except ConflictError:
        for role, signer in signers.items():
            keys.remove(role, signer.public_key.keyid)
        raise


def rotate(
    registry: Registry,
    keys: Keyring,
    roles: Sequence[str],
    now: datetime,
    paths: Sequence[str] | None = None,
) -> tuple[str, ...]:
    """Give roles new keys; the old ones are trusted no longer.

    Args:
        registry: Where the metadata is.
        keys: Where the offline keys are, and the new ones go.
        roles: Which ones.
        now: The time.
        paths: What `releases` may sign from now on; else as before.

    Returns:
        The roles whose metadata is new.

    Raises:
        MissingKeyError: an offline key that is needed is not here.
        ConflictError: somebody else signed meanwhile; nothing was changed.
    """
    latest = registry.signing.latest()
    require_founded(latest)
    old = _Signers(keys, latest)
    if set(roles) & set(KEYS_OF_ROOT):
        old.of(ROOT)  # before a key is made in vain
    if set(roles) & {RELEASES, ROUTES, TARGETS}:
        old.of(TARGETS)
    fresh = {role: keys.make(role) for role in roles}
    files = dict(latest)
    new: Files = {}
    if set(roles) & set(KEYS_OF_ROOT):
        new[ROOT] = files[ROOT] = _new_root(old, fresh, latest, now)
    if set(roles) & {TARGETS, RELEASES, ROUTES}:
        new[TARGETS] = files[TARGETS] = _new_targets(old, fresh, latest, now, paths)
    if RELEASES in roles:
        for file in due_releases(latest, registry.signing.manifests(), fresh[RELEASES], now):
            new[file.role] = files[file.role] = file
    if all(role in fresh or keys.holds(role, keyids_of(role, files)) for role in ONLINE):
        # A server would do it when it is asked next; here it is done at once.
        unnamed = registry.signing.unnamed_steps()
        for file in due_files(files, unnamed, now, lambda r: fresh.get(r) or old.of(r)):
            new[file.role] = file
    registry.signing.change("keys.rotate", roles, list(new.values()), now)
    return tuple(new)


def renew(registry: Registry, keys: Keyring, roles: Sequence[str], now: datetime) -> None:
    """Sign metadata again by the same keys, so that it holds for its whole time anew.

    Raises:
        MissingKeyError: a key is not here.
        ConflictError: somebody else signed meanwhile; nothing was changed.
    """
    latest = registry.signing.latest()
    require_founded(latest)
    files = [
        signed(
            role,
            read(Root, latest[role]) if role == ROOT else read(Targets, latest[role]),
            [keys.signer(family_of(role), keyids_of(role, latest))],
            latest[role],
            now,
        )
        for role in latest
        if family_of(role) in roles
    ]
    registry.signing.change("keys.renew", roles, files, now)


@dataclass(frozen=True)
class _Signers:
    """The keys that are trusted until now."""

    keys: Keyring
    latest: Mapping[str, SignedFile]

    def of(self, role: str) -> CryptoSigner:
        return self.keys.signer(role, keyids_of(role, self.latest))


def _new_root(
    old: _Signers,
    fresh: Mapping[str, CryptoSigner],
    latest: Mapping[str, SignedFile],
    now: datetime,
) -> SignedFile:
    """Signed by the old root's key and by its own: devices follow from one to the other."""
    before = read(Root, latest[ROOT])
    public = {
        role: fresh[role].public_key if role in fresh else before.keys[before.roles[role].keyids[0]]
        for role in KEYS_OF_ROOT
    }
    signers = [old.of(ROOT)] + ([fresh[ROOT]] if ROOT in fresh else [])
    return signed(ROOT, root_document(public), signers, latest[ROOT], now)


def _new_targets(
    old: _Signers,
    fresh: Mapping[str, CryptoSigner],
    latest: Mapping[str, SignedFile],
    now: datetime,
    paths: Sequence[str] | None,
) -> SignedFile:
    before = read(Targets, latest[TARGETS])
    public = {
        role: fresh[role].public_key
        if role in fresh
        else before.get_key(before.get_delegated_role(role).keyids[0])
        for role in (RELEASES, ROUTES)
    }
    delegated = before.get_delegated_role(RELEASES)
    known = delegated.paths if isinstance(delegated, DelegatedRole) else None
    document = targets_document(public[RELEASES], public[ROUTES], paths or known or MODEL_PATHS)
    signer = fresh.get(TARGETS) or old.of(TARGETS)
    return signed(TARGETS, document, [signer], latest[TARGETS], now)

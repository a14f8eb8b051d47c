"""Metadata as values: written, signed and compared here. Pure; keys and times come in.

Versions of all roles but root are seconds since 1970, or one more than the last: a database that
was restored from a backup still signs newer versions than any device has seen. Root counts by
ones, as TUF demands. JSON is compact: devices pay for every byte.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from server.domain import Blob
from server.signing.records import ManifestRecord, SignedFile, UnnamedStep
from server.signing.roles import (
    LISTED_GENERATIONS,
    RELEASES,
    ROOT,
    ROUTE_PATHS,
    ROUTES,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    family_of,
    lifetime_of,
    list_role,
    manifest_path,
    model_pattern,
    revocations_path,
    route_path,
)

Document = TypeVar("Document", Root, Timestamp, Snapshot, Targets)
NOTHING = b""

KEYS_OF_ROOT = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP)
APART_FROM_SNAPSHOT = (ROOT, SNAPSHOT, TIMESTAMP)


def root_document(keys: Mapping[str, Key]) -> Root:
    """A root that trusts one key for each of its roles."""
    roles = {role: Role([keys[role].keyid], 1) for role in KEYS_OF_ROOT}
    used = {keys[role].keyid: keys[role] for role in KEYS_OF_ROOT}
    return Root(keys=used, roles=roles, consistent_snapshot=True)


def targets_document(releases: Key, routes: Key, paths: Sequence[str]) -> Targets:
    """Delegate releases and routes; `targets` itself lists nothing."""
    # Terminating: what `releases` does not list is not looked for elsewhere.
    roles = {
        ROUTES: DelegatedRole(ROUTES, [routes.keyid], 1, True, paths=list(ROUTE_PATHS)),
        RELEASES: DelegatedRole(RELEASES, [releases.keyid], 1, True, paths=list(paths)),
    }
    keys = {key.keyid: key for key in (releases, routes)}
    return Targets(delegations=Delegations(keys, roles))


def releases_documents(key: Key, manifests: Iterable[ManifestRecord]) -> dict[str, Targets]:
    """`releases`, which delegates to a list for each model, and the lists, by role.

    A device reads `releases` when there is a new model, and else the list of its own model alone.
    """
    by_model: dict[str, list[ManifestRecord]] = {}
    for manifest in manifests:
        by_model.setdefault(manifest.model, []).append(manifest)
    models = {list_role(model): model for model in sorted(by_model)}
    lists = {
        role: DelegatedRole(role, [key.keyid], 1, True, paths=[model_pattern(model)])
        for role, model in models.items()
    }
    releases = Targets(delegations=Delegations({key.keyid: key}, lists))
    return {RELEASES: releases} | {
        role: _list_document(model, by_model[model]) for role, model in models.items()
    }


def _list_document(model: str, manifests: Sequence[ManifestRecord]) -> Targets:
    """The newest manifests of a model, and what is revoked."""
    offered = sorted(
        (m for m in manifests if not m.is_revoked), key=lambda manifest: manifest.generation
    )
    targets = {}
    for manifest in offered[-LISTED_GENERATIONS:]:
        path = manifest_path(model, manifest.generation)
        targets[path] = _target(path, manifest.blob)
    revoked = sorted(m.generation for m in manifests if m.is_revoked)
    if revoked:
        path = revocations_path(model)
        target = TargetFile.from_data(path, NOTHING, ["sha256"])
        target.unrecognized_fields["custom"] = {"generations": revoked}
        targets[path] = target
    return Targets(targets=targets)


def routes_document(steps: Iterable[UnnamedStep]) -> Targets:
    """List diffs that no manifest names."""
    paths = {route_path(step.model, step.diff.sha256): step.diff for step in steps}
    return Targets(targets={path: _target(path, blob) for path, blob in paths.items()})


def snapshot_document(files: Mapping[str, SignedFile]) -> Snapshot:
    """The versions that belong together."""
    return Snapshot(
        meta={
            f"{role}.json": MetaFile(files[role].version, len(files[role].content))
            for role in sorted(files)
            if role not in APART_FROM_SNAPSHOT
        }
    )


def timestamp_document(snapshot: SignedFile) -> Timestamp:
    """The newest snapshot."""
    return Timestamp(snapshot_meta=MetaFile(snapshot.version, len(snapshot.content)))


def signed(
    role: str,
    document: Root | Timestamp | Snapshot | Targets,
    signers: Iterable[CryptoSigner],
    previous: SignedFile | None,
    now: datetime,
) -> SignedFile:
    """Give a document its version and expiry, and sign it.

    Args:
        role: Whose it is.
        document: What to sign; it is changed.
        signers: One a key; the root is signed by the old root's key as well.
        previous: What it replaces.
        now: The time.
    """
    replaces = previous.version if previous is not None else 0
    document.version = replaces + 1
    if role != ROOT:
        document.version = max(document.version, int(now.timestamp()))
    document.expires = (now + lifetime_of(role)).replace(microsecond=0)
    metadata: Metadata[Any] = Metadata(document)
    for signer in signers:
        metadata.sign(signer, append=True)
    content = metadata.to_bytes(JSONSerializer(compact=True))
    return SignedFile(role, document.version, replaces, content, document.expires)


def read(kind: type[Document], file: SignedFile) -> Document:
    """What a file of ours says."""
    document = Metadata.from_bytes(file.content).signed
    if not isinstance(document, kind):
        raise TypeError(f"expected {kind.__name__}, found {type(document).__name__}")
    return document


def keyids_of(role: str, files: Mapping[str, SignedFile]) -> list[str]:
    """The keys that are trusted for a role."""
    if role in KEYS_OF_ROOT:
        return list(read(Root, files[ROOT]).roles[role].keyids)
    delegating = TARGETS if family_of(role) == role else RELEASES
    return list(read(Targets, files[delegating]).get_delegated_role(role).keyids)


def is_signed_by(file: SignedFile, keyids: Iterable[str]) -> bool:
    """Whether a file has the signature of one of these keys."""
    return any(keyid in Metadata.from_bytes(file.content).signatures for keyid in keyids)


def first_to_end(role: str, files: Mapping[str, SignedFile]) -> SignedFile:
    """The file of a role, or of the lists it delegates to, that expires before the others."""
    family = (file for name, file in files.items() if family_of(name) == role)
    return min(family, key=lambda file: file.expires_at)


def is_due(file: SignedFile, now: datetime) -> bool:
    """Whether half of its time is over: it is signed again long before it expires."""
    return file.expires_at - now < lifetime_of(file.role) / 2


def _target(path: str, blob: Blob) -> TargetFile:
    return TargetFile(blob.length, {"sha256": blob.sha256.hex()}, path)

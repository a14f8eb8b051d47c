"""Sign a generation: its manifest, and the list of its model. Needs the key of `releases` alone.

>>> release = sign_release(home.registry, home.artifacts, home.keys, generation, steps, golden)
>>> home.registry.add_generation(generation, steps, release)
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Targets

from protos.ota.v1 import manifest_pb2
from server.artifacts import ArtifactStore, RememberingStore
from server.domain import Blob, Generation, Step
from server.errors import InputError, NotFoundError
from server.registry import Registry
from server.signing.documents import (
    is_due,
    is_signed_by,
    keyids_of,
    read,
    releases_documents,
    signed,
)
from server.signing.keyring import Keyring
from server.signing.manifests import manifest_bytes
from server.signing.records import ManifestRecord, SignedFile, SignedRelease
from server.signing.roles import RELEASES


def sign_release(
    registry: Registry,
    artifacts: ArtifactStore,
    keys: Keyring,
    generation: Generation,
    steps: Sequence[Step],
    golden: Sequence[manifest_pb2.GoldenRun],
) -> SignedRelease:
    """Write the manifest of a generation that is about to be added, and sign its model's list.

    Raises:
        MissingKeyError: the key of `releases` is not here.
        ArtifactError: the manifest cannot be stored.
    """
    known = registry.signing.manifests()
    manifest = _manifest(registry, artifacts, generation, steps, known, golden)
    files = release_files(registry, keys, (*known, manifest), generation.published_at)
    return SignedRelease(manifest, files)


def sign_older(registry: Registry, artifacts: ArtifactStore, keys: Keyring, now: datetime) -> int:
    """Sign what was published before there were signatures; how many generations that was.

    Raises:
        As `sign_release`.
    """
    artifacts = RememberingStore(artifacts)
    known = registry.signing.manifests()
    done = {(manifest.model, manifest.generation) for manifest in known}
    added: list[ManifestRecord] = []
    for model in registry.models():
        steps = registry.steps(model.name)
        for generation in registry.generations(model.name):
            if (model.name, generation.number) not in done:
                own = [step for step in steps if step.target == generation.number]
                added.append(_manifest(registry, artifacts, generation, own, (*known, *added), ()))
    if added:
        files = release_files(registry, keys, (*known, *added), now)
        registry.signing.adopt(added, files, artifacts.keep)
    return len(added)


def revoke(
    registry: Registry, keys: Keyring, model: str, numbers: Collection[int], now: datetime
) -> tuple[int, ...]:
    """Never let these generations be installed again; there is no way back.

    Returns:
        Those that were not revoked before.

    Raises:
        NotFoundError: a generation was never signed.
        MissingKeyError: the key of `releases` is not here.
        ConflictError: somebody else signed meanwhile; nothing was changed.
    """
    manifests = registry.signing.manifests()
    known = {m.generation: m for m in manifests if m.model == model}
    for number in numbers:
        if number not in known:
            raise NotFoundError(f"expected a signed generation {number} of {model!r}, found none")
    new = tuple(sorted({number for number in numbers if not known[number].is_revoked}))
    listed = [
        replace(m, is_revoked=True) if m.model == model and m.generation in new else m
        for m in manifests
    ]
    registry.signing.revoke(model, new, release_files(registry, keys, listed, now), now)
    return new


def release_files(
    registry: Registry, keys: Keyring, manifests: Iterable[ManifestRecord], now: datetime
) -> tuple[SignedFile, ...]:
    """The next versions of what `releases` must sign.

    Raises:
        MissingKeyError: the key is not here.
        InputError: nothing was ever signed here.
    """
    latest = registry.signing.latest()
    require_founded(latest)
    signer = keys.signer(RELEASES, keyids_of(RELEASES, latest))
    return due_releases(latest, manifests, signer, now)


def due_releases(
    latest: Mapping[str, SignedFile],
    manifests: Iterable[ManifestRecord],
    signer: CryptoSigner,
    now: datetime,
) -> tuple[SignedFile, ...]:
    """Of `releases` and the lists: what changed, comes to its end, or has another key's signature.

    Args:
        latest: The newest file of each role.
        manifests: All that there are.
        signer: The key of `releases`.
        now: The time.
    """
    new = []
    for role, document in releases_documents(signer.public_key, manifests).items():
        before = latest.get(role)
        if (
            before is None
            or is_due(before, now)
            or not is_signed_by(before, [signer.public_key.keyid])
            or not _says(before, document)
        ):
            new.append(signed(role, document, [signer], before, now))
    return tuple(new)


def _says(file: SignedFile, document: Targets) -> bool:
    known = read(Targets, file)
    return (known.targets, known.delegations) == (document.targets, document.delegations)


def require_founded(latest: object) -> None:
    """Refuse a registry in which nobody is trusted yet.

    Raises:
        InputError: so it is.
    """
    if not latest:
        raise InputError("expected signed metadata, found none; `ota-server init HOME` makes it")


def _manifest(
    registry: Registry,
    artifacts: ArtifactStore,
    generation: Generation,
    steps: Sequence[Step],
    known: Iterable[ManifestRecord],
    golden: Sequence[manifest_pb2.GoldenRun],
) -> ManifestRecord:
    bases = {step.base for step in steps if step.base is not None}
    digests = {base: registry.generation(generation.model, base).digest for base in bases}
    content = manifest_bytes(generation, steps, digests, _previous(generation, known), golden)
    blob = artifacts.put(content)
    artifacts.verify(blob)
    diffs = frozenset(step.diff.sha256 for step in steps)
    return ManifestRecord(generation.model, generation.number, blob, diffs)


def _previous(generation: Generation, known: Iterable[ManifestRecord]) -> Blob | None:
    """The manifest of the newest generation before this one."""
    before = [
        (manifest.generation, manifest.blob)
        for manifest in known
        if manifest.model == generation.model and manifest.generation < generation.number
    ]
    return max(before, key=lambda pair: pair[0])[1] if before else None

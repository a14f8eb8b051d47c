"""A TUF repository in memory, whose keys a test may steal, rotate or lose.

repository = SignedRepository()
repository.list({"digits/0": manifest})          # signs what changed
repository.files["timestamp", 0]                 # what the server sends; a test may replace it
"""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from securesystemslib.signer import CryptoSigner
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

ROOT_ROLES = ("root", "targets", "snapshot", "timestamp")
ROLES = (*ROOT_ROLES, "releases", "routes")
DAY = timedelta(days=1)


class SignedRepository:
    """Everything is signed again by `sign`; what was sent before can be sent again."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.expires = dict.fromkeys(ROLES, self.now + 300 * DAY)
        self.keys = {role: CryptoSigner.generate_ed25519() for role in ROLES}
        self.versions = dict.fromkeys(ROLES, 0)
        self.files: dict[tuple[str, int], bytes] = {}
        self.releases: dict[str, bytes] = {}
        self.routes: dict[str, bytes] = {}
        self.revoked: dict[str, list[int]] = {}
        self.sign()

    def list(self, manifests: Mapping[str, bytes]) -> None:
        """Sign a list of manifests by their target names, if it is another one than before."""
        if dict(manifests) != self.releases:
            self.releases = dict(manifests)
            self.sign("releases", "snapshot", "timestamp")

    def sign(self, *roles: str) -> None:
        """Sign the next version of these roles, or of all, each by its key."""
        for role in ROLES_IN_ORDER:
            if not roles or role in roles:
                self.versions[role] += 1
                signers = [self.keys[role]]
                self.put(role, self.document(role), signers)

    def rotate(self, *roles: str) -> None:
        """New keys: root is signed by the old and the new one, everything else again by its own."""
        before = self.keys["root"]
        for role in roles:
            self.keys[role] = CryptoSigner.generate_ed25519()
        self.versions["root"] += 1
        signers = [before] + ([self.keys["root"]] if "root" in roles else [])
        self.put("root", self.document("root"), signers)
        self.sign("targets", "releases", "routes", "snapshot", "timestamp")

    def put(self, role: str, document, signers) -> bytes:
        metadata = Metadata(document)
        for signer in signers:
            metadata.sign(signer, append=True)
        content = metadata.to_bytes()
        self.files[role, self.versions[role]] = self.files[role, 0] = content
        return content

    def document(self, role: str):
        made = getattr(self, f"_{role}")()
        made.version = self.versions[role]
        made.expires = self.expires[role].replace(microsecond=0)
        return made

    def _root(self) -> Root:
        public = {role: self.keys[role].public_key for role in ROOT_ROLES}
        roles = {role: Role([key.keyid], 1) for role, key in public.items()}
        return Root(
            keys={key.keyid: key for key in public.values()}, roles=roles, consistent_snapshot=True
        )

    def _targets(self) -> Targets:
        roles, keys = {}, {}
        for role, paths in (("routes", ["routes/*/*"]), ("releases", ["*/*"])):
            key = self.keys[role].public_key
            keys[key.keyid] = key
            roles[role] = DelegatedRole(role, [key.keyid], 1, True, paths=paths)
        return Targets(delegations=Delegations(keys, roles))

    def _releases(self) -> Targets:
        targets = {path: target(path, content) for path, content in self.releases.items()}
        for model, numbers in self.revoked.items():
            path = f"{model}/revoked"
            targets[path] = target(path, b"")
            targets[path].unrecognized_fields["custom"] = {"generations": numbers}
        return Targets(targets=targets)

    def _routes(self) -> Targets:
        return Targets(targets={path: target(path, file) for path, file in self.routes.items()})

    def _snapshot(self) -> Snapshot:
        listed = ("targets", "releases", "routes")
        return Snapshot(
            meta={
                f"{role}.json": MetaFile(
                    self.versions[role], len(self.files[role, self.versions[role]])
                )
                for role in listed
            }
        )

    def _timestamp(self) -> Timestamp:
        content = self.files["snapshot", self.versions["snapshot"]]
        return Timestamp(snapshot_meta=MetaFile(self.versions["snapshot"], len(content)))


ROLES_IN_ORDER = ("root", "targets", "releases", "routes", "snapshot", "timestamp")


def target(path: str, content: bytes) -> TargetFile:
    return TargetFile(len(content), {"sha256": hashlib.sha256(content).hexdigest()}, path)

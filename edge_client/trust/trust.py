"""The rim of trust: files, clock and connection around what `metadata` and `verdict` decide.

`metadata` brings python-tuf, and is imported where it is needed (see root.py).
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from edge_client import durable
from edge_client.errors import (
    BlobError,
    OversizedError,
    TrustError,
    UnsignedError,
)
from edge_client.offer import Blob, Generation, Plan
from edge_client.transport import Connection
from edge_client.trust.manifest import (
    MOST_MANIFEST_BYTES,
    Manifest,
    manifest_path,
    revocations_path,
    route_path,
)
from edge_client.trust.root import CACHE, FOLDER, ROOT, pinned_root
from edge_client.trust.state import TrustState, read_state, write_state
from edge_client.trust.verdict import SignedPlan, judge, require_allowed

STATE = "state.json"
LONGEST_CHAIN = 256
"""Manifests that are followed back: a chain of more steps costs more than a snapshot."""
HIGH_WATER_STEP = timedelta(hours=1)
"""A refresh that found nothing new is remembered once an hour: flash wears out."""

if TYPE_CHECKING:
    from edge_client.trust.metadata import SignedTarget, Verifier

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock of the system."""
    return datetime.now(UTC)


class Trust:
    """What one device believes of one model. Used while its home is locked."""

    def __init__(
        self, home: Path, model: str, connection: Connection, clock: Clock = utc_now
    ) -> None:
        self._folder = home / FOLDER
        self._model = model
        self._connection = connection
        self._clock = clock
        self.state = read_state(self._folder / STATE)

    def refresh(self) -> "Verifier":
        """Bring metadata up to date, and remember what it says for ever.

        Returns:
            What the publisher vouches for now.

        Raises:
            TrustError, StaleError, NoRootError: nothing may be installed.
            RetryLaterError: server, network or disk failed.
        """
        from edge_client.trust.metadata import ConnectionFetcher, Verifier

        judged_at = self.state.judged_at(self._clock())
        root = pinned_root(self._folder.parent)
        verifier = Verifier(
            root, self._folder / CACHE, ConnectionFetcher(self._connection), judged_at
        )
        verifier.refresh()
        newest = verifier.root
        if newest != root:
            # Apart from the cache: a key that was revoked must not come back with a lost cache.
            durable.write(self._folder / ROOT, newest)
        revoked = _revoked(verifier.find(revocations_path(self._model)))
        self._remember(self.state.refreshed(judged_at, verifier.expires_at).with_revoked(revoked))
        return verifier

    def authorise(self, plan: Plan, installed: Generation | None) -> SignedPlan:
        """Bring metadata up to date, find what is signed of a plan, and compare.

        Costs a manifest, and one more for each generation that a chain passes through.

        Raises:
            TrustError: the plan must not be carried out.
            StaleError, NoRootError: nothing may be installed.
            RetryLaterError: server, network or disk failed.
        """
        verifier = self.refresh()
        number = plan.target.number
        require_allowed(number, self.state)
        target = verifier.find(manifest_path(self._model, number))
        if target is None:
            raise UnsignedError(
                f"expected a signed manifest of generation {number} of {self._model!r}, found none"
            )
        manifests = self._manifests(plan, _as_blob(target))
        routes = self._routes(plan, manifests, verifier)
        return judge(plan, manifests, routes, self.state, self._model, installed)

    def commit(self, number: int) -> None:
        """A generation serves: nothing older may follow it.

        Raises:
            DiskFullError, StorageError
        """
        self._remember(self.state.committed(number))

    def _manifests(self, plan: Plan, newest: Blob) -> dict[int, Manifest]:
        """The manifests of all steps, from the newest one back by what each says of the last."""
        wanted = {step.target.number for step in plan.steps}
        manifests = {plan.target.number: self._read_manifest(newest)}
        at = manifests[plan.target.number]
        for _ in range(LONGEST_CHAIN):
            if at.previous is None or min(wanted) >= at.target.number:
                break
            before = self._read_manifest(at.previous)
            if before.target.number >= at.target.number:
                raise TrustError(
                    f"expected the manifest before generation {at.target.number}, "
                    f"found that of generation {before.target.number}"
                )
            at = before
            if at.target.number in wanted:
                manifests[at.target.number] = at
        return manifests

    def _read_manifest(self, blob: Blob) -> Manifest:
        if blob.length_bytes > MOST_MANIFEST_BYTES:
            raise OversizedError(
                f"expected a manifest of at most {MOST_MANIFEST_BYTES} bytes, "
                f"found one of {blob.length_bytes}"
            )
        content = self._connection.read_manifest(blob)
        found = hashlib.sha256(content).digest()
        if found != blob.sha256:
            raise BlobError(
                f"expected a manifest with SHA-256 {blob.sha256.hex()}, found {found.hex()}"
            )
        return Manifest.from_bytes(content)

    def _routes(
        self, plan: Plan, manifests: dict[int, Manifest], verifier: "Verifier"
    ) -> dict[bytes, int]:
        """What the server vouches for, of the diffs that no manifest names."""
        named = {signed.diff.sha256 for m in manifests.values() for signed in m.diffs}
        routes = {}
        for step in plan.steps:
            if step.diff.sha256 not in named:
                target = verifier.find(route_path(self._model, step.diff))
                if target is not None and target.sha256 == step.diff.sha256:
                    routes[step.diff.sha256] = target.length_bytes
        return routes

    def _remember(self, state: TrustState) -> None:
        known = replace(state, time_high_water=self.state.time_high_water)
        is_later = state.time_high_water - self.state.time_high_water >= HIGH_WATER_STEP
        if known != self.state or is_later:
            write_state(self._folder / STATE, state)
            self.state = state


def trust_status(home: Path, clock: datetime) -> dict[str, object]:
    """What `ota-edge status` says: FRESH, or STALE where what was seen last has expired."""
    state = read_state(home / FOLDER / STATE)
    if state == TrustState():
        return {"metadata": None, "metadata_expires": None, "generation_floor": None}
    return {
        "metadata": "STALE" if state.is_stale(clock) else "FRESH",
        "metadata_expires": state.fresh_until.isoformat(),
        "generation_floor": state.generation_floor,
    }


def _as_blob(target: "SignedTarget") -> Blob:
    return Blob(target.sha256, target.length_bytes)


def _revoked(target: "SignedTarget | None") -> frozenset[int]:
    """The generations that a list of revocations names."""
    if target is None:
        return frozenset()
    try:
        numbers: Iterable[object] = target.custom["generations"]
        return frozenset(number for number in numbers if isinstance(number, int))
    except (KeyError, TypeError) as error:
        raise TrustError("expected a list of revoked generations, found another file") from error

"""What is deleted: everything that nobody needs and that is old enough. Pure.

Age is that of the file: whatever was written lately stays, so that a publication under way is not
disturbed. That is for comfort; what keeps its blobs is server.artifacts.RememberingStore.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from server.artifacts.store import StoredFile
from server.collecting.needs import Needs, Stock, needs_of
from server.domain import Step

UNFINISHED_AGE = timedelta(hours=1)
"""Files that are being written are never older, whatever age is asked for."""


@dataclass(frozen=True)
class Doomed:
    """A file that is to be deleted: what it was, and why nobody needs it."""

    file: StoredFile
    what: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What a collection deletes.

    Attributes:
        steps: Diffs and snapshots that are no way for any device from now on, by model.
        blobs: SHA-256 of the blobs that lose their name.
        files: What is deleted from the store, by name.
        kept_files: How many files stay.
        kept_bytes: And their bytes.
    """

    steps: tuple[tuple[str, Step], ...]
    blobs: frozenset[bytes]
    files: tuple[Doomed, ...]
    kept_files: int
    kept_bytes: int

    @property
    def freed_bytes(self) -> int:
        """What the store holds less afterwards."""
        return sum(doomed.file.length for doomed in self.files)


def verdict_on(
    stocks: Sequence[Stock],
    named: Collection[bytes],
    files: Sequence[StoredFile],
    newest: int,
    now: datetime,
    older_than: timedelta,
) -> Verdict:
    """Decide what to delete.

    Args:
        stocks: Every model.
        named: SHA-256 of all blobs that have a name.
        files: What the store holds.
        newest: How many generations of each model are kept, whoever uses them.
        now: The time.
        older_than: How long a file must have been there.
    """
    needs = [needs_of(stock, newest) for stock in stocks]
    young = {file.sha256 for file in files if now - file.modified_at < older_than}
    needed = young.union(*(one.blobs for one in needs))
    steps = [
        (stock.model, step)
        for stock, own in zip(stocks, needs, strict=True)
        for step in stock.steps
        if step not in own.steps and step.diff.sha256 not in young
    ]
    told = _descriptions(stocks, needs)
    doomed = []
    for file in sorted(files, key=lambda file: file.name):
        if file.sha256 is None:
            if now - file.modified_at >= max(older_than, UNFINISHED_AGE):
                doomed.append(Doomed(file, "unfinished file", "a crash left it"))
        elif file.sha256 not in needed:
            unnamed = ("blob", "no generation names it")
            known = told.get(file.sha256, unnamed) if file.sha256 in named else unnamed
            doomed.append(Doomed(file, *known))
    doomed_bytes = sum(one.file.length for one in doomed)
    return Verdict(
        tuple(steps),
        frozenset(named) - needed,
        tuple(doomed),
        len(files) - len(doomed),
        sum(file.length for file in files) - doomed_bytes,
    )


def _descriptions(stocks: Sequence[Stock], needs: Sequence[Needs]) -> dict[bytes, tuple[str, str]]:
    """What a blob is, and why nobody needs it if nobody does."""
    told: dict[bytes, tuple[str, str]] = {}
    for stock, own in zip(stocks, needs, strict=True):
        for step in stock.steps:
            start = "snapshot of" if step.base is None else f"diff {step.base} to"
            what = f"{stock.model}: {start} {step.target}"
            told.setdefault(step.diff.sha256, (what, "on no device's way"))
        for generation in stock.generations:
            reason = "no device, rollout or way needs it"
            manifest = stock.manifests.get(generation.number)
            named = {
                "snapshot": generation.snapshot,
                "graph": generation.graph,
                "card": generation.card,
                "manifest": manifest.blob if manifest is not None else None,
            }
            for kind, blob in named.items():
                if blob is not None and generation.number not in own.generations:
                    what = f"{stock.model}: {kind} of {generation.number}"
                    told.setdefault(blob.sha256, (what, reason))
    return told

"""Fill the passive slot with the generation that a plan leads to.

Everything is downloaded and checked first, the weights are rebuilt from the installed ones, and
what lies in the slot in the end is read back. Nothing here touches the slot that serves.

    >>> verified, costs = Filling(home, server, retry, show).fill_passive(plan, held, installed)
    >>> home.slots.activate(verified)
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_client import download, durable
from edge_client.chain import Weights, apply_chain, rebuilt_bytes
from edge_client.download import BlobSource
from edge_client.errors import DigestMismatchError
from edge_client.footprint import Costs, peak_rss_bytes, require_space
from edge_client.home import EdgeHome
from edge_client.offer import Plan
from edge_client.progress import OnProgress, Progress
from edge_client.retry import Retry
from edge_client.slots import Installed, SlotRecord, VerifiedSlot


@dataclass(frozen=True)
class Filling:
    """What it works with."""

    home: EdgeHome
    source: BlobSource
    retry: Retry
    on_progress: OnProgress

    def fill_passive(
        self, plan: Plan, held: Mapping[bytes, Path], installed: Installed | None
    ) -> tuple[VerifiedSlot, Costs]:
        """Fetch, rebuild, and read back.

        Args:
            plan: What is signed.
            held: Sound files of the active slot by SHA-256; they need not be fetched.
            installed: What to build on; None: nothing, the plan begins with a snapshot.

        Raises:
            RejectedError: what the plan brings is not what it says.
            RetryLaterError: server, network or disk failed.
            HomeError: a file of the home is damaged.
        """
        files, downloaded_bytes = self._fetch(plan, held, installed)
        weights, apply_s = self._apply(plan, files, installed)
        peak_bytes = peak_rss_bytes()
        verified = self._seal(plan, files, weights)
        return verified, Costs(downloaded_bytes, apply_s, peak_bytes)

    def _fetch(
        self, plan: Plan, held: Mapping[bytes, Path], installed: Installed | None
    ) -> tuple[Mapping[bytes, Path], int]:
        """Every file of the plan by its SHA-256, and the bytes that had to be downloaded."""
        staging = self.home.staging
        durable.make_folder(staging)
        download.keep_only(plan.blobs, staging)
        wanted = [blob for blob in plan.blobs if blob.sha256 not in held]
        self._require_room(plan, download.missing_bytes(wanted, staging), installed)
        wanted_bytes, done_bytes = sum(blob.length_bytes for blob in wanted), 0

        def on_bytes(count: int) -> None:
            nonlocal done_bytes
            done_bytes += count
            self.on_progress(Progress("downloading, bytes", done_bytes, wanted_bytes))

        downloaded = {
            blob.sha256: download.fetch(blob, staging, self.source, self.retry, on_bytes)
            for blob in wanted
        }
        return {**held, **downloaded}, wanted_bytes

    def _require_room(self, plan: Plan, missing_bytes: int, installed: Installed | None) -> None:
        """Begin only what the disk can hold to its end, as far as that is known by now."""
        layout = installed.slot.layout() if installed else None
        weights_bytes = rebuilt_bytes(plan.steps, {}, layout)
        reclaimed_bytes = self.home.slots.passive().size_bytes()
        require_space(
            self.home.path,
            missing_bytes + weights_bytes - reclaimed_bytes,
            f"generation {plan.target.number}",
        )

    def _apply(
        self, plan: Plan, files: Mapping[bytes, Path], installed: Installed | None
    ) -> tuple[Weights, float]:
        """Rebuild the weights in the passive slot, which is emptied before; how long it took."""
        base = Weights(installed.slot.weights, installed.slot.layout()) if installed else None
        passive = self.home.slots.passive()
        passive.clear()
        room_bytes = rebuilt_bytes(plan.steps, files, base.layout if base else None)
        require_space(passive.path, room_bytes, f"generation {plan.target.number}")

        def on_step(done: int) -> None:
            self.on_progress(Progress("applying, steps", done, len(plan.steps)))

        on_step(0)
        started_s = time.perf_counter()
        weights = apply_chain(plan.steps, files, base, passive, on_step)
        return weights, time.perf_counter() - started_s

    def _seal(self, plan: Plan, files: Mapping[bytes, Path], weights: Weights) -> VerifiedSlot:
        """Put graph, card and records beside the new weights, and read all of it back."""
        goal = _goal_of(plan)
        _require_graph(goal, weights)
        passive = self.home.slots.passive()
        for sha256, target in (
            (goal.graph_sha256, passive.graph),
            (goal.card_sha256, passive.card),
        ):
            if sha256 is None:
                continue
            if sha256 not in files:
                raise DigestMismatchError(
                    f"expected {target.name} with SHA-256 {sha256.hex()} in the active slot, "
                    f"because the plan brings none, found it damaged"
                )
            durable.copy(files[sha256], target)
        passive.save(weights.layout, goal)
        return passive.verify(goal)


def _require_graph(goal: SlotRecord, weights: Weights) -> None:
    """Refuse a plan with another graph than its last diff brings: they would not fit together."""
    if weights.graph_sha256 not in (None, goal.graph_sha256):
        named = goal.graph_sha256.hex() if goal.graph_sha256 else "none"
        raise DigestMismatchError(
            f"expected the plan to name the graph that the diff to generation "
            f"{goal.generation.number} brings, with SHA-256 {weights.graph_sha256.hex()}, "
            f"found {named}"
        )


def _goal_of(plan: Plan) -> SlotRecord:
    """What a slot holds once the plan is carried out."""
    graph, card = (blob.sha256 if blob else None for blob in (plan.graph, plan.card))
    return SlotRecord(plan.target, graph, card)

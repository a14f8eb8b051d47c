"""Turn installed weights and downloaded diffs into the weights of the passive slot.

The steps of a plan are applied one after another, each from file to file in bounded memory. What
lies between the first and the last is a temporary file in the passive slot, removed once the
next step has read it. Each step must reach the digest that the plan promises.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import diffcodec
from diffcodec import Layout
from edge_client import durable
from edge_client.errors import (
    CorruptDiffError,
    DigestMismatchError,
    EdgeError,
    UnsupportedDiffError,
    WrongBaseError,
)
from edge_client.offer import Step
from edge_client.slots import Slot

OnStep = Callable[[int], None]
"""Told the number of steps that are done."""


@dataclass(frozen=True)
class Weights:
    """A flat store on the disk and its layout.

    `graph_sha256` is of the graph that came with them in their diff; None: none did.
    """

    path: Path
    layout: Layout
    graph_sha256: bytes | None = None


def apply_chain(
    steps: Sequence[Step],
    diffs: Mapping[bytes, Path],
    base: Weights | None,
    passive: Slot,
    on_step: OnStep,
) -> Weights:
    """Apply diffs one after another; the last one writes the passive slot's weights.

    Args:
        steps: What to apply, at least one.
        diffs: The file of every step's diff, by its SHA-256.
        base: What the first diff applies to; None: the first one is a snapshot.
        passive: An empty slot.
        on_step: Told of progress.

    Raises:
        WrongBaseError, CorruptDiffError, UnsupportedDiffError, DigestMismatchError: the diff or
            the base is not what the plan says; no file of the failed step is left.
        DiskFullError, StorageError
    """
    *earlier, last = steps
    for number, step in enumerate(earlier):
        reached = apply_step(
            step, diffs[step.diff.sha256], base, passive.path / f"step-{number}.bin"
        )
        _discard(base, passive)
        base = reached
        on_step(number + 1)
    reached = apply_step(last, diffs[last.diff.sha256], base, passive.weights)
    _discard(base, passive)
    on_step(len(steps))
    return reached


def apply_step(step: Step, diff: Path, base: Weights | None, target: Path) -> Weights:
    """Apply one diff into a new file and check where it leads.

    Raises:
        As `apply_chain`.
    """
    if step.is_snapshot:
        base = None
    goal = step.target
    try:
        with durable.storage_errors(f"cannot apply the diff to generation {goal.number}"):
            applied = diffcodec.apply_file(
                base.path if base else None, base.layout if base else None, diff, target
            )
    except diffcodec.CodecError as error:
        raise _translate(error, step) from error
    if applied.target_digest != goal.digest:
        durable.remove(target)
        raise DigestMismatchError(
            f"expected generation {goal.number} to have the digest {goal.digest.hex()}, "
            f"the diff leads to {applied.target_digest.hex()}"
        )
    graph = applied.graph
    return Weights(target, applied.layout, hashlib.sha256(graph).digest() if graph else None)


def rebuilt_bytes(
    steps: Sequence[Step], diffs: Mapping[bytes, Path], installed: Layout | None
) -> int:
    """Room that `apply_chain` needs: the new weights, and in a chain the ones before them.

    Args:
        steps: What will be applied.
        diffs: The files that are there already; the header says what one rebuilds to, where that
            is not its base's layout.
        installed: The layout of the installed weights; None where there are none.

    Raises:
        CorruptDiffError, UnsupportedDiffError: a header cannot be read.
    """
    largest = installed.file_bytes if installed else 0
    for step in steps:
        if step.diff.sha256 in diffs:
            layout = _header(step, diffs[step.diff.sha256]).layout
            largest = max(largest, layout.file_bytes if layout else 0)
    return largest * min(2, len(steps))


def _header(step: Step, diff: Path) -> diffcodec.Header:
    try:
        with durable.storage_errors(f"cannot read {diff}"):
            return diffcodec.read_header(diff)
    except diffcodec.CodecError as error:
        raise _translate(error, step) from error


def _discard(weights: Weights | None, passive: Slot) -> None:
    """Remove what the next step has read, if it is not the active slot's."""
    if weights is not None and weights.path.parent == passive.path:
        durable.remove(weights.path)


def _translate(error: diffcodec.CodecError, step: Step) -> EdgeError:
    kinds: tuple[tuple[type[diffcodec.CodecError], type[EdgeError]], ...] = (
        (diffcodec.WrongBaseError, WrongBaseError),
        (diffcodec.DigestError, DigestMismatchError),
        (diffcodec.UnsupportedError, UnsupportedDiffError),
    )
    kind = next((ours for theirs, ours in kinds if isinstance(error, theirs)), CorruptDiffError)
    return kind(f"the diff to generation {step.target.number}: {error}")

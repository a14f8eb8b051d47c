"""What a home holds and what its devices run, as values that print and serialise."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from diffcodec import Coder
from server.collecting.collection import collect
from server.domain import EVERY_DEVICE, Generation, Step
from server.home import ServerHome


@dataclass(frozen=True)
class GenerationStatus:
    """One generation.

    `update_bytes` is the smallest diff from the generation before it, None for the first or where
    there is only a snapshot; `snapshot_bytes` is the smallest snapshot, None once it was collected.
    `updates` and `snapshots` say the same by coder: `fast` is what every device takes, `max` what
    some take instead.
    """

    number: int
    parent: int | None
    digest: str
    update_bytes: int | None
    snapshot_bytes: int | None
    updates: dict[str, int]
    snapshots: dict[str, int]
    devices: int
    published_at: str


@dataclass(frozen=True)
class ModelStatus:
    """One model: generations in order, devices that run nothing yet, attempts by state."""

    model: str
    head: int
    generations: tuple[GenerationStatus, ...]
    devices_without_model: int
    attempts: dict[str, int]


@dataclass(frozen=True)
class DiskStatus:
    """What the store holds, and what a collection of the usual age would delete of it."""

    files: int
    bytes: int
    collectable_files: int
    collectable_bytes: int


def disk_status_of(home: ServerHome, now: datetime) -> DiskStatus:
    """The store of a home."""
    verdict = collect(home, now, dry_run=True)
    return DiskStatus(
        files=verdict.kept_files + len(verdict.files),
        bytes=verdict.kept_bytes + verdict.freed_bytes,
        collectable_files=len(verdict.files),
        collectable_bytes=verdict.freed_bytes,
    )


def status_of(home: ServerHome) -> tuple[ModelStatus, ...]:
    """Every model of a home, by name."""
    return tuple(_model_status(home, model.name) for model in home.registry.models())


def _model_status(home: ServerHome, model: str) -> ModelStatus:
    steps = home.registry.steps(model)
    devices = home.registry.device_counts(model)
    generations = tuple(
        _generation_status(generation, steps, devices.get(generation.number, 0))
        for generation in home.registry.generations(model)
    )
    attempts = {str(state): n for state, n in home.registry.attempt_counts(model).items()}
    return ModelStatus(model, generations[-1].number, generations, devices.get(None, 0), attempts)


def _generation_status(
    generation: Generation, steps: tuple[Step, ...], devices: int
) -> GenerationStatus:
    leading_here = [step for step in steps if step.target == generation.number]
    updates = _smallest(s for s in leading_here if s.base == generation.number - 1)
    snapshots = _smallest(s for s in leading_here if s.is_snapshot)
    return GenerationStatus(
        number=generation.number,
        parent=generation.parent,
        digest=generation.digest.hex(),
        update_bytes=min(updates.values(), default=None),
        snapshot_bytes=min(snapshots.values(), default=None),
        updates=updates,
        snapshots=snapshots,
        devices=devices,
        published_at=generation.published_at.isoformat(timespec="seconds"),
    )


def _smallest(steps: Iterable[Step]) -> dict[str, int]:
    """Bytes of the smallest file, by the coder that a device must have for it."""
    sizes: dict[str, int] = {}
    for step in steps:
        coder = str(Coder.FAST if step.coders <= EVERY_DEVICE else Coder.MAX)
        sizes[coder] = min(step.diff.length, sizes.get(coder, step.diff.length))
    return dict(sorted(sizes.items()))

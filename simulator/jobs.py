"""A graph of resumable jobs, each in a process of its own.

A job's key is a hash of everything that its result depends on, its parents' keys among them. It
leaves the folder JOBS/<key>/ with result.json and whatever files it wrote; the folder appears
by one rename, so it is there whole or not at all, and a run that is repeated only does what is
missing. Runs that share a job share its folder.

    >>> job = Job(job_key("square", 7), "the square of 7", square, 7)
    >>> run_jobs([job], Path("jobs"), workers=2, watcher=watcher)     # simulator.job_runner
    >>> read_result(Path("jobs"), job.key)["square"]
    49

The function of a job is a module-level one, `function(arguments, folder, parents, progress)`:
it writes files into `folder`, may read those of its `parents`, and returns a JSON object. What it
keeps in the file CHECKPOINT of its folder is there again when it was killed and is repeated.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

RESULT = "result.json"
FILES = "files.json"
"""The length in bytes of every file that a job left, by name."""
CHECKPOINT = "checkpoint.pt"
"""What a job that was killed finds again; gone once it is finished."""

Progress = Callable[[int, int, float], None]
"""Called with the step, the number of steps, and the loss."""
JobFunction = Callable[[Any, Path, Mapping[str, Path], Progress], Mapping[str, Any]]


@dataclass(frozen=True)
class Job:
    """One thing to do once.

    Attributes:
        key: Names its folder; see `job_key`.
        name: For people.
        function: Module-level; runs in the worker process.
        arguments: Picklable; passed to the function.
        after: Keys of the parents, whose folders the function is given.
        cost: Relative length; the longest chains of jobs start first, and the time left is
            guessed by it.
    """

    key: str
    name: str
    function: JobFunction
    arguments: Any
    after: tuple[str, ...] = ()
    cost: float = 1.0


class JobWatcher(Protocol):
    """Told what happens; for progress."""

    def reused(self, job: Job) -> None:
        """The job was finished by another run."""

    def started(self, job: Job) -> None:
        """A worker began."""

    def progressed(self, job: Job, step: int, steps: int, loss: float) -> None:
        """A worker made progress; several times a second at most."""

    def finished(self, job: Job, seconds: float) -> None:
        """The job's folder is there."""


def job_key(*parts: Any) -> str:
    """Hex hash of what a job depends on; parts are JSON values."""
    content = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def is_finished(folder: Path, key: str) -> bool:
    """Whether the job's result is there, with every file that it left, whole.

    A power cut may empty files that were renamed into place; such a job runs again.
    """
    place = folder / key
    try:
        result = json.loads((place / RESULT).read_text())
        # A folder without the list is from before lists were kept.
        listed = json.loads((place / FILES).read_text()) if (place / FILES).exists() else {}
        lengths = {name: (place / name).stat().st_size for name in listed}
    except (OSError, ValueError):
        return False
    return isinstance(result, dict) and lengths == listed


def read_result(folder: Path, key: str) -> dict[str, Any]:
    """What the function of a finished job returned."""
    result: dict[str, Any] = json.loads((folder / key / RESULT).read_text())
    return result


def by_longest_chain(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, first those that start the costliest chain."""
    children: dict[str, list[Job]] = {job.key: [] for job in jobs}
    for job in jobs:
        for parent in job.after:
            children[parent].append(job)

    def chain(job: Job) -> float:
        return job.cost + max((chain(child) for child in children[job.key]), default=0.0)

    return sorted(jobs, key=chain, reverse=True)

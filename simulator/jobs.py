"""A graph of resumable jobs, each in a process of its own.

A job's key is a hash of everything that its result depends on, its parents' keys among them. It
leaves the folder JOBS/<key>/ with result.json and whatever files it wrote; the folder appears
by one rename, so it is there whole or not at all, and a run that is repeated only does what is
missing. Runs that share a job share its folder.

    >>> job = Job(job_key("square", 7), "the square of 7", square, 7)
    >>> run_jobs([job], Path("jobs"), workers=2, watcher=watcher)
    >>> read_result(Path("jobs"), job.key)["square"]
    49

The function of a job is a module-level one, `function(arguments, folder, parents, progress)`:
it writes files into `folder`, may read those of its `parents`, and returns a JSON object.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

from simulator.errors import JobError

RESULT = "result.json"
FILES = "files.json"
"""The length in bytes of every file that a job left, by name."""
LOG = "log.txt"
PROGRESS_INTERVAL_S = 0.25
GRACE_S = 5.0
"""How long a worker that is told to end may take before it is killed."""

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
        cost: Relative length; the longest chains of jobs start first.
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
        """The job was finished by an earlier run."""

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


def run_jobs(jobs: Sequence[Job], folder: Path, workers: int, watcher: JobWatcher) -> None:
    """Do every job that is not finished yet, parents first.

    Workers are ended, by their process ids, when one fails or when this is interrupted; finished
    jobs stay.

    Args:
        jobs: In any order; a parent must be among them.
        folder: Where the jobs' folders lie; made if missing.
        workers: Processes at a time, 1 or more.
        watcher: Told what happens.

    Raises:
        JobError: a job failed; the message names it.
        KeyboardInterrupt: passed on after the workers have ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = {job.key for job in jobs if is_finished(folder, job.key)}
    for job in jobs:
        if job.key in finished:
            watcher.reused(job)
    waiting = [job for job in by_longest_chain(jobs) if job.key not in finished]
    running: dict[str, _Worker] = {}
    try:
        while waiting or running:
            for job in _ready(waiting, finished)[: workers - len(running)]:
                waiting.remove(job)
                worker = _start(job, folder)
                running[job.key] = worker
                watcher.started(job)
            spoke = wait([worker.messages for worker in running.values()])
            for worker in [worker for worker in running.values() if worker.messages in spoke]:
                if _listen(worker, folder, watcher):
                    finished.add(worker.job.key)
                    del running[worker.job.key]
    finally:
        for worker in running.values():
            _end(worker)


def by_longest_chain(jobs: Sequence[Job]) -> list[Job]:
    """The jobs, first those that start the costliest chain."""
    children: dict[str, list[Job]] = {job.key: [] for job in jobs}
    for job in jobs:
        for parent in job.after:
            children[parent].append(job)

    def chain(job: Job) -> float:
        return job.cost + max((chain(child) for child in children[job.key]), default=0.0)

    return sorted(jobs, key=chain, reverse=True)


@dataclass(frozen=True)
class _Worker:
    job: Job
    process: SpawnProcess
    messages: Connection
    started_s: float


def _ready(waiting: Iterable[Job], finished: set[str]) -> list[Job]:
    return [job for job in waiting if finished.issuperset(job.after)]


def _start(job: Job, folder: Path) -> _Worker:
    unfinished = _unfinished(folder, job.key)
    for leftover in (unfinished, folder / job.key):  # the latter is damaged: is_finished
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished.mkdir()
    parents = {key: folder / key for key in job.after}
    # Spawned, not forked: a fork copies locks and thread pools of torch in whatever state.
    context = multiprocessing.get_context("spawn")
    messages, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_work, args=(job, unfinished, parents, sender), name=job.name, daemon=True
    )
    process.start()
    # The worker's end alone stays open, so that its death reads as the end of messages.
    sender.close()
    return _Worker(job, process, messages, time.monotonic())


def _listen(worker: _Worker, folder: Path, watcher: JobWatcher) -> bool:
    """Take one message; True when the job is finished.

    Raises:
        JobError: the job failed.
    """
    log = _unfinished(folder, worker.job.key) / LOG
    try:
        kind, content = worker.messages.recv()
    except EOFError:
        worker.process.join()
        raise JobError(
            f"job {worker.job.name}: its process ended with exit code "
            f"{worker.process.exitcode} and no word (log: {log})"
        ) from None
    if kind == "progress":
        watcher.progressed(worker.job, *content)
        return False
    worker.process.join()
    if kind == "failed":
        raise JobError(f"job {worker.job.name}: {content} (log: {log})")
    _unfinished(folder, worker.job.key).rename(folder / worker.job.key)
    watcher.finished(worker.job, time.monotonic() - worker.started_s)
    return True


def _end(worker: _Worker) -> None:
    worker.process.terminate()
    worker.process.join(GRACE_S)
    if worker.process.exitcode is None:
        worker.process.kill()
        worker.process.join()


def _unfinished(folder: Path, key: str) -> Path:
    return folder / f"{key}.unfinished"


def _work(job: Job, folder: Path, parents: Mapping[str, Path], sender: Connection) -> None:
    """The worker process: run the function, leave its result, say how it went."""
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _write_output_to(folder / LOG)
    last_s = 0.0

    def progress(step: int, steps: int, loss: float) -> None:
        nonlocal last_s
        if step == steps or time.monotonic() - last_s >= PROGRESS_INTERVAL_S:
            last_s = time.monotonic()
            # A broken pipe, when the parent is gone, ends this process too.
            sender.send(("progress", (step, steps, loss)))

    try:
        result = job.function(job.arguments, folder, parents, progress)
        (folder / FILES).write_text(json.dumps(_lengths(folder)) + "\n")
        (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")
        sender.send(("finished", None))
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().splitlines() or ["no reason given"]
        with contextlib.suppress(OSError):
            sender.send(("failed", f"{type(error).__name__}: {reason[0]}"))


def _lengths(folder: Path) -> Mapping[str, int]:
    """Of every file but the log, which is still being written."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LOG)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _write_output_to(log: Path) -> None:
    """Send what libraries print to a file; the terminal belongs to the progress display."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)

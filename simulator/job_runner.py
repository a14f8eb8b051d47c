"""Run jobs: parents first, several at once, each in a process of its own.

Other runs may work in the same folder: a job that one of them is at is waited for, not repeated.

    >>> run_jobs(jobs, Path("jobs"), workers=2, watcher=display.watch_jobs(jobs))
"""

import contextlib
import fcntl
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import IO

from simulator.errors import JobError
from simulator.jobs import (
    CHECKPOINT,
    FILES,
    RESULT,
    Job,
    JobWatcher,
    by_longest_chain,
    is_finished,
)

LOG = "log.txt"
LOCK = "lock"
PROGRESS_INTERVAL_S = 0.25
POLL_S = 1.0
"""How often to ask whether another run's job is finished."""
GRACE_S = 5.0
"""How long a worker that is told to end may take before it is killed."""


def run_jobs(jobs: Sequence[Job], folder: Path, workers: int, watcher: JobWatcher) -> None:
    """Do every job that is not finished yet, parents first.

    Workers are ended, by their process ids, when one fails or when this is interrupted; finished
    jobs stay, and unfinished ones go on at their checkpoints when they are repeated.

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
            for job in [job for job in waiting if finished.issuperset(job.after)]:
                if len(running) == workers:
                    break
                lock = _claim(job, folder)
                if lock is None:
                    continue  # another run is at it
                waiting.remove(job)
                if is_finished(folder, job.key):
                    shutil.rmtree(_unfinished(folder, job.key))
                    lock.close()
                    finished.add(job.key)
                    watcher.reused(job)
                    continue
                running[job.key] = _start(job, folder, lock)
                watcher.started(job)
            spoke = wait([worker.messages for worker in running.values()], timeout=POLL_S)
            for worker in [worker for worker in running.values() if worker.messages in spoke]:
                if _listen(worker, folder, watcher):
                    finished.add(worker.job.key)
                    del running[worker.job.key]
    finally:
        for worker in running.values():
            _end(worker)


@dataclass(frozen=True)
class _Worker:
    job: Job
    process: SpawnProcess
    messages: Connection
    started_s: float
    lock: IO[str]


def _claim(job: Job, folder: Path) -> IO[str] | None:
    """The open lock of a job's unfinished folder; None where another run holds it."""
    unfinished = _unfinished(folder, job.key)
    unfinished.mkdir(exist_ok=True)
    try:
        lock = (unfinished / LOCK).open("w")
    except FileNotFoundError:  # the other run has just finished it, and taken the folder away
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _start(job: Job, folder: Path, lock: IO[str]) -> _Worker:
    unfinished = _unfinished(folder, job.key)
    for leftover in unfinished.iterdir():
        if leftover.name not in (LOCK, CHECKPOINT):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
    shutil.rmtree(folder / job.key, ignore_errors=True)  # damaged: is_finished
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
    return _Worker(job, process, messages, time.monotonic(), lock)


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
    # Not before: a run that opened the lock looks whether the job is finished once it has it.
    (folder / worker.job.key / LOCK).unlink()
    worker.lock.close()
    watcher.finished(worker.job, time.monotonic() - worker.started_s)
    return True


def _end(worker: _Worker) -> None:
    worker.process.terminate()
    worker.process.join(GRACE_S)
    if worker.process.exitcode is None:
        worker.process.kill()
        worker.process.join()
    worker.lock.close()


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
        (folder / CHECKPOINT).unlink(missing_ok=True)
        (folder / FILES).write_text(json.dumps(_lengths(folder)) + "\n")
        (folder / RESULT).write_text(json.dumps(result, indent=1) + "\n")
        sender.send(("finished", None))
    except Exception as error:
        traceback.print_exc()
        reason = str(error).strip().splitlines() or ["no reason given"]
        with contextlib.suppress(OSError):
            sender.send(("failed", f"{type(error).__name__}: {reason[0]}"))


def _lengths(folder: Path) -> Mapping[str, int]:
    """Of every file but the log, which is still being written, and the lock, which goes."""
    files = (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (LOG, LOCK)
    )
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _write_output_to(log: Path) -> None:
    """Send what libraries print to a file; the terminal belongs to the progress display."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())
    os.close(descriptor)

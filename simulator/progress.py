"""Progress on stderr: bars on a terminal, plain lines elsewhere (a log, a pipe, CI).

Both say how long the jobs will still take, as far as that can be guessed.

>>> with open_display() as display:
...     run_jobs(jobs, folder, workers=2, watcher=display.watch_jobs(jobs))
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from simulator.estimate import Estimate, in_words
from simulator.jobs import Job, JobWatcher

LINE_EVERY_S = 10.0
"""How often a plain line says how far a long piece of work is."""


class Display(Protocol):
    """Where progress is shown."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def begin(self, name: str, total: int) -> "Work":
        """A piece of work that consists of `total` steps."""

    def watch_jobs(self, jobs: Sequence[Job]) -> JobWatcher:
        """What to tell about these jobs."""


class Work(Protocol):
    """A piece of work that goes on."""

    def advance(self, done: int, note: str = "") -> None:
        """So many of its steps are done; the last one ends it."""


@contextmanager
def open_display(console: Console | None = None) -> Iterator[Display]:
    """Bars where stderr is a terminal, else lines."""
    console = console or Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield LineDisplay(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield BarDisplay(progress)


@dataclass
class LineDisplay:
    """Plain lines: one for each thing that ended, and now and then one on the way."""

    console: Console

    def say(self, line: str) -> None:
        """Print the line."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str, total: int) -> "LineWork":
        """Work that prints at its end, and every ten seconds."""
        return LineWork(self, name, total)

    def watch_jobs(self, jobs: Sequence[Job]) -> JobWatcher:
        """Lines on jobs."""
        return LineJobWatcher(self, len(jobs), Estimate(jobs, time.monotonic))


@dataclass
class LineWork:
    """A piece of work in lines."""

    display: LineDisplay
    name: str
    total: int
    said_s: float = field(default_factory=time.monotonic)

    def advance(self, done: int, note: str = "") -> None:
        """Print at the end, and every ten seconds."""
        if done < self.total and time.monotonic() - self.said_s < LINE_EVERY_S:
            return
        self.said_s = time.monotonic()
        self.display.say(f"{self.name}: {done}/{self.total}" + (f", {note}" if note else ""))


@dataclass
class LineJobWatcher:
    """Jobs in lines."""

    display: LineDisplay
    count: int
    estimate: Estimate
    done: int = 0
    works: dict[str, LineWork] = field(default_factory=dict)

    def reused(self, job: Job) -> None:
        """Say that it was there."""
        self.done += 1
        self.estimate.reused(job)
        self.display.say(f"[{self.done}/{self.count}] {job.name}: reused")

    def started(self, job: Job) -> None:
        """Nothing to say yet."""
        self.estimate.started()

    def progressed(self, job: Job, step: int, steps: int, loss: float) -> None:
        """Say so every ten seconds; the end is said by `finished`."""
        self.estimate.progressed(job, step / steps)
        work = self.works.setdefault(job.key, self.display.begin(f"      {job.name}", steps))
        if step < steps:
            work.advance(step, f"loss {loss:.3f}{_all_left(self.estimate)}")

    def finished(self, job: Job, seconds: float) -> None:
        """Say how long it took."""
        self.done += 1
        self.estimate.progressed(job, 1.0)
        left = _all_left(self.estimate) if self.done < self.count else ""
        self.display.say(
            f"[{self.done}/{self.count}] {job.name}: done in {in_words(seconds)}{left}"
        )


@dataclass
class BarDisplay:
    """Bars of rich; they vanish when their work is done."""

    progress: Progress

    def say(self, line: str) -> None:
        """Print the line above the bars."""
        self.progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, name: str, total: int) -> "BarWork":
        """A bar."""
        return BarWork(self.progress, self.progress.add_task(name, total=total, note=""), total)

    def watch_jobs(self, jobs: Sequence[Job]) -> JobWatcher:
        """A bar for all jobs and one for each that runs."""
        all_jobs = self.begin("training jobs", len(jobs))
        return BarJobWatcher(self, all_jobs, Estimate(jobs, time.monotonic))


@dataclass
class BarWork:
    """A piece of work as a bar."""

    progress: Progress
    task: TaskID
    total: int

    def advance(self, done: int, note: str = "") -> None:
        """Move the bar; the last step removes it."""
        if done >= self.total:
            self.progress.remove_task(self.task)
        else:
            self.progress.update(self.task, completed=done, note=note)


@dataclass
class BarJobWatcher:
    """Jobs as bars."""

    display: BarDisplay
    all_jobs: BarWork
    estimate: Estimate
    done: int = 0
    bars: dict[str, BarWork] = field(default_factory=dict)

    def reused(self, job: Job) -> None:
        """Count it."""
        self.estimate.reused(job)
        self._count(f"{job.name}: reused")

    def started(self, job: Job) -> None:
        """Show a bar; the number of steps comes with the first of them."""
        self.estimate.started()
        self.bars[job.key] = self.display.begin(f"  {job.name}", 1)

    def progressed(self, job: Job, step: int, steps: int, loss: float) -> None:
        """Move the job's bar."""
        bar = self.bars[job.key]
        self.display.progress.update(bar.task, completed=step, total=steps, note=f"loss {loss:.3f}")
        self.estimate.progressed(job, step / steps)
        self.display.progress.update(self.all_jobs.task, note=_all_left(self.estimate, ""))

    def finished(self, job: Job, seconds: float) -> None:
        """Remove the job's bar and count it."""
        bar = self.bars.pop(job.key)
        bar.advance(bar.total)
        self.estimate.progressed(job, 1.0)
        self._count(f"{job.name}: done in {in_words(seconds)}")

    def _count(self, line: str) -> None:
        self.done += 1
        self.display.say(line)
        self.all_jobs.advance(self.done)


def _all_left(estimate: Estimate, before: str = ", ") -> str:
    """What to add to a line on one job; nothing where nothing can be guessed."""
    seconds = estimate.seconds_left()
    return "" if seconds is None else f"{before}all jobs: about {in_words(seconds)} left"

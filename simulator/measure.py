"""Bring every model line to real devices, generation by generation, and measure it there.

A line's device enrols once, takes every generation as it is published, and recognises that
generation's test recordings in its own process. Beside it, on the first line of diffs, a second
device sleeps through two generations and catches up in one update.
"""

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any

from server.home import ServerHome
from server.identity.authority import CREDENTIAL_NAME
from server.identity.keys import Policy
from server.publishing import publish
from simulator.answers import Answers
from simulator.errors import ProgramError
from simulator.jobs import Job, read_result
from simulator.lines import Line
from simulator.plan import ModelLine, RunPlan
from simulator.programs import Device, Update, serving
from simulator.progress import Display, Work
from simulator.report.facts import CatchUp
from simulator.report.rows import Row
from simulator.training import CARD, DIFF, GRAPH
from speech.corpus import Corpus

SERVER, DEVICES = "server", "devices"

MISSED = 2
"""Generations that the late device sleeps through."""


@dataclass(frozen=True)
class Folders:
    """Where a run's files lie.

    Attributes:
        jobs: The folders of the finished jobs.
        answers: What devices answered, see `Answers`.
        out: The run's own; server and devices in it start anew.
    """

    jobs: Path
    answers: Path
    out: Path


@dataclass
class Measurements:
    """What a line gave, or all of them."""

    rows: list[Row] = field(default_factory=list)
    catch_ups: list[CatchUp] = field(default_factory=list)


def measure_lines(plan: RunPlan, folders: Folders, workers: int, display: Display) -> Measurements:
    """Publish and measure every line; its jobs must be finished.

    Args:
        plan: What was trained.
        folders: Where that lies, and where to measure.
        workers: Lines at a time.
        display: Told how far it is.

    Raises:
        ProgramError: the server or a device failed.
        ServerError: a generation could not be published.
    """
    out = folders.out
    for name in (SERVER, DEVICES):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / DEVICES).mkdir()
    # Nobody is there to accept the devices of an experiment.
    home = ServerHome.create(out / SERVER, enrolment=Policy.OPEN)
    try:
        with (
            serving(out / SERVER, out / "server.log") as server,
            ThreadPoolExecutor(workers) as pool,
        ):
            work = display.begin("devices", len(plan.lines) * plan.scenario.generations)
            stage = _Stage(plan, folders, home, server.address, work)
            try:
                measured = list(pool.map(stage.measure, plan.lines))
            except BaseException:
                stage.stop()  # the other lines; the pool waits for them
                raise
    finally:
        home.close()
    return Measurements(
        rows=[row for line in measured for row in line.rows],
        catch_ups=[catch_up for line in measured for catch_up in line.catch_ups],
    )


class _Stage:
    """The running server, and the devices around it."""

    def __init__(
        self, plan: RunPlan, folders: Folders, home: ServerHome, server: str, work: Work
    ) -> None:
        self._plan = plan
        self._folders = folders
        self._answers = Answers(folders.answers)
        self._home = home
        self._server = server
        self._work = work
        self._done = 0
        self._lock = Lock()
        self._stopped = Event()
        self._tests = [
            plan.scenario.restrict(plan.corpus, generation).split("test")
            for generation in range(plan.scenario.generations)
        ]

    def stop(self) -> None:
        """Let no line begin another generation."""
        self._stopped.set()

    def measure(self, line: ModelLine) -> Measurements:
        """One line, from its first generation to its last."""
        measured = Measurements()
        device = self._device(line, "device")
        updates: list[Update] = []
        for generation, test in enumerate(self._tests):
            if self._stopped.is_set():
                raise ProgramError("stopped, because another line failed")
            if generation < len(line.jobs):
                self._publish(line, generation)
                updates.append(_enroll_and_update(device, is_new=generation == 0))
            score = self._score(device, updates[-1], line.jobs[len(updates) - 1], test)
            measured.rows.append(self._row(line, generation, updates, score))
            self._advance(line, generation)
            if self._late_device_follows(line) and generation == self._missed_from():
                _enroll_and_update(self._device(line, "late"), is_new=True)
        if self._late_device_follows(line):
            measured.catch_ups.append(self._catch_up(line, updates[-1]))
        return measured

    def _publish(self, line: ModelLine, generation: int) -> None:
        folder = self._folder(line.jobs[generation])
        # One writer at a time: SQLite would make the others wait anyway.
        with self._lock:
            publish(
                self._home,
                self._model(line),
                (folder / DIFF).read_bytes(),
                graph=(folder / GRAPH).read_bytes(),
                card=(folder / CARD).read_text(encoding="utf-8"),
            )

    def _row(self, line: ModelLine, generation: int, updates: list[Update], score: float) -> Row:
        """A line of the results; what was sent is left out where nothing was."""
        is_static = generation >= len(line.jobs)
        result = self._result(line.jobs[-1 if is_static else generation])
        row = Row(
            seed=line.seed,
            generation=generation,
            variant=line.line.variant,
            size=_size(line.line),
            metric=self._plan.scenario.metric,
            added=self._plan.scenario.evolution.added(generation),
            phrases=len(self._tests[generation].phrases()),
            test_recordings=len(self._tests[generation].utterances),
            device_score=score,
            server_score=self._server_score(line, generation),
            float32_bytes=self._plan.size.float32_bytes,
            device_digest=updates[-1].digest,
            server_digest=result["digest"],
        )
        if is_static:
            return row
        update = updates[-1]
        return replace(
            row,
            file_bytes=update.diff_bytes,
            paper_bytes=result["paper_bytes"],
            note=result["note"],
            nominal_ratio=result["nominal_ratio"],
            bytes_sent=update.bytes_sent,
            bytes_received=update.bytes_received,
            apply_s=update.apply_s,
            peak_bytes=update.peak_bytes,
        )

    def _score(self, device: Device, update: Update, job: Job, test: Corpus) -> float:
        """Of what the device installed last, the graph and card of which are the job's."""
        files = (self._folder(job) / name for name in (GRAPH, CARD))
        beside = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        answers = self._answers.of(device, [update.digest, *beside], test)
        return self._plan.scenario.metric.score([u.text for u in test.utterances], answers)

    def _server_score(self, line: ModelLine, generation: int) -> float:
        if line.static is not None:
            return float(self._result(line.static)["scores"][generation])
        return float(self._result(line.jobs[generation])["score"])

    def _late_device_follows(self, line: ModelLine) -> bool:
        """The first line of sized diffs of each seed, where there are generations to miss."""
        diffs = [
            one
            for one in self._plan.scenario.lines
            if one.size is not None and one.variant.traits.builds_on_previous
        ]
        return line.line in diffs[:1] and len(self._tests) > MISSED

    def _missed_from(self) -> int:
        """The last generation that the late device takes before it sleeps."""
        return max(0, len(self._tests) - 2 - MISSED)

    def _catch_up(self, line: ModelLine, newest: Update) -> CatchUp:
        late = self._device(line, "late")
        update = late.update()
        return CatchUp(
            seed=line.seed,
            variant=line.line.variant,
            size=_size(line.line),
            from_generation=self._missed_from(),
            to_generation=update.generation,
            steps=update.steps,
            wire_bytes=update.bytes_sent + update.bytes_received,
            digest=update.digest,
            other_digest=newest.digest,
            score=self._score(late, update, line.jobs[-1], self._tests[-1]),
        )

    def _device(self, line: ModelLine, name: str) -> Device:
        folder = self._folders.out / DEVICES / f"{self._model(line)}-{name}"
        fleet = self._folders.out / SERVER / CREDENTIAL_NAME
        return Device(folder, self._server, self._model(line), fleet)

    def _model(self, line: ModelLine) -> str:
        return f"{self._plan.scenario.name}-s{line.seed}-{line.line.slug}"

    def _folder(self, job: Job) -> Path:
        return self._folders.jobs / job.key

    def _result(self, job: Job) -> dict[str, Any]:
        return read_result(self._folders.jobs, job.key)

    def _advance(self, line: ModelLine, generation: int) -> None:
        with self._lock:
            self._done += 1
            self._work.advance(self._done, f"{line.line.title}, generation {generation}")


def _enroll_and_update(device: Device, is_new: bool) -> Update:
    if is_new:
        device.enroll()
    return device.update()


def _size(line: Line) -> str | None:
    return None if line.size is None else str(line.size)

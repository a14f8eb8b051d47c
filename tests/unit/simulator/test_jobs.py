import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from simulator.errors import JobError
from simulator.job_runner import run_jobs
from simulator.jobs import CHECKPOINT, Job, by_longest_chain, is_finished, job_key, read_result


def square(number, folder, parents, progress):
    progress(1, 1, 0.0)
    (folder / "number.txt").write_text(str(number))
    print("libraries print things")
    return {"square": number * number, "process": os.getpid()}


def sum_of_parents(_arguments, folder, parents, progress):
    return {"sum": sum(int((parent / "number.txt").read_text()) for parent in parents.values())}


def refuse(message, folder, parents, progress):
    (folder / "half.txt").write_text("half")
    raise ValueError(message)


def vanish(_arguments, folder, parents, progress):
    os._exit(7)


def count_up(_arguments, folder, parents, progress):
    """Fails at every step but the last, and goes on where it was."""
    checkpoint = folder / CHECKPOINT
    step = int(checkpoint.read_text()) if checkpoint.exists() else 0
    checkpoint.write_text(str(step + 1))
    if step < 2:
        raise ValueError(f"step {step}")
    return {"steps": step}


def be_slow(_arguments, folder, parents, progress):
    time.sleep(1)
    return {"process": os.getpid()}


class Diary:
    """Writes down what it is told."""

    def __init__(self):
        self.entries = []

    def reused(self, job):
        self.entries.append(("reused", job.name))

    def started(self, job):
        self.entries.append(("started", job.name))

    def progressed(self, job, step, steps, loss):
        self.entries.append(("progressed", job.name))

    def finished(self, job, seconds):
        self.entries.append(("finished", job.name))


def a_job(function, argument=None, after=(), cost=1.0):
    name = f"{function.__name__} {argument}"
    key = job_key(function.__name__, argument, *(parent.key for parent in after))
    return Job(key, name, function, argument, tuple(parent.key for parent in after), cost)


def test_parents_come_first_and_their_folders_are_handed_on(tmp_path):
    two, three = a_job(square, 2), a_job(square, 3)
    total = a_job(sum_of_parents, after=(two, three))
    diary = Diary()
    run_jobs([total, two, three], tmp_path, workers=2, watcher=diary)
    assert read_result(tmp_path, total.key) == {"sum": 5}
    assert read_result(tmp_path, two.key)["square"] == 4
    assert diary.entries[-1] == ("finished", total.name)
    assert ("progressed", two.name) in diary.entries


def test_every_job_has_a_process_of_its_own(tmp_path):
    two, three = a_job(square, 2), a_job(square, 3)
    run_jobs([two, three], tmp_path, workers=1, watcher=Diary())
    processes = {read_result(tmp_path, job.key)["process"] for job in (two, three)}
    assert len(processes | {os.getpid()}) == 3


def test_finished_jobs_are_reused(tmp_path):
    two = a_job(square, 2)
    run_jobs([two], tmp_path, workers=1, watcher=Diary())
    before = read_result(tmp_path, two.key)
    diary = Diary()
    run_jobs([two], tmp_path, workers=1, watcher=diary)
    assert diary.entries == [("reused", two.name)]
    assert read_result(tmp_path, two.key) == before


@pytest.mark.parametrize(
    ("name", "content"),
    [("result.json", ""), ("result.json", "[]"), ("number.txt", ""), ("number.txt", None)],
)
def test_a_job_whose_files_a_power_cut_took_runs_again(tmp_path, name, content):
    two = a_job(square, 2)
    run_jobs([two], tmp_path, workers=1, watcher=Diary())
    damaged = tmp_path / two.key / name
    damaged.unlink() if content is None else damaged.write_text(content)
    assert not is_finished(tmp_path, two.key)
    diary = Diary()
    run_jobs([two], tmp_path, workers=1, watcher=diary)
    assert ("started", two.name) in diary.entries
    assert read_result(tmp_path, two.key)["square"] == 4
    assert (tmp_path / two.key / "number.txt").read_text() == "2"


def test_a_failed_job_is_named_and_finished_ones_are_kept(tmp_path):
    two = a_job(square, 2)
    bad = a_job(refuse, "no such thing\nsecond line", after=(two,))
    with pytest.raises(JobError) as failure:
        run_jobs([two, bad], tmp_path, workers=1, watcher=Diary())
    assert bad.name.splitlines()[0] in str(failure.value)
    assert "ValueError: no such thing" in str(failure.value)
    assert is_finished(tmp_path, two.key)
    assert not is_finished(tmp_path, bad.key)


def test_a_failed_job_leaves_its_traceback_in_a_log(tmp_path):
    bad = a_job(refuse, "no such thing")
    with pytest.raises(JobError, match=r"log.txt"):
        run_jobs([bad], tmp_path, workers=1, watcher=Diary())
    (log,) = tmp_path.glob("*/log.txt")
    assert "Traceback" in log.read_text()


def test_a_failed_job_can_be_repeated(tmp_path):
    bad = a_job(refuse, "no such thing")
    for _ in range(2):
        with pytest.raises(JobError):
            run_jobs([bad], tmp_path, workers=1, watcher=Diary())


def test_a_repeated_job_finds_its_checkpoint_and_a_finished_one_leaves_none(tmp_path):
    job = a_job(count_up)
    for _ in range(2):
        with pytest.raises(JobError):
            run_jobs([job], tmp_path, workers=1, watcher=Diary())
    run_jobs([job], tmp_path, workers=1, watcher=Diary())
    assert read_result(tmp_path, job.key) == {"steps": 2}
    assert not (tmp_path / job.key / CHECKPOINT).exists()
    assert is_finished(tmp_path, job.key)


def test_runs_that_share_a_folder_share_a_job_that_one_of_them_is_at(tmp_path):
    job, diaries = a_job(be_slow), [Diary(), Diary()]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda diary: run_jobs([job], tmp_path, 1, diary), diaries))
    told = sorted(diary.entries[-1][0] for diary in diaries)
    assert told == ["finished", "reused"]
    assert [path.name for path in tmp_path.iterdir()] == [job.key]


def test_a_process_that_vanishes_is_a_failed_job(tmp_path):
    with pytest.raises(JobError, match="exit code 7"):
        run_jobs([a_job(vanish)], tmp_path, workers=1, watcher=Diary())


def test_the_costliest_chain_starts_first():
    short = a_job(square, 1, cost=5)
    root = a_job(square, 2, cost=2)
    leaf = a_job(sum_of_parents, after=(root,), cost=4)
    assert by_longest_chain([short, leaf, root]) == [root, short, leaf]


def test_a_key_changes_with_everything_it_is_made_of():
    keys = {job_key("a", 1), job_key("a", 2), job_key("b", 1), job_key("a", 1, "p")}
    assert len(keys) == 4
    assert job_key("a", {"x": 1, "y": 2}) == job_key("a", {"y": 2, "x": 1})


INTERRUPTED = """
    import os, sys, time
    from pathlib import Path
    from simulator.job_runner import run_jobs
    from simulator.jobs import Job
    from tests.unit.simulator.test_jobs import Diary

    def sleep(_arguments, folder, parents, progress):
        Path(sys.argv[1], "asleep").write_text(str(os.getpid()))
        time.sleep(60)

    if __name__ == "__main__":
        try:
            run_jobs([Job("k", "sleeper", sleep, None)], Path(sys.argv[1]), 1, Diary())
        except KeyboardInterrupt:
            sys.exit(130)
"""


def test_an_interrupt_ends_the_workers(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    asleep = jobs / "asleep"
    root = Path(__file__).parents[3]
    run = subprocess.Popen(
        [sys.executable, str(script), str(jobs)],
        env={**os.environ, "PYTHONPATH": str(root)},
        # A suite that runs in the background of a shell inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not (asleep.exists() and asleep.read_text()):
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        with pytest.raises(ProcessLookupError):
            os.kill(int(asleep.read_text()), 0)
        assert not is_finished(jobs, "k")
    finally:
        run.kill()

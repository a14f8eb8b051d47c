import io

from rich.console import Console

from simulator.jobs import Job
from simulator.progress import LineDisplay, open_display


def a_job(name: str) -> Job:
    return Job(name, name, lambda *_: {}, None)


def test_without_a_terminal_there_are_plain_lines():
    file = io.StringIO()
    with open_display(Console(file=file)) as display:
        assert isinstance(display, LineDisplay)
        work = display.begin("speakers", 2)
        work.advance(1)
        work.advance(2)
        first, second = a_job("first"), a_job("second [0]")
        watcher = display.watch_jobs([first, second])
        watcher.reused(first)
        watcher.started(second)
        watcher.progressed(second, 5, 10, 0.5)
        watcher.finished(second, 3.2)
    assert file.getvalue().splitlines() == [
        "speakers: 2/2",
        "[1/2] first: reused",
        "[2/2] second [0]: done in 3 s",
    ]


def test_on_a_terminal_bars_come_and_go_and_lines_stay():
    file = io.StringIO()
    with open_display(Console(file=file, force_terminal=True, width=100)) as display:
        job = a_job("first")
        watcher = display.watch_jobs([job])
        watcher.started(job)
        watcher.progressed(job, 5, 10, 0.5)
        watcher.finished(job, 3.2)
    assert "first: done in 3 s" in file.getvalue()

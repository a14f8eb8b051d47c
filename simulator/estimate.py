"""How long jobs will still take, guessed from their costs and from how it went so far.

>>> estimate = Estimate(jobs, clock=time.monotonic)
>>> estimate.progressed(job, 0.5)
>>> in_words(estimate.seconds_left())
'4 min'
"""

from collections.abc import Callable, Sequence

from simulator.jobs import Job


class Estimate:
    """Told what happens to jobs; several of them may run at once."""

    def __init__(self, jobs: Sequence[Job], clock: Callable[[], float]) -> None:
        self._to_do = {job.key: job.cost for job in jobs}
        self._shares: dict[str, float] = {}
        self._clock = clock
        self._started_s: float | None = None

    def reused(self, job: Job) -> None:
        """It was there: it says nothing about how long others take."""
        self._to_do.pop(job.key, None)

    def started(self) -> None:
        """From the first one on, time is taken."""
        if self._started_s is None:
            self._started_s = self._clock()

    def progressed(self, job: Job, share: float) -> None:
        """So much of it is done, 0..1."""
        self._shares[job.key] = share

    def seconds_left(self) -> float | None:
        """For all jobs together; None before there is anything to guess from."""
        done = sum(self._to_do[key] * share for key, share in self._shares.items())
        if self._started_s is None or not done:
            return None
        left = sum(self._to_do.values()) - done
        return (self._clock() - self._started_s) * left / done


def in_words(seconds: float) -> str:
    """40 s, 4 min, 3 h 20 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

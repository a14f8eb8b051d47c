"""What a server counts of itself, for Prometheus.

Definitions are data, and docs/guides/monitoring.md holds the same table (a test compares them).
Labels have few values, whatever devices do: none is a device, an attempt, or a text that somebody
else chose freely.

    >>> metrics = Metrics()
    >>> metrics.checked_in("plan")
    >>> generate_latest(metrics.registry)

What is counted here is this process's own and begins at 0 with it; what stands in the database is
read at each scrape (census).
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

from server.home import ServerHome


class Kind(StrEnum):
    """What Prometheus calls a type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Definition:
    """A metric: its name as it is scraped, and what it says."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


CALL_SECONDS = Definition(
    "ota_call_seconds",
    Kind.HISTOGRAM,
    "Calls that ended and how long they took, streams to their last byte",
    ("method", "code"),
)
CALLS_UNDER_WAY = Definition(
    "ota_calls_under_way", Kind.GAUGE, "Calls that have not ended yet", ("method",)
)
SENT_BYTES = Definition(
    "ota_sent_bytes_total",
    Kind.COUNTER,
    "Bytes of messages sent: blob, metadata, or answer for all others",
    ("kind",),
)
CHECK_INS = Definition(
    "ota_check_ins_total",
    Kind.COUNTER,
    "Check-ins by answer: plan, nothing, or the reason of a deferral",
    ("answer",),
)
REFUSALS = Definition(
    "ota_refusals_total", Kind.COUNTER, "Calls that a limit refused or cut", ("limit",)
)
TICK_SECONDS = Definition(
    "ota_tick_seconds", Kind.HISTOGRAM, "How long the regular look at rollouts took"
)
TICK_FAILURES = Definition("ota_tick_failures_total", Kind.COUNTER, "Looks at rollouts that failed")
LAST_TICK = Definition(
    "ota_last_tick_timestamp_seconds", Kind.GAUGE, "When the last look that succeeded ended"
)
BUILD = Definition(
    "ota_build_info", Kind.GAUGE, "Always 1; what runs here", ("version", "python", "grpc")
)

OF_THE_PROCESS = (
    CALL_SECONDS,
    CALLS_UNDER_WAY,
    SENT_BYTES,
    CHECK_INS,
    REFUSALS,
    TICK_SECONDS,
    TICK_FAILURES,
    LAST_TICK,
    BUILD,
)

CALL_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
TICK_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60)

Tick = Callable[[ServerHome, datetime], None]


class Metrics:
    """The counts of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._calls = self._histogram(CALL_SECONDS, CALL_BUCKETS)
        self._under_way = self._gauge(CALLS_UNDER_WAY)
        self._sent = self._counter(SENT_BYTES)
        self._check_ins = self._counter(CHECK_INS)
        self._refusals = self._counter(REFUSALS)
        self._ticks = self._histogram(TICK_SECONDS, TICK_BUCKETS)
        self._tick_failures = self._counter(TICK_FAILURES)
        self._last_tick = self._gauge(LAST_TICK)
        self._gauge(BUILD).labels(
            installed_version("neuraldiff"),
            platform.python_version(),
            installed_version("grpcio"),
        ).set(1)
        ProcessCollector(registry=self.registry)

    def call_began(self, method: str) -> None:
        """Count a call that begins."""
        self._under_way.labels(method).inc()

    def call_ended(self, method: str, code: str, seconds: float) -> None:
        """Count a call that ended."""
        self._under_way.labels(method).dec()
        self._calls.labels(method, code).observe(seconds)

    def sent(self, kind: str) -> Callable[[float], None]:
        """What counts bytes of a kind."""
        return self._sent.labels(kind).inc

    def checked_in(self, answer: str) -> None:
        """Count the answer to a device."""
        self._check_ins.labels(answer).inc()

    def refused(self, limit: str) -> None:
        """Count a call that a limit refused."""
        self._refusals.labels(limit).inc()

    def timed(self, tick: Tick) -> Tick:
        """The same look at rollouts, with its time, failures and last success counted."""

        def timed_tick(home: ServerHome, now: datetime) -> None:
            with self._ticks.time(), self._tick_failures.count_exceptions():
                tick(home, now)
            self._last_tick.set(time.time())

        return timed_tick

    def _counter(self, what: Definition) -> Counter:
        return Counter(what.name, what.help, what.labels, registry=self.registry)

    def _gauge(self, what: Definition) -> Gauge:
        return Gauge(what.name, what.help, what.labels, registry=self.registry)

    def _histogram(self, what: Definition, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(what.name, what.help, what.labels, buckets=buckets, registry=self.registry)


def installed_version(package: str) -> str:
    """The version of a package; `unknown` where it runs from a bare checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"

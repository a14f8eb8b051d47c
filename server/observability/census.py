"""What the database says of the fleet, as metrics.

It is read at the scrape, so that it is right whichever of several servers is asked. A scrape soon
after another one finds the same counts.

Where the database does not answer, `ota_registry_up` is 0 and the rest is missing: no number is
better than an old one.
"""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from server.clock import Clock, utc_now
from server.domain import AttemptState
from server.errors import ServerError
from server.observability.metrics import Definition, Kind
from server.registry import Registry
from server.registry.census import Census, census

log = logging.getLogger(__name__)

KEEP_S = 5.0
MOST_GENERATIONS = 50
"""Of a model, each with a count of its own: the newest ones; devices on others are `older`."""
MOST_CODES = 50
"""Of attempts, those that occur most; the rest is `OTHER`. Codes are what devices say."""
CODE = re.compile(r"[A-Z0-9_]{1,64}")
OTHER = "OTHER"

REGISTRY_UP = Definition(
    "ota_registry_up", Kind.GAUGE, "1 where the database answered this scrape, else 0"
)
DEVICES = Definition(
    "ota_devices",
    Kind.GAUGE,
    "Devices in service by what they run: a generation, none, or older than the 50 newest",
    ("model", "generation"),
)
ATTEMPTS = Definition(
    "ota_attempts",
    Kind.GAUGE,
    "Attempts of all time by state, and by code where they failed or were ended",
    ("state", "code"),
)
ROLLOUTS = Definition("ota_rollouts", Kind.GAUGE, "Rollouts by state", ("model", "state"))
KEYS = Definition(
    "ota_device_keys", Kind.GAUGE, "Keys that are or want to be a device's, by state", ("state",)
)
SIGNING = Definition(
    "ota_signing_expiry_seconds",
    Kind.GAUGE,
    "Seconds until the newest metadata of a role ends; below 0: it has",
    ("role",),
)
OF_THE_FLEET = (REGISTRY_UP, DEVICES, ATTEMPTS, ROLLOUTS, KEYS, SIGNING)

Rows = Iterable[tuple[tuple[str, ...], float]]


class FleetCollector(Collector):
    """Counts of the registry.

    Args:
        registry: What to count in.
        now: The clock that expiry is judged by.
        clock: Seconds that never go back, for how old the counts are.
    """

    def __init__(
        self,
        registry: Registry,
        now: Clock = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._now = now
        self._clock = clock
        self._lock = threading.Lock()
        self._taken: tuple[float, Census] | None = None

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names without values, so that nobody has to ask the database for them."""
        return (_family(what, ()) for what in OF_THE_FLEET)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The counts."""
        try:
            counts = self._census()
        except ServerError as error:
            log.error("no counts of the fleet: %s", error)
            yield _family(REGISTRY_UP, [((), 0.0)])
            return
        now = self._now()
        yield _family(REGISTRY_UP, [((), 1.0)])
        yield _family(DEVICES, device_rows(counts.devices))
        yield _family(ATTEMPTS, attempt_rows(counts.attempts))
        yield _family(ROLLOUTS, (((m, str(s)), n) for (m, s), n in counts.rollouts.items()))
        yield _family(KEYS, (((str(state),), n) for state, n in counts.keys.items()))
        yield _family(
            SIGNING,
            (((role,), (at - now).total_seconds()) for role, at in counts.expiries.items()),
        )

    def _census(self) -> Census:
        with self._lock:  # who comes meanwhile gets what is being counted
            if self._taken is None or self._clock() - self._taken[0] > KEEP_S:
                self._taken = None
                self._taken = (self._clock(), census(self._registry))
            return self._taken[1]


def device_rows(devices: Mapping[tuple[str, int | None], int]) -> Rows:
    """Devices by model and generation, with few generations of each model."""
    rows: dict[tuple[str, ...], float] = {}
    for model in {model for model, _ in devices}:
        run = sorted((g for m, g in devices if m == model and g is not None), reverse=True)
        shown = set(run[:MOST_GENERATIONS])
        for (_, generation), number in ((k, n) for k, n in devices.items() if k[0] == model):
            label = "none" if generation is None else str(generation)
            label = label if generation is None or generation in shown else "older"
            rows[model, label] = rows.get((model, label), 0) + number
    return sorted(rows.items())


def attempt_rows(attempts: Mapping[tuple[AttemptState, str | None], int]) -> Rows:
    """Attempts by state and code, with few codes."""
    totals: dict[str, int] = {}
    for (_, code), number in attempts.items():
        if code and CODE.fullmatch(code):
            totals[code] = totals.get(code, 0) + number
    shown = set(sorted(totals, key=lambda code: (-totals[code], code))[:MOST_CODES])
    rows: dict[tuple[str, ...], float] = {}
    for (state, code), number in attempts.items():
        label = "" if not code else code if code in shown else OTHER
        rows[str(state), label] = rows.get((str(state), label), 0) + number
    return sorted(rows.items())


def _family(what: Definition, rows: Rows) -> GaugeMetricFamily:
    family = GaugeMetricFamily(what.name, what.help, labels=what.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family

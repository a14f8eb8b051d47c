"""The values of a rollout.

A *phase* reaches part of the devices that a rollout is for, and every phase reaches at least
those of the phase before it. A *policy* says when a phase has succeeded, when it has failed, and
under which conditions a device may be updated at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum
from itertools import pairwise

from server.domain import LARGEST_COUNT
from server.errors import RolloutError
from server.rollouts.states import State

LARGEST_POINT = LARGEST_COUNT
"""Points are 63 bits."""

MOST_PHASES = 20
MOST_WINDOWS = 24
LARGEST_NUMBER = 2**31 - 1
LONGEST_TIME = timedelta(days=366)


class Channel(StrEnum):
    """What a device follows: one of these."""

    STABLE = "stable"
    BETA = "beta"


class OnFailure(StrEnum):
    """What happens at the failure threshold, beside the pause."""

    PAUSE = "pause"
    ROLLBACK = "rollback"


@dataclass(frozen=True)
class Phase:
    """How many devices a phase reaches, those of earlier phases included: one of the two."""

    percent: float | None = None
    devices: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is no share and no count."""
        if (self.percent is None) == (self.devices is None):
            raise RolloutError("expected a phase of a percentage or of a count")
        if self.percent is not None and not 0 < self.percent <= 100:
            raise RolloutError(f"expected a phase of over 0 % to 100 %, found {self.percent:g} %")
        if self.devices is not None and self.devices < 1:
            raise RolloutError(f"expected a phase of at least 1 device, found {self.devices}")

    @property
    def is_whole(self) -> bool:
        """It reaches every device, also those that enrol later."""
        return self.percent == 100

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent is not None else str(self.devices)


@dataclass(frozen=True)
class Window:
    """Hours of the day in which devices may be updated; over midnight where end <= start."""

    start: time
    end: time

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M}"


@dataclass(frozen=True)
class Policy:
    """The rules of one rollout.

    Attributes:
        success_threshold: Share of a phase's devices that must run the target before the phase
            is over, 0 to 1.
        failure_threshold: Share of the devices whose attempts have ended that may have failed;
            one more pauses the rollout. 0 to 1.
        minimum_sample: Devices whose attempts must have ended before either is judged, or all
            of the phase where it has fewer.
        soak: How long to wait after a phase has succeeded, still counting failures.
        attempt_timeout: How long an attempt may be silent.
        maximum_attempts: Of one device; it then counts as failed.
        maximum_in_flight: Open attempts at a time; None: any number.
        windows: When devices may be updated; none: always.
        metered_bytes: The most that a plan may cost on a metered link; None: anything, 0: nothing.
        monthly_bytes: Budget of devices that have none of their own; None: none.
        on_failure: What happens at the failure threshold, beside the pause.
    """

    success_threshold: float = 0.8
    failure_threshold: float = 0.1
    minimum_sample: int = 5
    soak: timedelta = timedelta(0)
    attempt_timeout: timedelta = timedelta(hours=6)
    maximum_attempts: int = 3
    maximum_in_flight: int | None = None
    windows: tuple[Window, ...] = ()
    metered_bytes: int | None = None
    monthly_bytes: int | None = None
    on_failure: OnFailure = OnFailure.PAUSE

    def __post_init__(self) -> None:
        """Refuse numbers that would never pause or never end a phase."""
        for name in ("success_threshold", "failure_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise RolloutError(f"{name}: expected 0 to 1, found {value:g}")
        for name, least, most in (
            ("minimum_sample", 1, LARGEST_NUMBER),
            ("maximum_attempts", 1, LARGEST_NUMBER),
            ("maximum_in_flight", 1, LARGEST_NUMBER),
            ("metered_bytes", 0, LARGEST_COUNT),
            ("monthly_bytes", 0, LARGEST_COUNT),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise RolloutError(f"{name}: expected {least} to {most}, found {value}")
        if not timedelta(0) <= self.soak <= LONGEST_TIME:
            raise RolloutError(f"expected a soak of 0 to 366 days, found {self.soak}")
        if not timedelta(0) < self.attempt_timeout <= LONGEST_TIME:
            raise RolloutError(
                f"expected an attempt timeout of over 0 to 366 days, found {self.attempt_timeout}"
            )
        if len(self.windows) > MOST_WINDOWS:
            raise RolloutError(
                f"expected at most {MOST_WINDOWS} windows, found {len(self.windows)}"
            )


@dataclass(frozen=True)
class Progress:
    """How far a rollout has come; what a transition changes.

    Attributes:
        phase: Index of the current phase.
        cutoff: Devices of points up to this one are reached; -1: none is yet.
        devices: Devices that the phase reached when it began.
        already: Those of them that ran the target, or a newer one, without this rollout.
        starts_at: When a scheduled rollout starts.
        entered_at: When the present state was entered.
        judged_since: Attempts that ended earlier are not judged: those of earlier phases, or of
            before an operator resumed.
        reason: Why the present state was entered, for people.
    """

    phase: int = 0
    cutoff: int = -1
    devices: int = 0
    already: int = 0
    starts_at: datetime | None = None
    entered_at: datetime | None = None
    judged_since: datetime | None = None
    reason: str = ""


@dataclass(frozen=True)
class Rollout:
    """One generation on its way to part of a fleet.

    Attributes:
        rollout_id: 12 hexadecimal digits.
        target: The generation.
        base: What devices ran before, as far as there was one; a rollback carries its weights.
        phases: At least one; each reaches more than the one before.
        groups: (attribute, value): a device must have one of the values of every attribute.
        only_from: Only devices that run exactly this generation.
        undoes: The rollout whose target this one takes back.
        version: Counts changes; every change names the one that it saw.
    """

    rollout_id: str
    model: str
    channel: Channel
    target: int
    base: int | None
    phases: tuple[Phase, ...]
    created_at: datetime
    policy: Policy = Policy()
    groups: tuple[tuple[str, str], ...] = ()
    only_from: int | None = None
    undoes: str | None = None
    state: State = State.DRAFT
    progress: Progress = field(default_factory=Progress)
    version: int = 0

    def __post_init__(self) -> None:
        """Hold the laws above."""
        if not 1 <= len(self.phases) <= MOST_PHASES:
            raise RolloutError(f"expected 1 to {MOST_PHASES} phases, found {len(self.phases)}")
        _require_growing(self.phases)
        if self.base is not None and self.base >= self.target:
            raise RolloutError(
                f"expected a base older than generation {self.target}, found {self.base}"
            )
        if self.policy.on_failure is OnFailure.ROLLBACK and self.base is None:
            raise RolloutError(
                f"expected an older generation than {self.target} to roll back to, found none"
            )

    @property
    def phase(self) -> Phase:
        """The current one."""
        return self.phases[self.progress.phase]

    @property
    def is_in_last_phase(self) -> bool:
        """No phase follows."""
        return self.progress.phase == len(self.phases) - 1


@dataclass(frozen=True)
class Member:
    """What a rollout sees of a device. One that nobody has set up follows `stable`."""

    device_id: str
    channel: Channel = Channel.STABLE
    attributes: Mapping[str, str] = field(default_factory=dict)
    installed: int | None = None


@dataclass(frozen=True)
class Counts:
    """What the devices of a rollout did. Each device counts once.

    Attributes:
        on_target: Reached the target by this rollout.
        succeeded: Those of them whose last attempt ended since `Progress.judged_since`.
        failed: Not on the target, and an attempt of theirs failed, or their last one ended, since.
        in_flight: Attempts that are open.
    """

    on_target: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0

    @property
    def sample(self) -> int:
        """Devices that are judged."""
        return self.succeeded + self.failed


def _require_growing(phases: tuple[Phase, ...]) -> None:
    """Counts and percentages cannot be compared; each kind must grow for itself."""
    for kind in ("percent", "devices"):
        sizes = [size for phase in phases if (size := getattr(phase, kind)) is not None]
        if any(after <= before for before, after in pairwise(sizes)):
            listed = ", ".join(map(str, phases))
            raise RolloutError(f"expected each phase to reach more than the last, found {listed}")

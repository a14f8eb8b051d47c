"""Why a device must wait although there is something for it.

Hours of windows are of the device's own clock where its attribute `timezone` names a zone
(Europe/Berlin), and UTC otherwise. Bytes are those that the device itself reported in the
calendar month, in UTC; a plan costs the length of its files.

    >>> deferral_of(policy, case)
    Deferral(reason=<Reason.METERED>, ...)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from server.errors import RolloutError
from server.rollouts.rollout import Policy, Window

TIMEZONE = "timezone"


class Reason(StrEnum):
    """Why a device must wait; the words are stable."""

    WINDOW = "outside-window"
    METERED = "metered"
    MONTHLY_BYTES = "monthly-bytes"
    IN_FLIGHT = "in-flight"
    ATTEMPTS = "attempts"


@dataclass(frozen=True)
class Deferral:
    """Why, for the device's log, and from when on it makes sense to ask again, if that is known."""

    reason: Reason
    detail: str
    until: datetime | None = None


@dataclass(frozen=True)
class Case:
    """A device that would be updated now.

    Attributes:
        now: The time.
        attributes: Of the device.
        is_metered: Its link costs money by the byte.
        plan_bytes: What the plan costs.
        used_bytes: What the device has reported in this month.
        budget_bytes: Its own monthly budget; None: that of the rollout, if it has one.
        tries: Attempts that it has ended, without success, in this rollout.
    """

    now: datetime
    attributes: Mapping[str, str]
    is_metered: bool
    plan_bytes: int
    used_bytes: int = 0
    budget_bytes: int | None = None
    tries: int = 0


def deferral_of(policy: Policy | None, case: Case) -> Deferral | None:
    """The reason that holds longest; None where nothing holds the device back.

    Args:
        policy: Of the rollout; None where no rollout decides, then only the device's own budget.
        case: The device and what it would be told.
    """
    if policy is None:
        return _over_budget(case, case.budget_bytes)
    budget_bytes = case.budget_bytes if case.budget_bytes is not None else policy.monthly_bytes
    return (
        _out_of_attempts(case, policy.maximum_attempts)
        or _over_budget(case, budget_bytes)
        or _metered(case, policy.metered_bytes)
        or _outside(case, policy.windows)
    )


def zone_of(attributes: Mapping[str, str]) -> tzinfo:
    """The zone of a device's clock.

    Raises:
        RolloutError: its attribute names no zone.
    """
    name = attributes.get(TIMEZONE)
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RolloutError(
            f"{TIMEZONE}: expected a zone such as Europe/Berlin, found {name!r}"
        ) from None


def next_month(now: datetime) -> datetime:
    """When the bytes of devices are counted from zero again."""
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _out_of_attempts(case: Case, maximum: int) -> Deferral | None:
    if case.tries < maximum:
        return None
    return Deferral(Reason.ATTEMPTS, f"this device has used up the {maximum} attempts of a rollout")


def _over_budget(case: Case, budget_bytes: int | None) -> Deferral | None:
    if budget_bytes is None or case.used_bytes + case.plan_bytes <= budget_bytes:
        return None
    return Deferral(
        Reason.MONTHLY_BYTES,
        f"expected at most {budget_bytes} bytes this month, found {case.used_bytes} spent "
        f"and {case.plan_bytes} to come",
        next_month(case.now),
    )


def _metered(case: Case, limit_bytes: int | None) -> Deferral | None:
    if not case.is_metered or limit_bytes is None or case.plan_bytes <= limit_bytes:
        return None
    return Deferral(
        Reason.METERED,
        f"expected at most {limit_bytes} bytes on a metered link, found {case.plan_bytes}",
    )


def _outside(case: Case, windows: Sequence[Window]) -> Deferral | None:
    if not windows:
        return None
    local = case.now.astimezone(zone_of(case.attributes))
    if any(_is_open(window, local) for window in windows):
        return None
    opens_at = min(_opens_at(window, local) for window in windows)
    listed = ", ".join(map(str, windows))
    return Deferral(
        Reason.WINDOW,
        f"expected a time of {listed}, found {local:%H:%M} ({local.tzname()})",
        opens_at.astimezone(UTC),
    )


def _is_open(window: Window, local: datetime) -> bool:
    now = local.time().replace(tzinfo=None)
    if window.start < window.end:
        return window.start <= now < window.end
    return now >= window.start or now < window.end


def _opens_at(window: Window, local: datetime) -> datetime:
    today = local.replace(hour=window.start.hour, minute=window.start.minute, second=0)
    return today if today > local else today + timedelta(days=1)

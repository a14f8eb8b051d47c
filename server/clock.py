"""The time, which comes in as an argument everywhere but at the rim."""

from collections.abc import Callable
from datetime import UTC, date, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock that the server runs by."""
    return datetime.now(UTC)


def time_text(time: datetime | None) -> str | None:
    """A time as JSON has it: ISO 8601, to the second."""
    return time.isoformat(timespec="seconds") if time is not None else None


def month_of(now: datetime) -> date:
    """The first day of the month, in UTC, that bytes are counted in."""
    return now.astimezone(UTC).date().replace(day=1)

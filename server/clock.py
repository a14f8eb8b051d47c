"""The time, which comes in as an argument everywhere but at the rim."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock that the server runs by."""
    return datetime.now(UTC)


def time_text(time: datetime | None) -> str | None:
    """A time as JSON has it: ISO 8601, to the second."""
    return time.isoformat(timespec="seconds") if time is not None else None

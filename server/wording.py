"""Sizes and times as people read them; programs get numbers."""

from datetime import datetime, timedelta

UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))
SIZES = ("B", "KB", "MB", "GB", "TB")


def duration(time: timedelta) -> str:
    """A duration by its two largest units: `2 d 3 h`, `6 h`, `40 s`."""
    seconds = round(abs(time).total_seconds())
    parts = []
    for name, length in UNITS:
        number, seconds = divmod(seconds, length)
        if number:
            parts.append(f"{number} {name}")
        elif parts:
            break
    return " ".join(parts[:2]) or "0 s"


def about(time: timedelta) -> str:
    """A duration by its largest unit alone: `3 h`."""
    words = duration(time).split()
    return " ".join(words[:2])


def size(count: float) -> str:
    """Bytes, 1 KB = 1000 B: `712 B`, `40.3 KB`, `1.2 GB`."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(SIZES) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1
    return f"{value:,.{digits}f} {SIZES[unit]}"


def minute(time: datetime) -> str:
    """A time to the minute; all of ours are UTC."""
    return f"{time:%Y-%m-%d %H:%M}"


def number_of(count: int, one: str, many: str = "") -> str:
    """A count and its noun: `1 device`, `1,204 devices`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """A share in whole percent; what is neither nothing nor all never looks like it."""
    if 0 < share < 0.01:
        return "under 1 %"
    if 0.99 < share < 1:
        return "over 99 %"
    return f"{share * 100:,.0f} %" if share < 1000 else "far over 100 %"


def printable(text: str) -> str:
    """Text of a device or a person, fit for a terminal and a page: no control characters.

    They could move a cursor, colour what follows, or turn the direction of reading.
    """
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)

"""What people write: percentages, durations, hours, groups. Values out, RolloutError otherwise."""

import re
from collections.abc import Iterable, Sequence
from datetime import time, timedelta

from server.errors import RolloutError
from server.rollouts.rollout import Phase, Window

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_windows(texts: Iterable[str]) -> tuple[Window, ...]:
    """Windows such as 22:00-05:30.

    Raises:
        RolloutError: one is not.
    """
    return tuple(_window(text) for text in texts)


def windows_text(windows: Sequence[Window]) -> str:
    """Windows in one line, as parse_windows takes them once it is split."""
    return " ".join(map(str, windows))


def parse_phases(texts: Iterable[str]) -> tuple[Phase, ...]:
    """Phases such as 10% or 25 (devices).

    Raises:
        RolloutError: one is not, or reaches nobody.
    """
    return tuple(_phase(text) for text in texts)


def parse_share(text: str) -> float:
    """A percentage such as 80%, as a number from 0 to 1.

    Raises:
        RolloutError: it is none.
    """
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,3})?)\s*%", text.strip())
    if match is None or float(match[1]) > 100:
        raise RolloutError(f"expected a percentage such as 80%, found {text!r}")
    return round(float(match[1]) / 100, 6)


def parse_duration(text: str) -> timedelta:
    """A duration such as 90s, 15m, 6h or 2d; 0 for none.

    Raises:
        RolloutError: it is none.
    """
    match = re.fullmatch(r"(\d{1,5})\s*([smhd])", text.strip())
    if match is None and text.strip() != "0":
        raise RolloutError(f"expected a duration such as 90s, 15m, 6h or 2d, found {text!r}")
    return timedelta(**{UNITS[match[2]]: int(match[1])}) if match else timedelta(0)


def parse_pair(text: str) -> tuple[str, str]:
    """An attribute such as room=kitchen.

    Raises:
        RolloutError: it is none, or longer than 64 and 200 characters, or cannot be printed.
    """
    key, separator, value = text.partition("=")
    if not separator or not 0 < len(key) <= 64 or not 0 < len(value) <= 200:
        raise RolloutError(f"expected an attribute such as room=kitchen, found {text!r}")
    if not text.isprintable():
        raise RolloutError(f"expected an attribute without control characters, found {text!r}")
    return key, value


def _window(text: str) -> Window:
    match = re.fullmatch(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})", text)
    try:
        if match is None:
            raise ValueError
        hours = [int(part) for part in match.groups()]
        return Window(time(hours[0], hours[1]), time(hours[2], hours[3]))
    except ValueError:
        raise RolloutError(f"expected hours such as 22:00-05:30, found {text!r}") from None


def _phase(text: str) -> Phase:
    match = re.fullmatch(r"(\d{1,9})|(\d{1,3}(?:\.\d{1,3})?)\s*%", text.strip())
    if match is None:
        raise RolloutError(f"expected a phase such as 10% or 25 (devices), found {text!r}")
    if match[1]:
        return Phase(devices=int(match[1]))
    return Phase(percent=float(match[2]))

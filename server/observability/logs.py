"""Log lines on stderr: for people, or one JSON object each.

    2026-02-03 09:12:44,101 INFO OK in 3.1 ms, 212 bytes request_id=9f... device=kitchen ...
    {"time": "2026-02-03T09:12:44.101Z", "level": "INFO", "request_id": "9f...", ...}

Whatever a device sends may come to stand in a message; it cannot begin a line of its own.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from enum import StrEnum

from server.observability.fields import noted


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """The least that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


PLAIN = re.compile(r"[\w.:/+%\[\]-]+", re.ASCII)
QUIET = ("alembic", "asyncio", "tuf", "securesystemslib")
"""What others write below a warning says nothing to an operator."""


def configure(
    format: LogFormat = LogFormat.TEXT,  # noqa: A002 - the word of the option
    level: LogLevel = LogLevel.INFO,
) -> None:
    """Write this process's log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if format is LogFormat.JSON else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class TextLines(logging.Formatter):
    """Time, level, message, and what is noted of the work as NAME=VALUE."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """One line without what follows of an exception."""
        pairs = "".join(f" {name}={_word(value)}" for name, value in fields_of(record).items())
        return _on_one_line(super().formatMessage(record) + pairs)


class JsonLines(logging.Formatter):
    """One object a line; names of fields are those of docs/guides/monitoring.md."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def fields_of(record: logging.LogRecord) -> dict[str, object]:
    """What is noted of the work that a line is about, and what the line adds."""
    return {**noted(), **getattr(record, "fields", {})}


def _word(value: object) -> str:
    """A value that ends where the next field begins; in quotes where it would not."""
    text = str(value)
    return text if PLAIN.fullmatch(text) else json.dumps(text)


def _on_one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

"""Log lines on stderr: for people, or one JSON object each.

    2026-02-03 09:12:44,101 INFO OK in 3.1 ms, 212 bytes request_id=9f... device=kitchen ...
    {"time": "2026-02-03T09:12:44.101Z", "level": "INFO", "request_id": "9f...", ...}

Whatever a device sends may come to stand in a message; it cannot begin a line of its own.
"""

import atexit
import json
import logging
import re
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from queue import Full, Queue
from threading import Thread
from typing import TextIO

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


MOST_WAITING = 10_000
PLAIN = re.compile(r"[\w.:/+%\[\]-]+", re.ASCII)
QUIET = ("alembic", "asyncio", "tuf", "securesystemslib")
"""What others write below a warning says nothing to an operator."""


def configure(
    format: LogFormat = LogFormat.TEXT,  # noqa: A002 - the word of the option
    level: LogLevel = LogLevel.INFO,
) -> None:
    """Write this process's log to stderr, without waiting for whoever reads it."""
    handler = Unhurried(sys.stderr)
    handler.setFormatter(JsonLines() if format is LogFormat.JSON else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


class Unhurried(logging.Handler):
    """Writes lines from a thread of its own: a log that nobody reads must hold up no call.

    Lines are made where they arise, where it is known what they are about. What does not fit
    while nobody reads is lost, and how much that was is the first line afterwards.

    Args:
        stream: Where to.
        most: Lines that may wait.
    """

    def __init__(self, stream: TextIO, most: int = MOST_WAITING) -> None:
        super().__init__()
        self._stream = stream
        self._lines: Queue[str] = Queue(most)
        self._lost = 0
        Thread(target=self._write, name="log", daemon=True).start()
        atexit.register(self.drain)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a line over."""
        try:
            line = self.format(record)
            if self._lost and not self._lines.full():
                lost, self._lost = self._lost, 0
                self._lines.put_nowait(self.format(_loss(lost)))
            self._lines.put_nowait(line)
        except Full:
            self._lost += 1
        except Exception:  # of the arguments; logging's own handlers do the same
            self.handleError(record)

    def drain(self, patience_s: float = 1.0) -> None:
        """Wait until all is written, for as long as there is hope."""
        deadline = time.monotonic() + patience_s
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.005)

    def _write(self) -> None:
        while True:
            line = self._lines.get()
            with suppress(OSError, ValueError):  # a stream that is gone or closed
                self._stream.write(f"{line}\n")
                self._stream.flush()
            self._lines.task_done()


def _loss(lines: int) -> logging.LogRecord:
    logger = logging.getLogger(__name__)
    message = "%d lines were lost: nobody read the log"
    return logger.makeRecord(__name__, logging.WARNING, __file__, 0, message, (lines,), None)


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

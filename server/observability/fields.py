"""What the log lines of a call, or of another piece of work, have in common.

    >>> with about(rollout_id="3f2a"):
    ...     log.info("paused")                      # carries rollout_id
    ...     note(attempt_id="77c1")                 # and from here on this one, too

Threads that the piece of work starts by asyncio.to_thread carry the same.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_fields: ContextVar[dict[str, str] | None] = ContextVar("fields", default=None)


def begin(fields: dict[str, str]) -> None:
    """From here on this task is about something else; `fields` is what is noted of it."""
    _fields.set(fields)


def note(**fields: str | None) -> None:
    """Add to what is known of the work under way; None and outside of any: nothing."""
    known = _fields.get()
    if known is not None:
        known.update((name, value) for name, value in fields.items() if value)


@contextmanager
def about(**fields: str) -> Iterator[None]:
    """Say what the work within the block is about, beside what is known already."""
    token = _fields.set({**(_fields.get() or {}), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def noted() -> Mapping[str, str]:
    """What is known of the work under way."""
    return _fields.get() or {}

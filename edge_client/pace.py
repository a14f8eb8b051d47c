"""The least pace of a download: a server that sends one byte a second must not hold a device.

Bytes are counted on the wire, as they come, because a chunk of a slow stream may take minutes. A
download that is cut resumes where it was, so an honest but slow link loses nothing but time.

    >>> with Pace().watch(lambda: traffic.received_bytes, stream.cancel) as watch:
    ...     for chunk in stream: ...
    >>> watch.is_slow
    False
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """The fewest bytes a second that are accepted, in the mean of a window.

    A poor GPRS link brings some thousand: what is slower than this is no link that is in use.
    """

    least_bytes_s: int = 128
    window_s: float = 20.0

    @contextmanager
    def watch(
        self, received_bytes: Callable[[], int], cut: Callable[[], object]
    ) -> "Iterator[Watch]":
        """Watch over the block.

        Args:
            received_bytes: How much has come so far.
            cut: Called once, from another thread, when a window brought too little.
        """
        watch = Watch(self, received_bytes, cut)
        watch.start()
        try:
            yield watch
        finally:
            watch.end()


class Watch(threading.Thread):
    """Looks once a window whether enough has come."""

    def __init__(
        self, pace: Pace, received_bytes: Callable[[], int], cut: Callable[[], object]
    ) -> None:
        super().__init__(name="pace", daemon=True)
        self.is_slow = False
        self._pace = pace
        self._received_bytes = received_bytes
        self._cut = cut
        self._ended = threading.Event()

    def run(self) -> None:
        """Count until the end, or until it is too slow."""
        least = self._pace.least_bytes_s * self._pace.window_s
        before = self._received_bytes()
        while not self._ended.wait(self._pace.window_s):
            now = self._received_bytes()
            if now - before < least:
                self.is_slow = True
                self._cut()
                return
            before = now

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()
        self.join()

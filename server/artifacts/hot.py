"""Small blobs that were asked for lately, in memory: a fleet downloads the same few files.

    >>> hot = HotBlobs()
    >>> hot.keep(sha256, content)
    >>> hot.get(sha256)

A blob never changes, so nothing here grows stale. For one event loop, not for threads.
"""

from collections import OrderedDict

LARGEST_BYTES = 1 << 20
"""A larger blob is streamed: one read for each MiB of it costs next to nothing."""
ALL_BYTES = 64 << 20


class HotBlobs:
    """The blobs that were used last, as many as fit.

    Args:
        largest_bytes: Of a blob that is kept.
        all_bytes: Of all that are kept.
    """

    def __init__(self, largest_bytes: int = LARGEST_BYTES, all_bytes: int = ALL_BYTES) -> None:
        self.largest_bytes = largest_bytes
        self._free_bytes = all_bytes
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, sha256: bytes) -> bytes | None:
        """A blob whole; None where it is not kept."""
        if sha256 not in self._kept:
            return None
        self._kept.move_to_end(sha256)
        return self._kept[sha256]

    def keep(self, sha256: bytes, content: bytes) -> None:
        """Keep a blob, and let go those that were not used for longest."""
        if sha256 in self._kept or len(content) > self.largest_bytes:
            return
        self._kept[sha256] = content
        self._free_bytes -= len(content)
        while self._free_bytes < 0:
            _, forgotten = self._kept.popitem(last=False)
            self._free_bytes += len(forgotten)

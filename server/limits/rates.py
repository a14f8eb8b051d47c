"""How often somebody may call: a token bucket each.

A bucket holds up to `at_once` tokens and gains `per_s` a second; a call takes one. What is kept
is when the bucket would have been empty, one number a caller, and only of those whose bucket is
not full again.

    >>> rate = Rate(per_s=1.0, at_once=2)
    >>> [rate.wait_s("kitchen", now) for now in (0.0, 0.0, 0.0, 1.0)]
    [0.0, 0.0, 1.0, 0.0]
"""

from collections import OrderedDict

MOST_CALLERS = 100_000
"""Whose buckets are kept; about 20 MB."""


class Rate:
    """Buckets of many callers.

    Args:
        per_s: Tokens a second.
        at_once: What a full bucket holds.
    """

    def __init__(self, per_s: float, at_once: int, most_callers: int = MOST_CALLERS) -> None:
        self._period_s = 1.0 / per_s
        self._full_s = at_once * self._period_s
        self._most = most_callers
        # The time at which a caller's bucket is full again; the least recent caller first.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, caller: str, now_s: float) -> float:
        """Take a token.

        Args:
            caller: Whose.
            now_s: A clock that never goes back.

        Returns:
            0.0 where there was one; else how long until there is, and none is taken.
        """
        full_at = max(self._full_at.get(caller, now_s), now_s) + self._period_s
        wait_s = full_at - now_s - self._full_s
        # Less than a nanosecond is what floating point makes of nothing.
        if wait_s > 1e-9:
            return wait_s
        self._full_at[caller] = full_at
        self._full_at.move_to_end(caller)
        self._forget(now_s)
        return 0.0

    def _forget(self, now_s: float) -> None:
        """Drop a full bucket or two, so that those who went away do not stay."""
        for _ in range(2):
            if not self._full_at:
                return
            caller, full_at = next(iter(self._full_at.items()))
            if full_at > now_s and len(self._full_at) <= self._most:
                return
            del self._full_at[caller]

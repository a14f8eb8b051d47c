"""When a device should come again: spread at random, so that no two crowds stay together."""

from datetime import datetime, timedelta
from random import Random

from server.rollouts.conditions import Deferral, Reason

USUALLY = timedelta(hours=1)
SOON = timedelta(minutes=1)
"""For those who only wait for their turn."""
SPREAD = timedelta(minutes=30)
"""Over which those come who all wait for the same moment."""
AT_MOST = timedelta(days=1)
"""Nobody stays away longer: what was decided may change."""


def come_again_s(deferral: Deferral | None, now: datetime, random: Random) -> int:
    """Seconds until a device should check in again, at least 1.

    Args:
        deferral: Why it has to wait; None: it need not, or there is nothing for it.
        now: The time.
        random: Where the spread comes from.
    """
    if deferral is not None and deferral.until is not None:
        wait = min(deferral.until - now, AT_MOST)
        return max(1, round((wait + SPREAD * random.random()).total_seconds()))
    waits_for_a_turn = deferral is not None and deferral.reason is Reason.IN_FLIGHT
    around = SOON if waits_for_a_turn else USUALLY
    return max(1, round((around * random.uniform(0.5, 1.5)).total_seconds()))

"""How patiently to wait for a server that does not answer.

>>> retry = Retry(tries=4)
>>> retry.pause(failures=1)      # sleeps 0.125 to 0.25 s
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Retry:
    """How often and how patiently to try again. Waits double and are drawn from [half, whole]."""

    tries: int = 4
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0
    sleep: Callable[[float], None] = time.sleep
    # Only spreads devices in time; nothing secret.
    randomness: random.Random = field(default_factory=random.Random)

    def pause(self, failures: int) -> None:
        """Wait after the given number of failures in a row, failures >= 1."""
        whole = min(self.longest_wait_s, self.first_wait_s * 2 ** (failures - 1))
        self.sleep(self.randomness.uniform(whole / 2, whole))

"""The fleet at a glance: one set of values for the terminal, the page and programs.

    values    what an overview says (frozen)
    judgement what follows from what the registry knows (pure)
    reading   asks the registry, and judges
    content   an overview as JSON has it
    terminal  `ota-server status`

    >>> overview = overview_of(home, now)

Not for: one rollout followed closely, which is server.rollouts.watching.
"""

from server.overview.reading import overview_of
from server.overview.values import Overview

__all__ = ["Overview", "overview_of"]

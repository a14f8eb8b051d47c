"""How far long work is, for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far something is: `done` of `total`, in whatever `doing` counts."""

    doing: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]

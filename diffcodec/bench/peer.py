"""What a coder must offer to be compared: absence, encode, decode, and a check.

All code the same change. Coders of files (`of_files`) restore the new store bit for bit. Coders
of levels (`of_levels`, `nncodec`) restore levels or values; their bytes hold no steps, names,
shapes or digests, which a file of ours (`ours`) does hold. One class a coder.
"""

import importlib.util
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from diffcodec.bench.work import Work

T = TypeVar("T")

NO_LEVELS = "codes levels; this work is exact"
MEGABYTE = 1_000_000
# Minutes and gigabytes above that: at 245 MB bsdiff4 takes 174 s and 4.2 GB.
SLOW_ABOVE_BYTES = 32 * MEGABYTE


@dataclass(frozen=True)
class Coded(Generic[T]):
    """What one run gave.

    Attributes:
        value: Bytes of the file, or what they decode to.
        seconds: By the wall clock.
        peak_bytes: Memory on top of what was there before, where the coder itself can tell.
    """

    value: T
    seconds: float
    peak_bytes: int | None = None


class Peer(Protocol):
    """A coder that takes part."""

    @property
    def name(self) -> str:
        """For the table."""

    @property
    def is_in_process(self) -> bool:
        """Whether it allocates in this process, so that its memory can be watched here."""

    def absence(self, work: Work) -> str | None:
        """Why it cannot take part, and how to change that; None where it can."""

    def encode(self, work: Work) -> Coded[bytes]:
        """Code the change; what the work derives for it is made before the clock starts."""

    def decode(self, work: Work, data: bytes) -> Coded[Any]:
        """Decode what the last `encode` gave."""

    def is_right(self, work: Work, decoded: Any) -> bool:
        """Whether that is the change, as exactly as this coder promises it."""


def without_package(name: str) -> str | None:
    """Why a Python package cannot be used; None where it can."""
    is_there = importlib.util.find_spec(name) is not None
    return None if is_there else f"not installed; pip install {name}"


def too_slow(work: Work) -> str | None:
    """Why a slow coder sits out a store of this size; None where it takes part."""
    if work.base.layout.file_bytes <= SLOW_ABOVE_BYTES:
        return None
    return f"minutes at this size; it is run up to {SLOW_ABOVE_BYTES // MEGABYTE} MB"

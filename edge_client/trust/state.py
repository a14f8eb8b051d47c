"""What a device must never forget, apart from the TUF cache.

Laws of `TrustState.and_then` (each a property test): the floor, the high-water and the revoked
generations never shrink; the order of what is learned does not matter to them.

The file is replaced whole and fsynced. Should the disk damage it all the same, the installed
generation is the floor: the device goes on, and still never backwards.
"""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from edge_client import durable
from edge_client.errors import StorageError

FORMAT = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TrustState:
    """What was seen so far.

    Attributes:
        generation_floor: The newest generation that was committed here; None: none was.
        time_high_water: The latest time at which all metadata was found valid. Expiry is judged
            at this time or at the clock's, whichever is later.
        fresh_until: When the metadata seen last expires.
        revoked: Generations that were revoked, as far as this device has heard.
    """

    generation_floor: int | None = None
    time_high_water: datetime = EPOCH
    fresh_until: datetime = EPOCH
    revoked: frozenset[int] = frozenset()

    def judged_at(self, clock: datetime) -> datetime:
        """The time by which expiry is judged: a clock that was set back changes nothing."""
        return max(clock, self.time_high_water)

    def is_stale(self, clock: datetime) -> bool:
        """Whether what was seen last has expired."""
        return self.judged_at(clock) >= self.fresh_until

    def refreshed(self, judged_at: datetime, fresh_until: datetime) -> "TrustState":
        """After all metadata was found valid."""
        return replace(
            self,
            time_high_water=max(self.time_high_water, judged_at),
            fresh_until=fresh_until,
        )

    def committed(self, number: int) -> "TrustState":
        """After a generation was committed."""
        floor = number if self.generation_floor is None else max(self.generation_floor, number)
        return replace(self, generation_floor=floor)

    def with_revoked(self, numbers: frozenset[int]) -> "TrustState":
        """After these were heard to be revoked."""
        return replace(self, revoked=self.revoked | numbers)

    def to_json(self) -> str:
        """Serialise for state.json."""
        content = {
            "format": FORMAT,
            "generation_floor": self.generation_floor,
            "time_high_water": self.time_high_water.isoformat(),
            "fresh_until": self.fresh_until.isoformat(),
            "revoked": sorted(self.revoked),
        }
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrustState":
        """Read state.json.

        Raises:
            ValueError: it is not one.
        """
        try:
            content = json.loads(text)
            if content["format"] != FORMAT:
                raise ValueError(f"format {content['format']!r}")
            floor = content["generation_floor"]
            return cls(
                None if floor is None else int(floor),
                _time(content["time_high_water"]),
                _time(content["fresh_until"]),
                frozenset(int(number) for number in content["revoked"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected the state of trust: {error}") from error


def read_state(path: Path) -> TrustState:
    """What was remembered; nothing where there is no file, or one that is damaged."""
    try:
        return TrustState.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return TrustState()


def write_state(path: Path, state: TrustState) -> None:
    """Remember, durably.

    Raises:
        DiskFullError, StorageError: what was remembered before still is.
    """
    durable.make_folder(path.parent)
    if path.is_dir():
        raise StorageError(f"{path}: expected a file, found a folder")
    durable.write(path, state.to_json().encode())


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"expected a time with its zone, found {text}")
    return time

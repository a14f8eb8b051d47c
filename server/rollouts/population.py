"""Which devices a rollout is for, and which of them a phase reaches.

A device has a point in every rollout: SHA-256 of both ids, so that it is the same on every server
and another one in the next rollout, and nobody is always first. When a phase begins, the n-th
smallest point becomes its cutoff, and from then on a device knows by its own point alone whether
it is reached. Devices that enrol later join in proportion.

    >>> reach_of(rollout, number=0, members=registry.rollouts.population("digits"))
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from server.rollouts.rollout import LARGEST_POINT, Member, Phase, Rollout


@dataclass(frozen=True)
class Reach:
    """What a phase reaches as it begins; the fields are those of Progress."""

    cutoff: int
    devices: int
    already: int


def point_of(rollout_id: str, device_id: str) -> int:
    """Where a device stands in a rollout, 0 to 2^63 - 1."""
    # No id has a slash, so that no two pairs give the same text.
    name = hashlib.sha256(f"{rollout_id}/{device_id}".encode()).digest()
    return int.from_bytes(name[:8], "big") >> 1


def is_for(rollout: Rollout, member: Member) -> bool:
    """Whether channel, attributes and generation are those that a rollout wants."""
    if member.channel is not rollout.channel:
        return False
    if rollout.only_from is not None and member.installed != rollout.only_from:
        return False
    wanted: dict[str, set[str]] = defaultdict(set)
    for key, value in rollout.groups:
        wanted[key].add(value)
    return all(member.attributes.get(key) in values for key, values in wanted.items())


def reaches(rollout: Rollout, member: Member) -> bool:
    """Whether the phases so far reach a device."""
    return is_for(rollout, member) and (
        point_of(rollout.rollout_id, member.device_id) <= rollout.progress.cutoff
    )


def reach_of(
    rollout: Rollout, number: int, members: Iterable[Member], took: Collection[str] = ()
) -> Reach:
    """What a phase reaches if it begins now.

    Args:
        rollout: Whose phase.
        number: The phase's index.
        members: The devices of the rollout's model.
        took: Ids of devices that took the target by this rollout.
    """
    # Devices that this rollout moved on no longer run what it looks for.
    wanted = [m for m in members if m.device_id in took or is_for(rollout, m)]
    points = sorted(point_of(rollout.rollout_id, member.device_id) for member in wanted)
    # A phase never takes back what an earlier one gave.
    cutoff = max(_cutoff(rollout.phases[number], points), rollout.progress.cutoff)
    reached = [m for m in wanted if point_of(rollout.rollout_id, m.device_id) <= cutoff]
    already = [
        m
        for m in reached
        if m.device_id not in took and m.installed is not None and m.installed >= rollout.target
    ]
    return Reach(cutoff, len(reached), len(already))


def _cutoff(phase: Phase, points: list[int]) -> int:
    if phase.devices is not None:
        wanted = phase.devices
    elif phase.percent is None or phase.is_whole:
        return LARGEST_POINT
    else:
        share = Fraction(str(phase.percent)) / 100
        wanted = ceil(share * len(points))
        if not points:
            return int(share * LARGEST_POINT)
    # More than there are: everybody who is here, and who comes.
    return points[wanted - 1] if wanted <= len(points) else LARGEST_POINT

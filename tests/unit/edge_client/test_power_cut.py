"""SIGKILL at every point where an update has made something durable.

The update runs in its own process, which kills itself before or after its n-th change of the
disk: each fsync, rename and unlink, those of the codec included. Afterwards the home must hold
the old generation or the new one, complete, and the next update must reach the new one.
"""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_client import EdgeHome, Recognizer, update
from edge_client.trust.state import read_state
from tests.unit.edge_client.evidence import stored
from tests.unit.edge_client.fake_server import FakeServer
from tests.unit.edge_client.models import card_with, generation

CHILD = "tests.unit.edge_client.killed_update"
ROOT = Path(__file__).parents[3]
COMPLETED, KILLED = 0, -signal.SIGKILL


def update_until(home: EdgeHome, when: str, where: str) -> int:
    """Run an update that kills itself; returns its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", CHILD, str(home.path), when, where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (COMPLETED, KILLED), done.stderr
    return done.returncode


def number_of(home: EdgeHome) -> int | None:
    """The generation that the home holds, after a proof that it is all there and answers."""
    installed = home.slots.installed()
    if installed is None:
        return None
    number = installed.record.generation.number
    slot = installed.slot
    assert stored(home) == generation(number)
    slot.verify(installed.record)
    assert Recognizer.open(home).generation.number == number
    return number


@pytest.fixture
def two_steps_behind(home: EdgeHome, server: FakeServer) -> EdgeHome:
    """Holds generation 0 and is offered 2, by a chain of two diffs and with another card."""
    update(home)
    server.publish_next()
    server.publish_next(card=card_with("left", "right"))
    return home


NAMED = [
    ("before", "rename *.part", 0),
    ("after", "rename *.part", 0),
    ("during", "write step-0.bin", 0),
    ("before", "fsync step-0.bin", 0),
    ("after", "fsync step-0.bin", 0),
    ("during", "write weights.bin", 0),
    ("before", "fsync weights.bin", 0),
    ("after", "fsync weights.bin", 0),
    ("before", "rename generation.json", 0),
    ("before", "rename current", 0),
    ("after", "rename current", 2),
    ("before", "rename timestamp.json", 0),
    ("after", "rename timestamp.json", 0),
    ("before", "rename snapshot.json", 0),
    ("after", "rename releases.json", 0),
    ("before", "fsync state.json.tmp", 2),
    ("before", "rename state.json", 2),
    ("after", "rename state.json", 2),
]


@pytest.mark.parametrize(
    ("when", "where", "expected"), NAMED, ids=[f"{when} {where}" for when, where, _ in NAMED]
)
def test_power_cut_at_a_named_point_leaves_a_whole_generation(
    two_steps_behind: EdgeHome, when: str, where: str, expected: int
) -> None:
    home = two_steps_behind
    assert update_until(home, when, where) == KILLED
    assert number_of(home) == expected
    update(home)
    assert number_of(home) == 2
    assert read_state(home.path / "trust" / "state.json").generation_floor == 2
    assert list(home.staging.iterdir()) == []


def test_power_cut_before_every_change_of_the_disk_leaves_a_whole_generation(
    two_steps_behind: EdgeHome,
) -> None:
    seen = []
    for change in range(1, 100):
        home = EdgeHome(two_steps_behind.path.with_name(f"cut-{change}"))
        shutil.copytree(two_steps_behind.path, home.path)
        outcome = update_until(home, "before", f"change {change}")
        seen.append(number_of(home))
        update(home)
        assert number_of(home) == 2
        if outcome == COMPLETED:
            break
    print(f"{len(seen) - 1} power cuts: {seen.count(0)} left the old generation, the rest the new")
    assert outcome == COMPLETED
    # Once the new one is there, it stays.
    assert seen == [0] * seen.count(0) + [2] * seen.count(2)
    assert seen.count(0) > 25

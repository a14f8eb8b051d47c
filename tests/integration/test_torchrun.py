"""`ota-server train` under torchrun: two processes learn one generation."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from server.home import ServerHome
from tests.integration.watched_training import EVERY
from tests.tone_corpus import write_tone_corpus

ROOT = Path(__file__).parents[2]
WORDS = {"red": "a", "green": "a", "blue": "b"}
KILLED_AT = 18


@dataclass(frozen=True)
class World:
    """A server's folder, and what its processes leave."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "srv"

    def train(self, *options: object, kill: str = "") -> subprocess.CompletedProcess[str]:
        """Learn the next generation by two processes on the loopback interface."""
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        program = ["--nproc-per-node", "2", "-m", "tests.integration.watched_training"]
        order = ["train", self.home, "--corpus", self.folder / "corpus", "--json", *options]
        watched = {"WATCHED_FOLDER": str(self.folder), "WATCHED_KILL": kill}
        return subprocess.run(
            [*launcher, *program, *map(str, order)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | watched | {"OMP_NUM_THREADS": "1"},
        )

    def learned(self) -> list[bytes]:
        """The file of the generation, as each process has it."""
        return [(self.folder / f"learned-{rank}.ndiff").read_bytes() for rank in (0, 1)]

    def steps(self, rank: int) -> list[int]:
        """Those that a process took."""
        return [int(step) for step in (self.folder / f"steps-{rank}.txt").read_text().split()]

    def generations(self) -> int:
        opened = ServerHome.open(self.home)
        try:
            head = opened.registry.head("slu")
        finally:
            opened.close()
        return 0 if head is None else head.number + 1

    def checkpoints(self) -> list[Path]:
        return list((self.home / "training").iterdir())


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> World:
    """With a generation 0 that two processes learned."""
    world = World(tmp_path_factory.mktemp("world"))
    write_tone_corpus(world.folder / "corpus", WORDS, speakers=3, takes=2)
    ServerHome.create(world.home).close()
    done = world.train("--method", "dense", "--config", "tiny", "--steps", 60)
    assert done.returncode == 0, done.stderr
    (facts,) = (json.loads(line) for line in done.stdout.splitlines())  # one process speaks
    assert facts["generation"] == 0
    assert facts["accuracy"] > 0.6
    return world


def test_two_processes_learn_the_same_and_publish_one_generation(first: World) -> None:
    assert first.generations() == 1
    one, other = first.learned()
    assert one == other
    assert first.checkpoints() == []


def test_a_process_that_dies_ends_the_other_and_the_same_command_goes_on(
    first: World, tmp_path: Path
) -> None:
    options = ("--method", "sparse", "--budget", "4KB", "--steps", 30)
    whole, killed = World(tmp_path / "whole"), World(tmp_path / "killed")
    for world in (whole, killed):
        shutil.copytree(first.folder, world.folder)
    assert whole.train(*options).returncode == 0

    died = killed.train(*options, kill=f"1 {KILLED_AT}")
    assert died.returncode != 0
    assert killed.generations() == 1
    assert len(killed.checkpoints()) == 1

    resumed = killed.train(*options)
    assert resumed.returncode == 0, resumed.stderr
    for rank in (0, 1):
        assert killed.steps(rank)[0] == KILLED_AT - KILLED_AT % EVERY + 1
    assert killed.learned() == whole.learned()
    assert killed.generations() == 2
    assert killed.checkpoints() == []


def test_a_process_that_is_left_alone_says_so_in_one_line(first: World, tmp_path: Path) -> None:
    """Where no launcher ends it."""
    alone = World(tmp_path / "alone")
    shutil.copytree(first.folder, alone.folder)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    module = [sys.executable, "-m", "tests.integration.watched_training"]
    order = ["train", alone.home, "--corpus", alone.folder / "corpus", "--method", "finetune"]
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    watched = {"WATCHED_FOLDER": str(alone.folder), "WATCHED_KILL": "1 9", "OMP_NUM_THREADS": "1"}

    def start(rank: int) -> subprocess.Popen[str]:
        env = os.environ | place | watched | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        command = [*module, *map(str, order), "--steps", "20"]
        return subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)

    with start(0) as left, start(1) as killed:
        _, said = left.communicate()
        killed.communicate()
    assert (left.returncode, killed.returncode) == (1, -signal.SIGKILL)
    assert said.splitlines()[-1].startswith("error: process 0 of 2: expected all to go on")
    assert "Traceback" not in said
    assert alone.generations() == 1
    assert len(alone.checkpoints()) == 1

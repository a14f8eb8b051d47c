"""`ota-server collect` and roll-ups on demand: real processes, real devices."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client import EdgeHome, enroll, update
from edge_client.address import ServerAddress
from edge_client.enrollment import Wanted
from server.home import ServerHome
from server.publishing import publish, weights_of
from server.registry.identities import Identities
from tests import fleet
from tests.integration.server_process import COMMAND, ROOT, TIMEOUT_S, ca_of, server_process
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, snapshot, weights

AT_ONCE = ("--older-than", "0", "--keep", "1")
KILLED_BEFORE_FILES = """
import os, signal, sys
from server.artifacts import FolderStore
from server.cli import main
FolderStore.delete = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.argv = ["ota-server", *sys.argv[1:]]
main()
"""


@pytest.fixture
def srv(tmp_path: Path) -> Iterator[ServerHome]:
    made = ServerHome.create(tmp_path / "srv")
    fleet.open_to_all(made)
    publish(made, "digits", snapshot(weights(0)), graph=GRAPH, card=CARD)
    yield made
    made.close()


def publish_more(srv: ServerHome, generations: int) -> None:
    head = srv.registry.head("digits")
    assert head is not None
    for number in range(head.number, head.number + generations):
        _, diff = a_little_later(weights_of(srv, "digits", number), number + 1)
        publish(srv, "digits", diff)


def device_at(folder: Path, srv: ServerHome, address: ServerAddress) -> EdgeHome:
    home = EdgeHome(folder)
    enroll(home, address, Wanted("digits"), ca_of(srv.folder))
    update(home)
    return home


def collect(srv: ServerHome, *options: str) -> dict:
    ended = subprocess.run(
        [*COMMAND, "collect", srv.folder, *AT_ONCE, "--json", *options],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return json.loads(ended.stdout)


def files(srv: ServerHome) -> set[str]:
    return {file.name for file in srv.artifacts.listing()}


def test_devices_update_before_and_after_a_collection_under_a_running_server(
    tmp_path: Path, srv: ServerHome
) -> None:
    with server_process(srv.folder, "--roll-ups", "0") as (_, text):
        address = ServerAddress.parse(text)
        old = device_at(tmp_path / "old", srv, address)
        publish_more(srv, 4)
        assert collect(srv, "--dry-run")["files"]
        before = files(srv)
        deleted = {one["name"] for one in collect(srv)["files"]}
        assert deleted
        assert files(srv) == before - deleted
        new = device_at(tmp_path / "new", srv, address)
        for device in (old, new):
            result = update(device)
            assert result.after.number == 4
            assert result.after.digest == srv.registry.generation("digits", 4).digest
        publish_more(srv, 1)
        collect(srv)
        assert update(old).after.number == 5


def test_a_kill_between_rows_and_files_leaves_orphans_that_the_next_run_takes(
    tmp_path: Path, srv: ServerHome
) -> None:
    publish_more(srv, 4)
    before = files(srv)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_BEFORE_FILES, "collect", srv.folder, *AT_ONCE],
        cwd=ROOT,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    assert killed.returncode == -signal.SIGKILL
    assert files(srv) == before
    assert {(s.base, s.target) for s in srv.registry.steps("digits")} == {(None, 4)}
    with server_process(srv.folder) as (_, text):
        device = device_at(tmp_path / "device", srv, ServerAddress.parse(text))
        assert update(device).after.number == 4
    taken = collect(srv)["files"]
    assert {one["reason"] for one in taken} == {"no generation names it"}
    assert files(srv) == before - {one["name"] for one in taken}
    assert collect(srv)["files"] == []


def test_devices_far_behind_get_one_step_that_one_of_two_servers_made_and_signed(
    tmp_path: Path, srv: ServerHome
) -> None:
    with server_process(srv.folder) as (_, text), server_process(srv.folder) as (_, other):
        first, second = (
            device_at(tmp_path / name, srv, ServerAddress.parse(address))
            for name, address in (("a", text), ("b", other))
        )
        publish_more(srv, 5)
        deadline = time.monotonic() + TIMEOUT_S
        while not srv.registry.signing.unnamed_steps():
            assert time.monotonic() < deadline, "no diff was made"
            time.sleep(0.2)
        digest = srv.registry.generation("digits", 5).digest
        for device in (first, second):
            result = update(device)
            assert [step.target.number for step in result.steps] == [5]
            assert result.after.digest == digest
    made = {(s.base, s.target) for s in srv.registry.steps("digits")}
    assert (0, 5) in made
    entries = Identities(srv.registry).audit()
    assert [e.subject for e in entries if e.action == "generation.roll-up"] == ["digits 0 to 5"]
    # Nobody runs generation 0 any more.
    collect(srv)
    assert {(s.base, s.target) for s in srv.registry.steps("digits")} == {(None, 5)}

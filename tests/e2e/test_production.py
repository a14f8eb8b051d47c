"""docs/guides/production.md: the unit, and the drill of losing a machine."""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from diffcodec import ParameterSet
from server.home import ServerHome
from server.publishing import publish
from tests.e2e.programs import PROGRAMS, ROOT, run, serving, succeed
from tests.unit.edge_client.models import CARD, GRAPH, a_little_later, generation, snapshot

UNIT = ROOT / "deploy" / "ota-server.service"


def publish_one(home: Path, base: ParameterSet, seed: int) -> ParameterSet:
    opened = ServerHome.open(home)
    weights, diff = a_little_later(base, seed)
    publish(opened, "digits", diff)
    opened.close()
    return weights


def back_up(home: Path, to: Path) -> None:
    """The registry first, then the rest."""
    to.mkdir()
    database = sqlite3.connect(home / "registry.db")
    database.execute("VACUUM INTO ?", (str(to / "registry.db"),))
    database.close()
    shutil.copytree(home, to / "home", ignore=shutil.ignore_patterns("registry.db*"))


def restore(backup: Path, home: Path) -> None:
    shutil.copytree(backup / "home", home)
    shutil.copy(backup / "registry.db", home / "registry.db")
    succeed("ota-server", "init", home)


def update(device: Path) -> dict:
    return json.loads(succeed("ota-edge", "update", "--home", device, "--json"))


@pytest.mark.timeout(600)
def test_a_server_that_is_lost_comes_back_from_its_backup_and_devices_follow(
    tmp_path: Path,
) -> None:
    home, device, younger = tmp_path / "srv", tmp_path / "kitchen", tmp_path / "hall"
    made = ServerHome.create(home)
    publish(made, "digits", snapshot(generation(0)), graph=GRAPH, card=CARD)
    made.close()
    succeed("ota-server", "init", home, "--enrolment", "open")
    ca = tmp_path / "ca.pem"
    shutil.copy(home / "ca.pem", ca)

    def enroll(place: Path, address: str) -> None:
        where = ("--home", place, "--server", address, "--ca", ca)
        succeed("ota-edge", "enroll", *where, "--model", "digits")

    with serving(home) as address:
        enroll(device, address)
        assert update(device)["generation"] == 0
        back_up(home, tmp_path / "backup")
        # What the backup knows nothing of: a device, and a generation that is installed.
        enroll(younger, address)
        publish_one(home, generation(0), seed=1)
        assert update(device)["generation"] == 1
        assert update(younger)["generation"] == 1
    shutil.rmtree(home)
    restore(tmp_path / "backup", home)
    with serving(home) as address:
        enroll(device, address)  # the same server at another port
        enroll(younger, address)
        weights = publish_one(home, generation(0), seed=2)
        weights = publish_one(home, weights, seed=3)
        for one in (device, younger):
            result = update(one)
            assert result["generation"] == 2
            assert result["digest"] == weights.digest().hex()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_sound_and_starts_a_command_that_there_is(tmp_path: Path) -> None:
    text = UNIT.read_text().replace("/opt/neuraldiff/bin", str(PROGRAMS))
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    ended = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")
    (command,) = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    # Everything but the home is as it would be: a home that is not there is the only complaint.
    ended = run("ota-server", *command.split()[1:])
    assert ended.stderr.startswith("error: /var/lib/ota: expected a server home, found none")


def test_database_and_store_may_stand_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTA_DATABASE", f"sqlite:///{tmp_path}/elsewhere.db")
    monkeypatch.setenv("OTA_STORE", str(tmp_path / "blobs"))
    succeed("ota-server", "init", tmp_path / "srv")
    assert (tmp_path / "elsewhere.db").is_file()
    assert not (tmp_path / "srv" / "registry.db").exists()
    assert any(os.scandir(tmp_path / "blobs")) or (tmp_path / "blobs").is_dir()
    assert json.loads(succeed("ota-server", "keys", "status", tmp_path / "srv", "--json"))

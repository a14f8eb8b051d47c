"""docs/guides/first-fleet.md, step by step, and what can go wrong on the way."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from tests.e2e.programs import fail, run, serving, succeed
from tests.tone_corpus import write_tone_corpus

WORDS = {"red": "a", "green": "a", "blue": "a", "white": "b", "black": "b"}

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Fleet:
    """A running server with one generation, and a device that has it."""

    folder: Path
    address: str

    @property
    def server(self) -> Path:
        return self.folder / "srv"

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    def train(self, *options: object) -> dict:
        common = ("train", self.server, "--corpus", self.corpus, "--json")
        return json.loads(succeed("ota-server", *common, *options))

    def enrolled(self, name: str) -> Path:
        home = self.folder / name
        place = ("--home", home, "--server", self.address, "--ca", self.server / "ca.pem")
        key = succeed("ota-edge", "key", "--home", home).strip()
        succeed("ota-server", "device", "preauthorize", self.server, key)
        succeed("ota-edge", "enroll", *place, "--model", "slu")
        return home


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    write_tone_corpus(folder / "corpus", WORDS)
    succeed("ota-server", "init", folder / "srv")
    with serving(folder / "srv") as address:
        fleet = Fleet(folder, address)
        fleet.train("--method", "dense", "--config", "tiny", "--steps", 150, "--domains", "a")
        yield fleet


def sparse(fleet: Fleet, seed: int) -> dict:
    return fleet.train("--method", "sparse", "--budget", "8KB", "--steps", 150, "--seed", seed)


def update(home: Path) -> dict:
    return json.loads(succeed("ota-edge", "update", "--home", home, "--json"))


def answers(home: Path, *recordings: Path) -> list[str]:
    printed = json.loads(succeed("ota-edge", "infer", "--home", home, "--json", *recordings))
    return [result["phrase"] for result in printed["results"]]


def test_a_device_learns_new_words_by_a_diff(fleet: Fleet) -> None:
    home = fleet.enrolled("kitchen")
    first = update(home)
    white = fleet.corpus / "wav" / "white_5_0.wav"
    assert answers(home, white)[0] in {"red", "green", "blue"}
    trained = sparse(fleet, seed=0)
    second = update(home)
    assert second["digest"] == trained["digest"]
    assert second["diff_bytes"] <= trained["bytes"] <= 8_000 < first["diff_bytes"]
    assert answers(home, white) == ["white"]
    status = json.loads(succeed("ota-edge", "status", "--home", home, "--json"))
    assert status["generation"] == trained["generation"]
    assert status["digest"] == trained["digest"]


def test_bad_recordings_are_named_and_the_others_answered(fleet: Fleet, tmp_path: Path) -> None:
    home = fleet.enrolled("attic")
    update(home)
    (tmp_path / "noise.wav").write_bytes(b"no audio")
    soundfile.write(tmp_path / "empty.wav", [], 16_000)
    good = fleet.corpus / "wav" / "red_5_0.wav"
    ended = run(
        "ota-edge", "infer", "--home", home, tmp_path / "noise.wav", good, tmp_path / "empty.wav"
    )
    assert ended.returncode == 1
    assert "red_5_0.wav" in ended.stdout
    complaints = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert "noise.wav" in complaints[0]
    assert "empty.wav" in complaints[1]


def test_a_budget_that_holds_nothing_is_refused(fleet: Fleet) -> None:
    message = fail(
        "ota-server", "train", fleet.server, "--corpus", fleet.corpus,
        "--method", "sparse", "--budget", "50", "--steps", 20,
    )  # fmt: skip
    assert "at least" in message
    assert "50" in message


def test_a_manifest_without_a_needed_column_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,speaker,seconds\n")
    message = fail("ota-server", "train", fleet.server, "--corpus", tmp_path, "--method", "dense")
    assert "'text'" in message


def test_a_row_whose_recording_is_missing_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,speaker,text,seconds\ngone.wav,s,red,1.0\n")
    message = fail("ota-server", "train", fleet.server, "--corpus", tmp_path, "--method", "dense")
    assert "gone.wav" in message


def test_a_corrupted_byte_is_refused_and_the_old_model_still_answers(fleet: Fleet) -> None:
    home = fleet.enrolled("cellar")
    before = update(home)
    recording = fleet.corpus / "wav" / "red_5_0.wav"
    answered = answers(home, recording)
    artifacts = {p: p.read_bytes() for p in (fleet.server / "artifacts").rglob("*") if p.is_file()}
    trained = sparse(fleet, seed=1)
    for blob in (fleet.server / "artifacts").rglob("*"):
        if blob.is_file() and blob not in artifacts:
            content = bytearray(blob.read_bytes())
            content[len(content) // 2] ^= 1
            blob.chmod(0o600)
            blob.write_bytes(content)
    message = fail("ota-edge", "update", "--home", home)
    assert "expected" in message
    status = json.loads(succeed("ota-edge", "status", "--home", home, "--json"))
    assert status["digest"] == before["digest"] != trained["digest"]
    assert answers(home, recording) == answered

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.shared_data import shared_data

ROOT = Path(__file__).parents[3]


def ota_sim(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulator.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A real-looking corpus of three words and two speakers."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    lines = ["path,speaker,text,seconds,split,domain"]
    for speaker, split in (("ann", "train"), ("bob", "test")):
        for text in ("yes", "no", "maybe"):
            name = f"{speaker}-{text}.wav"
            tone = np.sin(np.arange(4_000) / 9).astype(np.float32) / 4
            soundfile.write(folder / name, tone, 8_000)
            lines.append(f"{name},{speaker},{text},0.5,{split},answers")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    return folder


def assert_one_clear_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 1
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


class TestDryRun:
    def test_it_shows_generations_and_jobs_and_writes_nothing(self, tmp_path):
        ended = ota_sim("run", "quickstart", "--dry-run", "--json", cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr
        planned = json.loads(ended.stdout)
        assert planned["test_speech"] == "synthetic"
        assert [g["added"] for g in planned["generations"]][1:] == [
            ["Bring"],
            ["Language"],
            ["Music"],
        ]
        assert planned["generations"][0]["phrases"] == 15
        # bl, and what comes after generation 0 of ft, blc_sparse, sparse and hash; bl_inf once.
        assert len(planned["jobs"]) == 4 + 4 * 3 + 1
        assert not any(planned["jobs"].values())
        assert list(tmp_path.iterdir()) == []

    def test_seeds_replace_the_scenarios(self, tmp_path):
        arguments = ("run", "quickstart", "--dry-run", "--json", "--seed", 3, "--seed", 4)
        planned = json.loads(ota_sim(*arguments, cwd=tmp_path).stdout)
        assert {name.rpartition(" ")[2] for name in planned["jobs"]} == {"3", "4"}

    def test_variants_sizes_and_steps_replace_the_scenarios(self, tmp_path):
        planned = json.loads(
            ota_sim(
                *("run", "quickstart", "--dry-run", "--json"),
                *("--variants", "bl,hash", "--sizes", "1/100,40x", "--steps", 9),
                cwd=tmp_path,
            ).stdout
        )
        budget_bytes = planned["parameters"] * 4 // 100
        assert planned["lines"] == {"bl": None, "hash 40x": None, "hash 1/100": budget_bytes}

    def test_a_cache_holds_what_runs_can_share(self, tmp_path):
        arguments = ("run", "quickstart", "--dry-run", "--json", "--cache", tmp_path / "shared")
        planned = json.loads(ota_sim(*arguments, cwd=tmp_path).stdout)
        assert Path(planned["corpus"]).parent == tmp_path / "shared" / "corpus"

    def test_any_corpus_by_any_labels(self, tmp_path, corpus):
        ended = ota_sim(
            *("run", "digits", "--corpus", corpus, "--by", "text", "--generations", "yes,no;maybe"),
            *("--dry-run", "--json"),
            cwd=tmp_path,
        )
        planned = json.loads(ended.stdout)
        assert planned["test_speech"] == "real"
        assert [g["test_recordings"] for g in planned["generations"]] == [2, 3]

    @pytest.mark.parametrize(
        ("name", "folder", "recordings"),
        [("digits", "fsdd", [100, 150, 200, 250]), ("commands", "arabic-speech-commands", None)],
    )
    def test_real_corpora_fit_the_builtin_scenarios(self, tmp_path, name, folder, recordings):
        ended = ota_sim(
            "run", name, "--corpus", shared_data(folder), "--dry-run", "--json", cwd=tmp_path
        )
        assert ended.returncode == 0, ended.stderr
        planned = json.loads(ended.stdout)
        assert planned["test_speech"] == "real"
        if recordings is not None:
            assert [g["test_recordings"] for g in planned["generations"]] == recordings


class TestRefusals:
    def test_a_corpus_without_the_labels_names_them(self, tmp_path, corpus):
        ended = ota_sim("run", "digits", "--corpus", corpus, cwd=tmp_path)
        assert_one_clear_line(ended, "'zero'", "'maybe', 'no', 'yes'", "--generations")

    def test_a_single_phrase_is_nothing_to_tell_apart(self, tmp_path, corpus):
        ended = ota_sim(
            *("run", "digits", "--corpus", corpus, "--by", "text", "--generations", "yes;no"),
            cwd=tmp_path,
        )
        assert_one_clear_line(ended, "generation 0", "two phrases", "['yes']")

    def test_an_unknown_variant_lists_the_known_ones(self, tmp_path, corpus):
        ended = ota_sim("run", "digits", "--corpus", corpus, "--variants", "blc", cwd=tmp_path)
        assert_one_clear_line(ended, "--variants", "blc_sparse", "'blc'")

    def test_the_best_of_nothing(self, tmp_path):
        assert_one_clear_line(ota_sim("best", tmp_path, cwd=tmp_path), "results.jsonl")

    def test_a_scenario_that_needs_a_corpus_is_a_usage_error_without_one(self, tmp_path):
        ended = ota_sim("run", "digits", cwd=tmp_path)
        assert ended.returncode == 2
        assert "--corpus" in ended.stderr

    def test_an_unknown_scenario(self, tmp_path):
        ended = ota_sim("run", "quikstart", cwd=tmp_path)
        assert_one_clear_line(ended, "quickstart", "'quikstart'")

    def test_a_folder_that_is_no_corpus(self, tmp_path):
        ended = ota_sim("run", "digits", "--corpus", tmp_path / "nowhere", cwd=tmp_path)
        assert_one_clear_line(ended, "nowhere", "corpus folder")

    def test_a_folder_that_holds_a_run_already(self, tmp_path, corpus):
        (tmp_path / "out" / "jobs").mkdir(parents=True)
        ended = ota_sim(
            "run", "digits", "--corpus", corpus, "--out", tmp_path / "out", cwd=tmp_path
        )
        assert_one_clear_line(ended, "out", "--resume")

    @pytest.mark.parametrize("resume", [[], ["--resume"]], ids=["new", "resume"])
    def test_a_folder_that_holds_other_things_than_a_run(self, tmp_path, corpus, resume):
        home = tmp_path / "home"
        (home / "slots").mkdir(parents=True)
        ended = ota_sim("run", "digits", "--corpus", corpus, "--out", home, *resume, cwd=tmp_path)
        assert_one_clear_line(ended, str(home), "other things")
        assert [path.name for path in home.iterdir()] == ["slots"]

    def test_a_scenario_whose_name_leads_elsewhere(self, tmp_path):
        builtin = (ROOT / "simulator" / "scenarios" / "quickstart.toml").read_text()
        evil = tmp_path / "evil.toml"
        evil.write_text(builtin.replace('name = "quickstart"', 'name = "../../evil"'))
        assert_one_clear_line(ota_sim("run", evil, cwd=tmp_path), "name", "'../../evil'")

    @pytest.mark.parametrize("name", ["nowhere.csv", "."])
    def test_phrases_that_cannot_be_read(self, tmp_path, name):
        ended = ota_sim("corpus", "synth", "new", "--phrases", name, cwd=tmp_path)
        assert_one_clear_line(ended, f"{name}: expected a csv file")
        assert "Errno" not in ended.stderr

    def test_a_report_of_nothing(self, tmp_path):
        assert_one_clear_line(ota_sim("report", tmp_path, cwd=tmp_path), "results.jsonl")


@pytest.mark.parametrize("command", [[], ["run"], ["report"], ["best"]])
def test_help_explains_itself_with_an_example(tmp_path, command):
    ended = ota_sim(*command, "--help", cwd=tmp_path)
    assert ended.returncode == 0
    assert command == [] or f"ota-sim {' '.join(command)}" in ended.stdout

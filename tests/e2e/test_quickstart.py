"""The main job, whole: real training, the real server and real devices as processes."""

import json
from pathlib import Path

import pytest

from simulator.synthesis.corpus import engine_is_missing
from tests.e2e.programs import run

SCENARIO = """
name = "tiny"
description = "three generations in seconds"
task = "slu"
evolve_by = "domain"
generations = [["Heat"], ["Music"], ["Volume"]]
seeds = [0]
model = "tiny"
batch_size = 32
variants = ["bl", "bl_inf", "blc_sparse", "sparse", "hash"]
sizes = ["1/20"]
[steps]
default = 100
dense = 150
hash = 60
[targets]
"sparse 1/20" = 50
[corpus]
kind = "synthetic"
speakers = 8
seed = 0
phrases_per_domain = 2
"""

pytestmark = [
    pytest.mark.skipif(engine_is_missing(), reason="espeakng-loader is not installed"),
    pytest.mark.timeout(900),
]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.toml").write_text(SCENARIO)
    ended = run("ota-sim", "run", folder / "tiny.toml", "--out", folder / "run", "--workers", 2)
    assert ended.returncode == 0, ended.stderr
    (folder / "run" / "stdout.txt").write_text(ended.stdout)
    return folder / "run"


@pytest.fixture(scope="module")
def rows(out: Path) -> dict[tuple[str, int], dict]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return {(row["variant"], row["generation"]): row for row in map(json.loads, lines)}


def test_every_variant_is_measured_at_every_generation(rows):
    variants = {"bl", "blc_sparse", "bl_inf", "sparse", "hash"}
    assert set(rows) == {(variant, number) for variant in variants for number in range(3)}


def test_devices_hold_the_servers_weights_bit_for_bit(rows):
    assert all(row["device_digest"] == row["server_digest"] for row in rows.values())


def test_the_device_is_as_good_as_the_server_says(rows):
    for row in rows.values():
        one_recording = 1 / row["test_recordings"]
        assert abs(row["device_score"] - row["server_score"]) <= max(0.002, one_recording)


def test_updates_fit_the_budget_and_the_wire_carries_little_more(rows):
    for (variant, generation), row in rows.items():
        if variant in ("blc_sparse", "sparse", "hash") and generation > 0:
            budget_bytes = row["float32_bytes"] // 20
            assert row["file_bytes"] <= budget_bytes
            # Beside the file: TLS (about 3,300), signed metadata, a manifest, a card, the calls.
            assert row["file_bytes"] < row["bytes_received"] < row["file_bytes"] + 9_000


def test_a_device_that_is_never_updated_receives_nothing(rows):
    for generation in (1, 2):
        assert rows["bl_inf", generation]["wire_bytes"] is None
        assert rows["bl_inf", generation]["device_digest"] == rows["bl", 0]["device_digest"]


def test_the_first_generation_is_shared(rows):
    assert len({row["device_digest"] for (_, number), row in rows.items() if number == 0}) == 1


def test_the_model_learns_and_the_one_without_updates_falls_behind(rows):
    assert rows["bl", 2]["device_score"] > 0.5
    assert rows["bl_inf", 2]["device_score"] < rows["bl", 2]["device_score"]


def test_a_late_device_catches_up_to_the_same_digest(out, rows):
    (catch_up,) = json.loads((out / "summary.json").read_text())["catch_ups"]
    assert (catch_up["from_generation"], catch_up["to_generation"]) == (0, 2)
    assert catch_up["digest"] == rows["sparse", 2]["device_digest"]


def test_the_table_says_that_the_speech_is_synthetic_and_where_the_report_is(out):
    printed = (out / "stdout.txt").read_text()
    assert "test speech: SYNTHETIC" in printed
    assert f"report: {out / 'report.html'}" in printed
    assert "sparse diff" in (out / "report.html").read_text()


def test_a_second_run_reuses_the_training_and_gives_the_same(out, rows):
    ended = run("ota-sim", "run", out.parent / "tiny.toml", "--out", out, "--resume", "--json")
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("reused") == 10
    summary = json.loads(ended.stdout)
    for cell in summary["cells"]:
        row = rows[cell["variant"], cell["generation"]]
        assert cell["device_score"]["mean"] == row["device_score"]
        assert cell["digest_ok"]


def test_the_report_can_be_made_again(out):
    (out / "report.html").unlink()
    ended = run("ota-sim", "report", out)
    assert ended.returncode == 0, ended.stderr
    assert (out / "report.html").exists()


def test_a_changed_run_says_what_changed_and_loses_nothing(out, rows):
    arguments = ("--variants", "bl,sparse", "--out", out, "--resume", "--json")
    ended = run("ota-sim", "run", out.parent / "tiny.toml", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert "variants: without bl_inf, blc_sparse, hash" in ended.stderr
    assert "5 of 5 jobs are finished and still fit" in ended.stderr
    before = (out / "earlier" / "1" / "results.jsonl").read_text().splitlines()
    assert len(before) == len(rows)
    assert {cell["variant"] for cell in json.loads(ended.stdout)["cells"]} == {"bl", "sparse"}

"""The comparisons in tiny sizes: that they run and say what they found, never how fast."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zstandard
from rich.console import Console

from benchmarks import apply, encode, load, wire
from benchmarks.coders import Coder, Task
from benchmarks.rebuild import Method
from benchmarks.run import RESULTS
from benchmarks.table import print_result
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration, synthetic, trained
from diffcodec.bench.results import Case, Result, Row, Sample, Spread
from diffcodec.bench.timing import Contender, with_turns
from tests.shared_data import shared_data

ROOT = Path(__file__).parents[2]
WIDTH = 16
PEERS = ["bsdiff4", "zstd -19 --patch-from", "zstd -9 --patch-from"]


@pytest.fixture(scope="module")
def generation() -> NextGeneration:
    return synthetic(WIDTH, 0.05, seed=1)


def ignore(text: str) -> None:
    pass


def result_of(*cases: Case) -> Result:
    return Result("encode", "python -m benchmarks.run", 1, 2, {"commit": "abc1234"}, cases)


def names(case: Case) -> list[str]:
    return [row.contender for row in case.rows]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_encode_compares_ours_with_every_peer_on_the_same_generation(generation):
    pytest.importorskip("bsdiff4")
    (case,) = encode.compare([generation], runs=2, on_progress=ignore)
    assert names(case) == ["diffcodec sparse", "diffcodec lossless", *PEERS]
    assert all(len(row.samples) == 2 for row in case.rows)
    sizes = [row.middle("size_bytes") for row in case.rows]
    assert min(sizes) == sizes[0] > 0
    assert not case.skipped


def test_a_patch_that_leads_elsewhere_ends_the_comparison(generation):
    lazy = Coder("lazy", lambda task: zstandard.compress(task.base_bytes), Method.ZSTD)
    with pytest.raises(BenchmarkError, match="lazy: the patch leads to something else"):
        encode.require_exact(lazy, Task.of(generation))


def test_a_peer_that_is_not_installed_is_skipped_and_the_table_says_so(
    generation, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "bsdiff4", None)
    (case,) = encode.compare([generation], runs=1, on_progress=ignore)
    assert case.skipped == {"bsdiff4": "not installed; pip install bsdiff4"}
    assert "bsdiff4" not in names(case)
    print_result(result_of(case), Console())
    assert "skipped: not installed" in capsys.readouterr().out


def test_apply_measures_memory_of_fresh_processes_and_a_plain_copy(generation):
    (case,) = apply.compare([generation], runs=1, on_progress=ignore)
    assert names(case)[0] == "diffcodec sparse"
    assert names(case)[-2:] == ["copy", "copy-then-hash"]
    for row in case.rows:
        (sample,) = row.samples
        assert sample.seconds > 0
        assert sample.peak_bytes is None or sample.peak_bytes >= sample.start_bytes > 0


def test_the_wire_carries_the_blob_and_little_else():
    blob_bytes = 2**20 + 5
    (case,) = wire.compare(blob_bytes, seed=1, runs=1)
    assert names(case)[:3] == ["ota-server", "bare grpc.aio", "ota-server through the relay"]
    for row in case.rows[2:]:
        assert blob_bytes < row.middle("size_bytes") < 1.01 * blob_bytes


def test_a_fleet_is_served_by_both_and_the_memory_of_both_is_seen():
    (case,) = load.compare(5, seed=1, runs=2)
    assert names(case) == ["ota-server", "bare grpc.aio"]
    assert case.work_bytes == 5 * load.DIFF_BYTES
    for row in case.rows:
        assert all(sample.seconds > 0 for sample in row.samples)
        assert all(sample.peak_bytes > 2**24 < sample.start_bytes for sample in row.samples)


def test_contenders_warm_up_and_then_take_turns():
    calls = []

    def contender(name: str) -> Contender:
        return Contender(name, lambda: calls.append(name) or Sample(float(len(calls))))

    rows = with_turns([contender("a"), contender("b")], runs=2)
    assert calls == ["a", "b"] * 3
    assert [sample.seconds for sample in rows[0].samples] == [3.0, 5.0]


def test_ratios_are_taken_round_by_round():
    ours = Row("ours", (Sample(1.0), Sample(10.0), Sample(2.0)))
    theirs = Row("theirs", (Sample(2.0), Sample(30.0), Sample(8.0)))
    assert theirs.times_of(ours) == Spread(2.0, 3.0, 4.0)


def test_results_come_back_from_json_as_they_were(tmp_path):
    row = Row("ours", (Sample(0.1, 5), Sample(0.2, 5, 7, 3)))
    result = result_of(Case("work", 100, (row,), {"theirs": "not installed"}))
    result.write(tmp_path / "made" / "encode.json")
    assert Result.read(tmp_path / "made" / "encode.json") == result


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cases": [{"rows": 1}]}'])
def test_other_json_is_no_result(text):
    with pytest.raises(BenchmarkError, match="expected a benchmark result"):
        Result.from_json(text)


@pytest.mark.parametrize("name", ["encode", "apply", "wire", "load"])
def test_the_committed_results_say_what_they_depend_on(name):
    result = Result.read(RESULTS / f"{name}.json")
    assert result.benchmark == name
    assert {"commit", "machine", "numpy version"} <= result.environment.keys()
    assert all(len(row.samples) == result.runs for case in result.cases for row in case.rows)


def test_a_seed_names_a_generation_and_the_density_is_kept():
    one, again, other = (synthetic(64, 0.05, seed) for seed in (3, 3, 4))
    assert one.parameters == 64 * 64**2
    assert one.base == again.base != other.base
    assert all(np.array_equal(one.deltas[name], again.deltas[name]) for name in one.deltas)
    assert 0.045 < one.density < 0.055


def test_trained_generations_are_read():
    found = {generation.name: generation.density for generation in trained(shared_data("diffs"))}
    assert found.keys() == {"trained, d1", "trained, d10", "trained, d2.5", "trained, d5"}
    assert found["trained, d5"] == pytest.approx(0.05, abs=1e-4)


def test_the_command_line_prints_and_keeps_json(tmp_path):
    ended = run(
        "--quick", "--runs", "1", "--only", "encode", "--json", "--out", str(tmp_path / "out")
    )
    assert ended.returncode == 0, ended.stderr
    (printed,) = json.loads(ended.stdout)
    assert printed["benchmark"] == "encode"
    assert Result.read(tmp_path / "out" / "encode.json") == Result.from_json(json.dumps(printed))


def test_a_folder_without_diffs_is_one_line_and_status_1(tmp_path):
    ended = run("--quick", "--only", "encode", "--diffs", str(tmp_path))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"error: {tmp_path}: expected base.safetensors and delta_*.npz\n"

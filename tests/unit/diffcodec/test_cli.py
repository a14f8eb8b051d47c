"""Facts about the command `diffcodec`, run as people run it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diffcodec import ParameterSet
from diffcodec.coders.layers import available_coders
from diffcodec.weights import read_weights, write_weights
from tests.unit.diffcodec.test_weights import onnx_model

ROOT = Path(__file__).parents[3]
ENTRY = "from diffcodec.cli import main; main()"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ENTRY, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def refused(folder: Path, *arguments: str) -> str:
    """The one line that a command fails with."""
    done = run(folder, *arguments)
    assert done.returncode == 1, done
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """base and new weights, and a diff between them."""
    rng = np.random.default_rng(0)
    base = {"w": rng.standard_normal((100, 50), np.float32), "b": np.zeros(9, np.float32)}
    delta = rng.normal(0, 0.01, (100, 50)) * (rng.random((100, 50)) < 0.2)
    new = base | {"w": base["w"] + delta.astype(np.float32)}
    write_weights(tmp_path / "base.safetensors", ParameterSet.from_arrays(base))
    write_weights(tmp_path / "new.safetensors", ParameterSet.from_arrays(new))
    done = run(tmp_path, "diff", "base.safetensors", "new.safetensors", "-o", "f.ndiff")
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_diff_prints_bytes_ratio_nonzeros_and_error(folder: Path):
    arguments = ("diff", "base.safetensors", "new.safetensors", "-o", "f.ndiff", "--budget", "1KB")
    done = run(folder, *arguments, "--json")
    shown = json.loads(done.stdout)
    size = (folder / "f.ndiff").stat().st_size
    assert 950 <= shown["file_bytes"] == size <= 1000
    assert shown["float32_bytes"] == 4 * 5009
    assert shown["ratio"] == pytest.approx(4 * 5009 / size)
    assert 0 < shown["nonzeros"] < 5009
    assert 0 < shown["relative_error"] < 1
    text = run(folder, *arguments).stdout
    assert f"{size:,}" in text
    assert "non-zeros" in text


def test_apply_rebuilds_what_verify_announces(folder: Path):
    verified = run(folder, "verify", "base.safetensors", "f.ndiff", "--json")
    applied = run(folder, "apply", "base.safetensors", "f.ndiff", "-o", "out.safetensors", "--json")
    digest = read_weights(folder / "out.safetensors").digest().hex()
    assert json.loads(verified.stdout)["target_digest"] == digest
    assert json.loads(applied.stdout)["target_digest"] == digest


def test_lossless_reproduces_the_new_weights(folder: Path):
    run(folder, "diff", "base.safetensors", "new.safetensors", "-o", "f.ndiff", "--lossless")
    run(folder, "apply", "base.safetensors", "f.ndiff", "-o", "out.safetensors")
    assert read_weights(folder / "out.safetensors") == read_weights(folder / "new.safetensors")


def test_density_bounds_the_entries(folder: Path):
    arguments = ("diff", "base.safetensors", "new.safetensors", "-o", "f.ndiff")
    done = run(folder, *arguments, "--density", "0.05", "--levels", "2", "--json")
    assert json.loads(done.stdout)["nonzeros"] == round(0.05 * 5009)


def test_a_density_below_one_entry_changes_nothing(folder: Path):
    arguments = ("--density", "1e-9", "--json")
    done = run(folder, "diff", "base.safetensors", "new.safetensors", "-o", "d.ndiff", *arguments)
    assert json.loads(done.stdout)["nonzeros"] == 0


def test_hash_diffs_are_made_and_applied(folder: Path):
    arguments = ("diff", "base.safetensors", "new.safetensors", "-o", "f.ndiff")
    done = run(folder, *arguments, "--method", "hash", "--budget", "2KB", "--json")
    assert json.loads(done.stdout)["methods"] == {"hash": 1}
    assert run(folder, "verify", "base.safetensors", "f.ndiff").returncode == 0


@pytest.mark.parametrize("external", [None, "weights.bin"])
def test_onnx_models_keep_their_kind(tmp_path: Path, external: str | None):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    onnx_model(tmp_path / "a" / "m.onnx", 1, external=external)
    onnx_model(tmp_path / "b" / "m.onnx", 2)
    done = run(tmp_path, "diff", "a/m.onnx", "b/m.onnx", "-o", "f.ndiff", "--lossless")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path, "apply", "a/m.onnx", "f.ndiff", "-o", "new.onnx").returncode == 0
    assert read_weights(tmp_path / "new.onnx") == read_weights(tmp_path / "b" / "m.onnx")
    assert (tmp_path / "weights.bin").exists() == (external is not None)


def test_inspect_shows_header_and_tensors(folder: Path):
    shown = json.loads(run(folder, "inspect", "f.ndiff", "--json").stdout)
    assert shown["base_digest"] == read_weights(folder / "base.safetensors").digest().hex()
    (layer,) = shown["layers"]
    assert [t["method"] for t in layer["tensors"]] == ["unchanged", "sparse"]
    assert [t["name"] for t in layer["tensors"]] == [None, None]
    named = run(folder, "inspect", "f.ndiff", "--base", "base.safetensors")
    assert " w " in named.stdout
    assert "sparse" in named.stdout


def test_a_changed_byte_is_refused_and_nothing_is_written(folder: Path):
    data = bytearray((folder / "f.ndiff").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "f.ndiff").write_bytes(data)
    for command in (
        ("apply", "base.safetensors", "f.ndiff", "-o", "out.safetensors"),
        ("verify", "base.safetensors", "f.ndiff"),
        ("inspect", "f.ndiff"),
    ):
        assert "f.ndiff: expected checksum" in refused(folder, *command)
    assert not (folder / "out.safetensors").exists()


def test_another_base_is_refused(folder: Path):
    message = refused(folder, "verify", "new.safetensors", "f.ndiff")
    assert "new.safetensors: expected a base with digest" in message


def test_tensors_that_shrink_are_refused_with_their_shapes(folder: Path):
    other = ParameterSet.from_arrays({"w": np.zeros((50, 100), np.float32)})
    write_weights(folder / "other.safetensors", other)
    message = refused(folder, "diff", "base.safetensors", "other.safetensors", "-o", "g.ndiff")
    assert (
        "tensor w: expected at least float32 100x50 as in the base, found float32 50x100" in message
    )
    assert "layout" in refused(folder, "verify", "other.safetensors", "f.ndiff")


@pytest.mark.parametrize("options", [("--lossless",), (), ("--budget", "30KB")])
def test_tensors_are_added_removed_and_grown(folder: Path, options: tuple[str, ...]):
    old = read_weights(folder / "base.safetensors").arrays
    grown = np.zeros((101, 52), np.float32)
    grown[:100, :50] = old["w"]
    grown[100] = 0.5
    new = ParameterSet.from_arrays({"w": grown, "added": np.ones((3, 3), np.float32)})
    write_weights(folder / "grown.safetensors", new)
    command = ("diff", "base.safetensors", "grown.safetensors", "-o", "g.ndiff", *options)
    done = run(folder, *command, "--json")
    assert done.returncode == 0, done.stderr
    structure = json.loads(done.stdout)["structure"]
    assert structure == {"added": ["added"], "removed": ["b"], "grown": ["w"]}
    assert "removed" in run(folder, *command).stdout
    run(folder, "apply", "base.safetensors", "g.ndiff", "-o", "out.safetensors")
    rebuilt = read_weights(folder / "out.safetensors")
    assert rebuilt.layout == new.layout
    assert np.allclose(rebuilt.arrays["w"], grown, atol=0.05)


@pytest.mark.parametrize("method", ["sparse", "hash", "lowrank", "auto"])
def test_every_method_keeps_the_budget_and_comes_nearer(folder: Path, method: str):
    command = ("diff", "base.safetensors", "new.safetensors", "-o", "m.ndiff", "--budget", "2KB")
    shown = json.loads(run(folder, *command, "--method", method, "--json").stdout)
    assert shown["file_bytes"] <= 2000
    assert shown["relative_error"] < 1
    verified = run(folder, "verify", "base.safetensors", "m.ndiff", "--json")
    assert json.loads(verified.stdout)["target_digest"] == shown["target_digest"]


def test_few_levels_are_a_codebook_and_many_are_steps(folder: Path):
    for levels, numbers in (("2", 2), ("15", 1)):
        command = ("diff", "base.safetensors", "new.safetensors", "-o", "k.ndiff")
        run(folder, *command, "--density", "0.1", "--levels", levels)
        shown = json.loads(run(folder, "inspect", "k.ndiff", "--json").stdout)
        (layer,) = shown["layers"]
        assert [len(t["scale"]) for t in layer["tensors"] if t["method"] == "sparse"] == [numbers]
        assert shown["nonzeros"] == round(0.1 * 5009)


@pytest.mark.parametrize("coder", sorted(available_coders()))
def test_a_file_is_coded_as_asked(folder: Path, coder: str):
    command = ("diff", "base.safetensors", "new.safetensors", "-o", "c.ndiff", "--coder", coder)
    assert json.loads(run(folder, *command, "--json").stdout)["coders"] == [coder]


def test_a_chain_is_rolled_up_into_one_smaller_file(folder: Path):
    base = "base.safetensors"
    run(folder, "apply", base, "f.ndiff", "-o", "g1.safetensors")
    arrays = dict(read_weights(folder / "g1.safetensors").arrays)
    arrays["b"] = np.arange(9, dtype=np.float32)
    write_weights(folder / "g2.safetensors", ParameterSet.from_arrays(arrays))
    run(folder, "diff", "g1.safetensors", "g2.safetensors", "-o", "f2.ndiff", "--lossless")
    done = run(folder, "rollup", base, "f.ndiff", "f2.ndiff", "-o", "both.ndiff", "--json")
    shown = json.loads(done.stdout)
    assert shown["file_bytes"] < shown["chain_bytes"]
    assert shown["target_digest"] == read_weights(folder / "g2.safetensors").digest().hex()
    verified = run(folder, "verify", base, "both.ndiff", "--json")
    assert json.loads(verified.stdout)["target_digest"] == shown["target_digest"]
    message = refused(folder, "rollup", base, "f2.ndiff", "f.ndiff", "-o", "no.ndiff")
    assert "expected a base with digest" in message
    assert not (folder / "no.ndiff").exists()


@pytest.mark.parametrize("output", ["base.safetensors", "./base.safetensors", "f.ndiff"])
def test_inputs_are_never_written_over(folder: Path, output: str):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    message = refused(folder, "apply", "base.safetensors", "f.ndiff", "-o", output)
    assert "expected another file" in message
    message = refused(
        folder, "diff", "base.safetensors", "new.safetensors", "-o", "new.safetensors"
    )
    assert "expected another file" in message
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


@pytest.mark.parametrize("output", ["taken", ".", ".."])
def test_a_folder_in_the_place_of_the_output_is_named_and_nothing_is_left(
    folder: Path, output: str
):
    (folder / "taken").mkdir()
    before = sorted(path.name for path in folder.iterdir())
    message = refused(folder, "diff", "base.safetensors", "new.safetensors", "-o", output)
    assert f"{output}: Is a directory" in message
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_folder_that_is_missing_names_the_output(folder: Path):
    arguments = ("diff", "base.safetensors", "new.safetensors", "-o", "nowhere/g.ndiff")
    assert "error: nowhere/g.ndiff: No such file" in refused(folder, *arguments)


def test_missing_and_wrong_files_are_named(folder: Path):
    assert "nosuch.safetensors: No such file" in refused(
        folder, "diff", "nosuch.safetensors", "new.safetensors", "-o", "g.ndiff"
    )
    assert "nosuch.ndiff: No such file" in refused(folder, "inspect", "nosuch.ndiff")
    assert "base.safetensors: expected a diff file" in refused(
        folder, "inspect", "base.safetensors"
    )
    assert "f.ndiff: expected a file named" in refused(folder, "verify", "f.ndiff", "f.ndiff")


def test_a_budget_too_small_names_the_smallest_possible(folder: Path):
    arguments = ("diff", "base.safetensors", "new.safetensors", "-o", "g.ndiff")
    assert "expected a budget of at least" in refused(folder, *arguments, "--budget", "64")
    assert not (folder / "g.ndiff").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--budget", "lots"),
        ("--budget", "1KB", "--lossless"),
        ("--budget", "1KB", "--density", "0.1"),
        ("--density", "0"),
        ("--density", "1.5"),
        ("--levels", "0"),
        ("--levels", "128"),
        ("--lossless", "--levels", "3"),
        ("--method", "hash"),
        ("--method", "lowrank"),
        ("--method", "auto", "--budget", "1KB", "--levels", "2"),
        ("--coder", "best"),
    ],
)
def test_contradictory_or_unknown_options_are_usage_errors(folder: Path, options: tuple[str, ...]):
    done = run(folder, "diff", "base.safetensors", "new.safetensors", "-o", "g.ndiff", *options)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (folder / "g.ndiff").exists()


@pytest.mark.parametrize("command", ["diff", "apply", "inspect", "verify"])
def test_help_shows_an_example(tmp_path: Path, command: str):
    assert f"diffcodec {command}" in run(tmp_path, command, "--help").stdout


def test_names_that_look_like_markup_are_shown_as_they_are(tmp_path: Path):
    weights = ParameterSet.from_arrays({"w[/b]:smile:": np.ones(3, np.float32)})
    write_weights(tmp_path / "b.safetensors", weights)
    done = run(tmp_path, "diff", "b.safetensors", "b.safetensors", "-o", "[b]x.ndiff", "--lossless")
    assert done.returncode == 0, done.stderr
    assert "[b]x.ndiff" in done.stdout
    write_weights(
        tmp_path / "n.safetensors", ParameterSet.from_arrays({"w[/b]:smile:": np.ones(4, "f4")})
    )
    run(tmp_path, "diff", "b.safetensors", "n.safetensors", "-o", "f.ndiff", "--lossless")
    shown = run(tmp_path, "inspect", "f.ndiff", "--base", "b.safetensors")
    assert "w[/b]:smile:" in shown.stdout, shown.stderr

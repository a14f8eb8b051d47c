"""Facts about `diffcodec bench` in tiny sizes: who takes part and is right, never how fast."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from diffcodec.bench import of_files, peer
from diffcodec.bench.compare import compare
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration, read_delta, synthetic
from diffcodec.bench.nncodec import NnCodec
from diffcodec.bench.of_levels import DenseBrotli, PaperForm, RowIndexHalf
from diffcodec.bench.ours import Lossless, our_coders
from diffcodec.bench.peer import Coded
from diffcodec.bench.peers import standard_peers
from diffcodec.bench.rnnt import _shapes, rnnt
from diffcodec.bench.work import Work, even_levels, own_centroids
from diffcodec.changes import Codebook, Uniform
from diffcodec.parameters import ParameterSet
from diffcodec.weights import write_weights
from tests.unit.diffcodec.test_cli import refused, run

CODERS = {coder.name: coder for coder in (*our_coders(), *standard_peers())}


@pytest.fixture(scope="module")
def generation() -> NextGeneration:
    """With a vector, a tensor of three dimensions, a scalar and one that stays as it is."""
    made = synthetic(8, 0.05, seed=1)
    rng = np.random.default_rng(2)
    more = {name: rng.normal(size=shape) for name, shape in OTHER_SHAPES.items()}
    arrays = {name: value.astype(np.float32) for name, value in more.items()}
    deltas = {n: np.where(rng.random(a.shape) < 0.3, a, 0).astype("f4") for n, a in arrays.items()}
    base = ParameterSet.from_arrays({**made.base.arrays, **arrays})
    return NextGeneration("small", base, {**made.deltas, **deltas, "still": 0 * arrays["still"]})


OTHER_SHAPES = {"bias": (77,), "conv": (3, 5, 7), "scale": (), "still": (4, 4)}


@pytest.fixture(scope="module", params=[(15, False), (2, True)], ids=["even", "codebook"])
def work(request, generation) -> Work:
    return Work.at_levels(generation, *request.param)


def ignore(text: str) -> None:
    pass


@pytest.mark.parametrize("name", CODERS)
def test_a_coder_decodes_to_what_it_encoded(name, work):
    coder = CODERS[name]
    reason = coder.absence(work)
    if reason is not None:
        pytest.skip(f"{name}: {reason}")
    encoded = coder.encode(work)
    assert len(encoded.value) > 0
    decoded = coder.decode(work, encoded.value)
    assert coder.is_right(work, decoded.value)
    assert encoded.seconds > 0 < decoded.seconds


@pytest.mark.parametrize("name", CODERS)
def test_a_coder_sees_that_another_change_is_not_right(name, work, generation):
    coder = CODERS[name]
    if coder.absence(work) is not None:
        pytest.skip(f"{name}: {coder.absence(work)}")
    more = {n: d.copy() for n, d in generation.deltas.items()}
    more["still"][1, 1] = 1.0
    other = Work.at_levels(NextGeneration("other", generation.base, more), 15, False)
    decoded = coder.decode(other, coder.encode(other).value)
    assert coder.is_right(other, decoded.value)
    assert not coder.is_right(work, decoded.value)


@pytest.mark.skipif("NEURALDIFF_NNCODEC" not in os.environ, reason="$NEURALDIFF_NNCODEC: no Python")
def test_nncodec_decodes_to_what_it_encoded(work):
    with NnCodec(Path(os.environ["NEURALDIFF_NNCODEC"])) as coder:
        assert coder.absence(work) is None
        encoded = coder.encode(work)
        assert coder.is_right(work, coder.decode(work, encoded.value).value)


def test_nncodec_without_an_interpreter_says_how_to_get_it(work, tmp_path):
    with NnCodec(None) as nobody, NnCodec(Path(sys.executable)) as without:
        assert "pip install nncodec" in nobody.absence(work)
        assert "has no nncodec" in without.absence(work)
    with NnCodec(tmp_path / "none") as missing:
        assert str(tmp_path / "none") in missing.absence(work)


def test_an_nncodec_process_that_ends_is_one_line(work):
    with NnCodec(Path(sys.executable)) as without, pytest.raises(BenchmarkError) as raised:
        without.encode(work)
    assert "nncodec" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_peer_that_is_not_installed_is_skipped_and_says_how_to_get_it(work, monkeypatch):
    monkeypatch.setitem(sys.modules, "brotli", None)
    found = compare(work, [PaperForm(), DenseBrotli()], runs=1, on_progress=ignore)
    assert [outcome.name for outcome in found.outcomes] == [PaperForm.name]
    assert found.skipped == {DenseBrotli.name: "not installed; pip install brotli"}


def test_a_program_that_is_not_installed_is_skipped(work, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "not installed" in of_files.Xdelta().absence(work)


def test_slow_peers_sit_out_large_stores(work, monkeypatch):
    monkeypatch.setattr(peer, "SLOW_ABOVE_BYTES", 1)
    assert "minutes" in of_files.Bsdiff().absence(work)
    assert "minutes" in DenseBrotli().absence(work)
    assert of_files.PatchFrom(9).absence(work) is None


def test_nobody_left_is_an_error(work):
    with NnCodec(None) as coder, pytest.raises(BenchmarkError, match="can take part"):
        compare(work, [coder], runs=1, on_progress=ignore)


def test_a_coder_that_is_wrong_ends_the_comparison(work):
    class Forgetful(PaperForm):
        name = "forgetful"

        def decode(self, work: Work, data: bytes) -> Coded:
            return super().decode(work, data[:-8])

    with pytest.raises(BenchmarkError, match="forgetful: decodes to something else"):
        compare(work, [Forgetful()], runs=1, on_progress=ignore)


def test_exact_work_takes_any_dtype_and_leaves_coders_of_levels_out(tmp_path):
    rng = np.random.default_rng(0)
    base = {"a": rng.normal(size=(8, 9)).astype(np.float16), "b": np.arange(9, dtype=np.int8)}
    new = {"a": base["a"] * np.float16(1.01), "b": base["b"] + np.int8(1)}
    work = Work.exact("pair", ParameterSet.from_arrays(base), ParameterSet.from_arrays(new))
    found = compare(work, CODERS.values(), runs=1, on_progress=ignore)
    names = [outcome.name for outcome in found.outcomes]
    assert names[0] == Lossless().name
    assert "full model, zstd -19" in names
    assert RowIndexHalf.name in found.skipped
    assert found.nonzeros is None


def test_rows_longer_than_16_bits_come_back():
    rng = np.random.default_rng(0)
    base = ParameterSet.from_arrays({"long": np.zeros((2, 140_000), np.float32)})
    delta = np.where(rng.random((2, 140_000)) < 0.5, 1.0, 0.0).astype(np.float32)
    work = Work.at_levels(NextGeneration("long", base, {"long": delta}), 1, False)
    coder = RowIndexHalf()
    assert coder.is_right(work, coder.decode(work, coder.encode(work).value).value)


def test_even_levels_reach_the_largest_and_never_vanish():
    values = np.array([-1.5, 1e-6, 0.74, 0.1], np.float32)
    levels, scale = even_levels(values, 15)
    assert levels.tolist() == [-15, 1, 7, 1]
    assert scale == Uniform(float(np.float32(0.1)))


def test_centroids_are_the_means_of_what_is_near_them():
    values = np.array([1.0, -1.2, 3.0, -3.2, 3.1], np.float32)
    levels, scale = own_centroids(values, 2)
    assert levels.tolist() == [1, -1, 2, -2, 2]
    assert isinstance(scale, Codebook)
    assert scale.magnitudes == pytest.approx((1.1, 3.1))


def test_fewer_values_than_centroids_are_each_their_own():
    levels, scale = own_centroids(np.array([2.0, -2.0], np.float32), 4)
    assert levels.tolist() == [1, -1]
    assert scale == Codebook((2.0,))


def test_the_recogniser_has_61_million_parameters():
    assert sum(int(np.prod(shape)) for _, shape in _shapes(1024)) == 61_155_780


def test_a_seed_names_a_recogniser():
    one, again, other = (rnnt(0.05, seed, hidden=8) for seed in (1, 1, 2))
    assert one.base == again.base != other.base
    assert all(np.array_equal(one.deltas[name], again.deltas[name]) for name in one.deltas)
    assert one.density == pytest.approx(0.05, rel=0.1)


@pytest.fixture
def files(tmp_path, generation) -> Path:
    write_weights(tmp_path / "base.safetensors", generation.base)
    new = Work.at_levels(generation, 15, False).new
    write_weights(tmp_path / "new.safetensors", new)
    np.savez(tmp_path / "delta.npz", **generation.deltas)
    return tmp_path


def test_the_command_prints_a_table_and_who_is_missing(files):
    done = run(files, "bench", "base.safetensors", "delta.npz", "--runs", "1")
    assert done.returncode == 0, done.stderr
    assert "diffcodec fast" in done.stdout
    assert "float32 value + int32 index" in done.stdout
    assert "NNCodec skipped: an environment of its own" in done.stdout


def test_the_command_prints_json_for_every_new_one(files):
    arguments = ("base.safetensors", "delta.npz", "new.safetensors", "--only", "index")
    done = run(files, "bench", *arguments, "--runs", "1", "--json", "--levels", "2", "--codebook")
    found = json.loads(done.stdout)
    assert [one["work"] for one in found] == ["delta", "new"]
    assert {coder["coder"] for coder in found[0]["coders"]} == {PaperForm.name, RowIndexHalf.name}
    (paper,) = (c for c in found[0]["coders"] if c["coder"] == PaperForm.name)
    assert paper["bytes"] == 8 * found[0]["nonzeros"]
    assert paper["ratio"] == pytest.approx(found[0]["float32_bytes"] / paper["bytes"])


def test_lossless_takes_weights_alone(files):
    done = run(
        files, "bench", "base.safetensors", "new.safetensors", "--lossless", "--runs", "1", "--json"
    )
    (found,) = json.loads(done.stdout)
    assert "diffcodec lossless" in [coder["coder"] for coder in found["coders"]]
    message = refused(files, "bench", "base.safetensors", "delta.npz", "--lossless")
    assert "expected weights" in message


def test_other_files_than_deltas_are_refused(files, generation):
    (files / "text.npz").write_text("no arrays")
    np.savez(files / "other.npz", unknown=np.zeros(3, np.float32))
    assert "expected numpy arrays" in refused(files, "bench", "base.safetensors", "text.npz")
    assert "unknown" in refused(files, "bench", "base.safetensors", "other.npz")
    np.savez(files / "nan.npz", bias=np.full(77, np.nan, np.float32))
    with pytest.raises(BenchmarkError, match="finite"):
        read_delta(files / "nan.npz", generation.base)


@pytest.mark.parametrize("arguments", [(), ("base.safetensors",), ("b", "n", "--big")])
def test_too_little_or_too_much_is_a_usage_error(tmp_path, arguments):
    assert run(tmp_path, "bench", *arguments).returncode == 2

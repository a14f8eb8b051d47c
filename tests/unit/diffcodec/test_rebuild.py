"""Facts about applying a file to a store on disk."""

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from diffcodec import (
    CodecError,
    Coder,
    Diff,
    DigestError,
    FormatError,
    HashDiff,
    Layer,
    LayoutError,
    ParameterSet,
    SparseDiff,
    Uniform,
    WrongBaseError,
    apply,
    apply_file,
    encode,
    lossless_diff,
)
from diffcodec.coders import fast
from diffcodec.coders.frames import FrameReader
from diffcodec.coders.layers import available_coders
from diffcodec.coders.streams import ArrayPart
from diffcodec.diff import MAX_LAYERS
from tests.unit.diffcodec.strategies import example, weights_of
from tests.unit.diffcodec.test_hostile_files import lying, scale

BASE, DIFF = example()
LAYOUT = BASE.layout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    BASE.write(tmp_path / "base.bin")
    (tmp_path / "d.ndiff").write_bytes(encode(DIFF, BASE))
    return tmp_path


def rebuild(folder: Path):
    return apply_file(folder / "base.bin", LAYOUT, folder / "d.ndiff", folder / "new.bin")


def test_the_result_is_the_promised_store(folder: Path):
    applied = rebuild(folder)
    assert ParameterSet.read(folder / "new.bin", LAYOUT) == apply(BASE, DIFF)
    assert applied.base_digest == BASE.digest()
    assert applied.diff_bytes == (folder / "d.ndiff").stat().st_size
    assert applied.target_bytes == (folder / "new.bin").stat().st_size


def test_entries_of_many_chunks_land_where_they_belong(tmp_path: Path):
    rng = np.random.default_rng(5)
    base = ParameterSet.from_arrays(
        {"a": rng.standard_normal(400_001, np.float32), "h": np.ones((700, 400), np.float32)}
    )
    positions = np.flatnonzero(rng.random(400_001) < 0.4)
    levels = rng.choice(np.array([-2, -1, 1, 2], np.int8), positions.size)
    hashed = rng.integers(-7, 8, 5000).astype(np.int8)
    changes = {"a": SparseDiff(positions, levels, Uniform(0.5)), "h": HashDiff(hashed, 0.25, 2)}
    diff = Diff.of(base.layout, base.digest(), changes, 3)
    base.write(tmp_path / "base.bin")
    (tmp_path / "d").write_bytes(encode(diff, base))
    apply_file(tmp_path / "base.bin", base.layout, tmp_path / "d", tmp_path / "new.bin")
    assert ParameterSet.read(tmp_path / "new.bin", base.layout) == apply(base, diff)


def test_the_base_is_neither_written_nor_touched(folder: Path):
    (folder / "base.bin").chmod(0o444)
    before = (folder / "base.bin").stat()
    data = (folder / "base.bin").read_bytes()
    rebuild(folder)
    after = (folder / "base.bin").stat()
    assert (folder / "base.bin").read_bytes() == data
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_base_with_one_other_bit_is_refused_and_nothing_is_written(folder: Path):
    for at in (0, 27, LAYOUT.offsets[1], LAYOUT.file_bytes - 1):
        data = bytearray((folder / "base.bin").read_bytes())
        data[at] ^= 1
        (folder / "other.bin").write_bytes(data)
        with pytest.raises(WrongBaseError, match=r"other\.bin: expected a base with digest"):
            apply_file(folder / "other.bin", LAYOUT, folder / "d.ndiff", folder / "new.bin")
        assert not (folder / "new.bin").exists()


def test_padding_of_the_base_is_not_copied(folder: Path):
    data = bytearray((folder / "base.bin").read_bytes())
    data[LAYOUT.offsets[1] - 1] ^= 1
    (folder / "base.bin").write_bytes(data)
    assert rebuild(folder).target_digest == apply(BASE, DIFF).digest()


@pytest.mark.parametrize("data", [b"", bytes(100), bytes(20_000)])
def test_a_base_of_another_length_is_refused(folder: Path, data: bytes):
    (folder / "base.bin").write_bytes(data)
    with pytest.raises(WrongBaseError):
        rebuild(folder)


def test_a_missing_base_is_refused(folder: Path):
    with pytest.raises(WrongBaseError, match="found none"):
        apply_file(None, LAYOUT, folder / "d.ndiff", folder / "new.bin")
    with pytest.raises(LayoutError, match="found none"):
        apply_file(folder / "base.bin", None, folder / "d.ndiff", folder / "new.bin")


def test_a_snapshot_needs_no_base(tmp_path: Path):
    new = weights_of(LAYOUT, 7)
    (tmp_path / "s.ndiff").write_bytes(encode(lossless_diff(None, new), None))
    applied = apply_file(None, None, tmp_path / "s.ndiff", tmp_path / "new.bin")
    assert applied.layout == LAYOUT
    assert applied.base_digest is None
    assert ParameterSet.read(tmp_path / "new.bin", applied.layout) == new


def test_a_snapshot_above_the_limit_is_refused_and_nothing_is_written(tmp_path: Path):
    (tmp_path / "s").write_bytes(encode(lossless_diff(None, BASE), None))
    with pytest.raises(FormatError, match="result of at most 99 bytes"):
        apply_file(None, None, tmp_path / "s", tmp_path / "new", result_limit_bytes=99)
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_changed_byte_anywhere_in_the_diff_is_refused_and_nothing_is_left(folder: Path):
    good = (folder / "d.ndiff").read_bytes()
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        (folder / "d.ndiff").write_bytes(bad)
        with pytest.raises(CodecError):
            rebuild(folder)
        assert not (folder / "new.bin").exists()


def test_a_diff_that_lies_about_its_result_leaves_nothing(folder: Path):
    (folder / "d.ndiff").write_bytes(lying(lambda m: setattr(m, "target_digest", bytes(32))))
    with pytest.raises(DigestError, match="expected weights with digest 0000"):
        rebuild(folder)
    assert not (folder / "new.bin").exists()


def test_results_that_are_not_finite_leave_nothing(folder: Path):
    huge = float(np.float32(3e38))
    (folder / "d.ndiff").write_bytes(lying(scale(0, huge)))
    with pytest.raises(DigestError, match="embedding: expected results that are finite"):
        rebuild(folder)
    assert not (folder / "new.bin").exists()


def test_an_existing_target_is_left_alone(folder: Path):
    (folder / "new.bin").write_text("precious")
    with pytest.raises(FileExistsError):
        rebuild(folder)
    assert (folder / "new.bin").read_text() == "precious"


def test_a_missing_diff_is_an_os_error(folder: Path):
    (folder / "d.ndiff").unlink()
    with pytest.raises(FileNotFoundError):
        rebuild(folder)


def test_a_full_disk_leaves_nothing(folder: Path):
    program = (
        "import resource, signal, sys; from pathlib import Path; from diffcodec import *\n"
        "folder = Path(sys.argv[1]); layout = Layout.from_json((folder / 'layout').read_text())\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n"
        "try: apply_file(folder/'base.bin', layout, folder/'d.ndiff', folder/'new.bin')\n"
        "except OSError as error: print('OSError', error.errno)\n"
    )
    (folder / "layout").write_text(LAYOUT.to_json())
    done = run(program, folder)
    assert done.stdout.split()[0] == "OSError", done.stderr
    assert not (folder / "new.bin").exists()


def test_memory_does_not_grow_with_the_model(tmp_path: Path):
    """16M parameters are 64 MB; reading or mapping them would show."""
    rng = np.random.default_rng(0)
    base = ParameterSet.from_arrays(
        {
            "s": rng.standard_normal(10_000_000, np.float32),
            "h": rng.standard_normal(6_000_000, np.float32),
        }
    )
    positions = np.flatnonzero(rng.random(10_000_000, np.float32) < 0.05)
    levels = np.ones(positions.size, np.int8)
    hashed = rng.integers(-3, 4, 100_000).astype(np.int8)
    changes = {"s": SparseDiff(positions, levels, Uniform(0.5)), "h": HashDiff(hashed, 0.25, 3)}
    base.write(tmp_path / "base.bin")
    (tmp_path / "layout").write_text(base.layout.to_json())
    (tmp_path / "d.ndiff").write_bytes(encode(Diff.of(base.layout, base.digest(), changes), base))
    assert growth_of_applying(tmp_path) < 32 * 2**20


@pytest.mark.parametrize("coder", sorted(available_coders()))
def test_memory_holds_as_many_layers_as_a_file_may_have(tmp_path: Path, coder: Coder):
    """Of the largest matrix whose gates a device remembers."""
    rng = np.random.default_rng(0)
    base = ParameterSet.from_arrays({"w": rng.standard_normal((4096, 2048), np.float32)})
    positions = np.flatnonzero(rng.random(base.layout.parameter_count, np.float32) < 0.01)
    levels = rng.choice(np.array([-1, 1], np.int8), positions.size)
    layer = Layer({"w": SparseDiff(positions, levels, Uniform(0.5))})
    diff = Diff(base.layout, base.digest(), (layer,) * MAX_LAYERS)
    base.write(tmp_path / "base.bin")
    (tmp_path / "layout").write_text(base.layout.to_json())
    (tmp_path / "d.ndiff").write_bytes(encode(diff, base, {coder}))
    assert growth_of_applying(tmp_path) < 64 * 2**20


def growth_of_applying(folder: Path) -> int:
    """How many bytes a process grows by while it applies d.ndiff to base.bin."""
    program = (
        "import resource, sys; from pathlib import Path; from diffcodec import *\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "folder = Path(sys.argv[1]); layout = Layout.from_json((folder / 'layout').read_text())\n"
        "before = peak()\n"
        "apply_file(folder/'base.bin', layout, folder/'d.ndiff', folder/'new.bin')\n"
        "print(peak() - before)\n"
    )
    done = run(program, folder)
    assert done.returncode == 0, done.stderr
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024)


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own: its peak memory and limits are its own too."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


def test_a_large_hash_array_is_read_in_parts(tmp_path: Path):
    levels = np.random.default_rng(0).integers(-60, 61, 2**22).astype(np.int8)
    parts = [ArrayPart(levels, 60, 0)]
    (coded,) = fast.encode_arrays(parts)
    reader = fast.ArrayReader(FrameReader(io.BytesIO(coded.payload), 0, coded.section))
    tracemalloc.start()
    found = reader.take(levels.size, 60, 0, "w")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.finish()
    assert np.array_equal(found, levels)
    assert peak < levels.nbytes + 2**21

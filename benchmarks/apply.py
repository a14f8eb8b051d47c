"""Applying the file: `diffcodec.apply_file` beside bsdiff4, zstd and a plain copy.

Measured: from files to a durable file, the result hashed (benchmarks/rebuild.py), and the
process's peak memory; each run is a process of its own. `copy` is what disk and hashing cost
without any patch. `at start` is the memory of interpreter and libraries before the work, numpy
being most of ours.

Not measured: starting Python, a cold disk (base and patch were just written and are cached),
downloading. How long an fsync takes is the disk's affair, and the noisiest part.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.coders import Coder, Task, coders_for
from benchmarks.rebuild import Method, sha256_of
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration
from diffcodec.bench.results import Case, Sample
from diffcodec.bench.timing import Contender, OnProgress, with_turns

ROOT = Path(__file__).parents[1]


def compare(
    generations: Iterable[NextGeneration], runs: int, on_progress: OnProgress
) -> tuple[Case, ...]:
    """A case for each generation.

    Raises:
        BenchmarkError: a rebuilding failed, or did not lead to the generation.
    """
    return tuple(_case(Task.of(generation), runs, on_progress) for generation in generations)


def _case(task: Task, runs: int, on_progress: OnProgress) -> Case:
    coders, skipped = coders_for(task)
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "base.bin").write_bytes(task.base_bytes)
        (folder / "layout.json").write_text(task.base.layout.to_json())
        contenders = []
        for coder in coders:
            on_progress(f"making the patch of {coder.name}")
            contenders.append(_contender(coder, task, folder))
        contenders += [_copying(m, task, folder) for m in (Method.COPY, Method.COPY_THEN_HASH)]
        rows = with_turns(contenders, runs, on_progress)
    return Case(task.name, len(task.base_bytes), rows, skipped)


def _contender(coder: Coder, task: Task, folder: Path) -> Contender:
    patch = folder / f"{coder.name}.patch"
    patch.write_bytes(coder.encode(task))
    expected = hashlib.sha256(task.new_bytes).digest()
    return Contender(coder.name, lambda: _rebuilt_once(coder.method, folder, patch, expected))


def _copying(method: Method, task: Task, folder: Path) -> Contender:
    expected = hashlib.sha256(task.base_bytes).digest()
    none = folder / "none"
    return Contender(method.value, lambda: _rebuilt_once(method, folder, none, expected))


def _rebuilt_once(method: Method, folder: Path, patch: Path, expected: bytes) -> Sample:
    """Rebuild in a fresh process, check the result and remove it."""
    target = folder / "target.bin"
    files = (folder / "base.bin", folder / "layout.json", patch, target)
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.rebuild", method, *map(str, files)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 0:
        last = ended.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise BenchmarkError(f"{method} failed: {last[0]}")
    if sha256_of(target) != expected:
        raise BenchmarkError(f"{method}: the patch leads to something else")
    target.unlink()
    size_bytes = patch.stat().st_size if patch.exists() else None
    return Sample(size_bytes=size_bytes, **json.loads(ended.stdout))

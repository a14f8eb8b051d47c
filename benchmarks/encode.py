"""Making the file: `diffcodec` beside bsdiff4 and zstd --patch-from, bytes and seconds.

Measured: from generations in memory to the bytes of the patch. Ours: quantise the delta, code it,
take the digests of base and result (which applies the diff once). Peers: the patch from flat
store to flat store. `diffcodec lossless` gets what the peers get, the two stores, and nothing of
how they came about.

Not measured: reading and writing files, training, choosing what fits a budget. A sparse diff of
another generation of the same density may cost a fifth more or less: where entries stand decides.
"""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.coders import Coder, Task, coders_for
from benchmarks.rebuild import prepare
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration
from diffcodec.bench.results import Case, Sample
from diffcodec.bench.timing import Contender, OnProgress, timed, with_turns


def compare(
    generations: Iterable[NextGeneration], runs: int, on_progress: OnProgress
) -> tuple[Case, ...]:
    """A case for each generation.

    Raises:
        BenchmarkError: a patch does not lead to the generation.
    """
    return tuple(_case(Task.of(generation), runs, on_progress) for generation in generations)


def require_exact(coder: Coder, task: Task) -> None:
    """Apply a coder's patch, outside the clock, and compare every byte.

    Raises:
        BenchmarkError: it leads to something else.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)
        base, layout, patch, target = (folder / n for n in ("base", "layout", "patch", "target"))
        base.write_bytes(task.base_bytes)
        layout.write_text(task.base.layout.to_json())
        patch.write_bytes(coder.encode(task))
        prepare(coder.method, base, layout, patch)(target)
        if target.read_bytes() != task.new_bytes:
            raise BenchmarkError(f"{coder.name}: the patch leads to something else")


def _case(task: Task, runs: int, on_progress: OnProgress) -> Case:
    coders, skipped = coders_for(task)
    for coder in coders:
        on_progress(f"checking {coder.name}")
        require_exact(coder, task)
    rows = with_turns([_contender(coder, task) for coder in coders], runs, on_progress)
    return Case(task.name, len(task.base_bytes), rows, skipped)


def _contender(coder: Coder, task: Task) -> Contender:
    def measure() -> Sample:
        patch, seconds = timed(lambda: coder.encode(task))
        return Sample(seconds, size_bytes=len(patch))

    return Contender(coder.name, measure)

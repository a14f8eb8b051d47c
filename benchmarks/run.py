"""`python -m benchmarks.run`: the comparisons, as tables and as JSON to keep.

RESULTS holds the results that are committed; a run without --out writes them anew.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import apply, encode, load, training_step, wire
from benchmarks.table import print_result
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration, synthetic, trained
from diffcodec.bench.results import Case, Result
from diffcodec.bench.rnnt import rnnt
from diffcodec.bench.timing import OnProgress
from diffcodec.errors import CodecError
from server.errors import ServerError
from simulator.environment import describe_environment
from simulator.errors import SimulatorError

RESULTS = Path(__file__).parent / "results"
# 1,048,576 and 16,777,216 parameters; quickly 16,384.
WIDTHS, QUICK_WIDTHS = (128, 512), (16,)
# LSTM units that make 64 million parameters.
BIG_WIDTH = 1052
BLOB_BYTES, QUICK_BLOB_BYTES = 64 * 2**20, 2**20
DEVICES, QUICK_DEVICES = 1000, 20
DENSITY = 0.05
PEERS = ("bsdiff4", "zstandard")

EXAMPLES = """Examples:

python -m benchmarks.run --only apply --runs 9

python -m benchmarks.run --only apply --big --out runs/big

python -m benchmarks.run --diffs ../shared/data/diffs --out runs/bench"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)
progress = Console(stderr=True)


class Benchmark(StrEnum):
    """The comparisons."""

    ENCODE = "encode"
    APPLY = "apply"
    WIRE = "wire"
    LOAD = "load"
    TRAINING_STEP = "training-step"


@app.command(epilog=EXAMPLES)
def run(
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where JSON goes; else benchmarks/results.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds that count.")] = 9,
    only: Annotated[Benchmark | None, typer.Option(help="One comparison.")] = None,
    diffs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Trained ones too: base.safetensors, delta_*.npz."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of what is made up.")] = 0,
    is_big: Annotated[
        bool, typer.Option("--big", help="A recogniser of 64 million parameters, made up, alone.")
    ] = False,
    is_quick: Annotated[
        bool, typer.Option("--quick", help="Tiny sizes, to see that it runs; kept only in --out.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list in JSON.")] = False,
) -> None:
    """Time encode, apply, the wire, load and a training step beside their peers, in turns."""
    folder = out if out is not None or is_quick else RESULTS
    results = []
    environment = _environment()
    for benchmark in Benchmark if only is None else [only]:
        works = _Works(diffs, seed, is_big, is_quick)
        cases = _cases(benchmark, works, runs)
        command = shlex.join(["python", "-m", "benchmarks.run", *sys.argv[1:]])
        result = Result(benchmark.value, command, seed, runs, environment, cases)
        results.append(result)
        if folder is not None:
            result.write(folder / f"{benchmark}.json")
        if not as_json:
            print_result(result, Console())
    if as_json:
        print(f"[{','.join(result.to_json() for result in results)}]")


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit status 1."""
    try:
        app()
    except (BenchmarkError, CodecError, ServerError, SimulatorError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


@dataclass(frozen=True)
class _Works:
    """What is worked on, as the options say."""

    diffs: Path | None
    seed: int
    is_big: bool
    is_quick: bool

    def generations(self) -> Iterator[NextGeneration]:
        """One at a time: the largest takes a gigabyte."""
        if self.is_big:
            yield rnnt(DENSITY, self.seed, BIG_WIDTH)
            return
        if self.diffs is not None:
            yield from trained(self.diffs)
        for width in QUICK_WIDTHS if self.is_quick else WIDTHS:
            yield synthetic(width, DENSITY, self.seed)


def _cases(benchmark: Benchmark, works: _Works, runs: int) -> tuple[Case, ...]:
    with _display(benchmark) as show:
        match benchmark:
            case Benchmark.ENCODE:
                return encode.compare(works.generations(), runs, show)
            case Benchmark.APPLY:
                return apply.compare(works.generations(), runs, show)
            case Benchmark.WIRE:
                blob_bytes = QUICK_BLOB_BYTES if works.is_quick else BLOB_BYTES
                return wire.compare(blob_bytes, works.seed, runs, show)
            case Benchmark.LOAD:
                devices = QUICK_DEVICES if works.is_quick else DEVICES
                return load.compare(devices, works.seed, runs, show)
            case Benchmark.TRAINING_STEP:
                config = "tiny" if works.is_quick else "paper"
                return training_step.compare(dict.fromkeys(("slu", "rnnt"), config), runs, show)


@contextmanager
def _display(benchmark: Benchmark) -> Iterator[OnProgress]:
    """What is being done, on stderr: a line that changes, or lines where there is no terminal."""
    if not progress.is_terminal:
        yield lambda text: progress.print(f"{benchmark}: {text}", highlight=False)
        return
    with progress.status(benchmark.value) as status:
        yield lambda text: status.update(f"{benchmark}: {text}")


def _environment() -> dict[str, str]:
    """With the load that others put on the machine; it is asked for before any work."""
    peers = {f"{name} version": _version(name) for name in PEERS}
    load = {"load average": f"{os.getloadavg()[0]:.1f}"}
    return {**describe_environment(), **peers, **load}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()

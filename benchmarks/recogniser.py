"""`python -m benchmarks.recogniser`: the paper's recogniser from training to a device, timed.

The RNN-T of 64.1 million parameters (neural diff paper, 4.1) is built and exported, diffed at 10x
(a tenth of the entries, and arrays of a tenth), published to a real `ota-server`, updated by a
real `ota-edge` and heard there, greedily and by beam search. Each stage is a process of its own;
its peak is all that the process had.

Weights are random and diffs made up after trained ones: this is about time and memory, not about
what is recognised. A random model says nothing but blanks, so a greedy search asks the prediction
network once in a recording, where one that was trained does so for every piece.

    python -m benchmarks.recogniser --out docs/results
    python -m benchmarks.recogniser --config tiny --out runs/tiny      # does it run?
"""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import soundfile
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.recogniser_stages import CARD, GRAPH, WEIGHTS
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.results import Case, Result, Row, Sample
from server.training.rnnt.model import CONFIGS
from simulator.environment import describe_environment
from simulator.errors import SimulatorError
from simulator.programs import serving
from speech.audio import SAMPLE_RATE_HZ

ROOT = Path(__file__).parents[1]
MODEL = "recogniser"
KINDS, CODERS = ("sparse", "hash"), ("fast", "max")
BEAMS = (1, 16)
NOISE_S = 10.0

# `python -c`: the program, then what it takes. VmHWM alone counts nothing of who started it.
PUBLISH = (
    "from pathlib import Path; from server.cli import app; app(standalone_mode=False); "
    "from edge_client.footprint import peak_rss_bytes; print(peak_rss_bytes())"
)
EDGE = "from edge_client.cli import main; main()"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
progress = Console(stderr=True)


@dataclass(frozen=True)
class Bench:
    """Where the work lies, and what it is about."""

    folder: Path
    config: str
    seed: int

    def stage(self, name: str) -> Sample:
        """Do a stage of `recogniser_stages`."""
        about = (name, str(self.folder), self.config, str(self.seed))
        said, _ = call("-m", "benchmarks.recogniser_stages", *about)
        return Sample(**json.loads(said))

    def publish(self, *what: str) -> Sample:
        """`ota-server publish`, recoding for devices of either coder included."""
        home = str(self.folder / "srv")
        said, seconds = call("-c", PUBLISH, "publish", home, *what, "--model", MODEL, "--json")
        published, peak_bytes = said.strip().splitlines()
        return Sample(seconds, json.loads(published)["bytes"], int(peak_bytes))

    def edge(self, command: str, *arguments: str) -> str:
        """`ota-edge`."""
        said, _ = call("-c", EDGE, command, "--home", str(self.folder / "edge"), *arguments)
        return said


@app.command()
def run(
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where JSON goes.")] = None,
    config: Annotated[str, typer.Option(help=f"One of {', '.join(CONFIGS)}.")] = "paper",
    recording: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What is heard; else 10 s of noise.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of weights and diffs.")] = 0,
) -> None:
    """Build, diff, publish, update and hear a recogniser of the paper's size."""
    environment = {**describe_environment(), "load average": f"{os.getloadavg()[0]:.1f}"}
    command = shlex.join(["python", "-m", "benchmarks.recogniser", *sys.argv[1:]])
    with TemporaryDirectory() as name:
        bench = Bench(Path(name), config, seed)
        rows = []
        for row in stages(bench, recording or noise(bench.folder, seed)):
            progress.print(f"{row.contender}: {row.seconds:.2f} s", highlight=False)
            rows.append(row)
        work_bytes = (bench.folder / WEIGHTS).stat().st_size
    work = f"RNN-T {config!r} with random weights, made-up diffs at 10x"
    case = Case(work, work_bytes, tuple(rows))
    result = Result("recogniser", command, seed, 1, environment, (case,))
    if out is not None:
        result.write(out / f"recogniser-{config}.json")
    Console().print(table(case))


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit status 1."""
    try:
        app()
    except (BenchmarkError, SimulatorError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def stages(bench: Bench, recording: Path) -> Iterator[Row]:
    """Every stage, as soon as it is done."""
    yield one("build and export", bench.stage("build"))
    init = ("-c", "from server.cli import main; main()", "init")
    call(*init, str(bench.folder / "srv"), "--enrolment", "open")
    weights, graph, card = (str(bench.folder / name) for name in (WEIGHTS, GRAPH, CARD))
    snapshot = bench.publish(weights, "--graph", graph, "--card", card)
    yield one("publish the snapshot", snapshot)
    with serving(bench.folder / "srv", bench.folder / "log") as server:
        fleet = str(bench.folder / "srv" / "ca.pem")
        bench.edge("enroll", "--server", server.address, "--ca", fleet, "--model", MODEL)
        yield from updated(bench, "the snapshot")
        for kind in KINDS:
            bench.stage(f"make-up-{kind}")
            for coder in CODERS:
                yield one(f"{kind}: encode {coder}", bench.stage(f"encode-{kind}-{coder}"))
            # The file by `fast`: the server makes the one by `max` itself.
            file = bench.folder / f"{kind}-fast.ndiff"
            yield one(f"{kind}: publish", bench.publish(str(file)))
            yield from updated(bench, kind)
    for width in BEAMS:
        yield from heard(bench, recording, width)


def updated(bench: Bench, what: str) -> Iterator[Row]:
    """`ota-edge update`: all of it, and of that the rebuilding of the weights."""
    started = time.perf_counter()
    said = json.loads(bench.edge("update", "--json"))
    seconds = time.perf_counter() - started
    wire_bytes = said["bytes_sent"] + said["bytes_received"]
    yield one(f"{what}: update", Sample(seconds, wire_bytes, said["peak_rss_bytes"]))
    applied = Sample(said["apply_s"], said["diff_bytes"], said["apply_peak_rss_bytes"])
    yield one(f"{what}: of that apply", applied)


def heard(bench: Bench, recording: Path, width: int) -> Iterator[Row]:
    """`ota-edge infer`: loading, and seconds a second of sound."""
    said = json.loads(bench.edge("infer", str(recording), "--beam", str(width), "--json"))
    if width == BEAMS[0]:
        yield one("load", Sample(said["load_s"], peak_bytes=said["peak_rss_bytes"]))
    sample = Sample(said["real_time_factor"], peak_bytes=said["peak_rss_bytes"])
    yield one(f"a second of sound, beam {width}", sample)


def one(stage: str, sample: Sample) -> Row:
    """A stage that ran once."""
    return Row(stage, (sample,))


def noise(folder: Path, seed: int) -> Path:
    """Ten seconds that nobody said: time does not depend on what is heard."""
    samples = np.random.default_rng([seed, 3]).normal(0, 0.05, int(NOISE_S * SAMPLE_RATE_HZ))
    soundfile.write(folder / "noise.wav", samples, SAMPLE_RATE_HZ)
    return folder / "noise.wav"


def call(*arguments: str) -> tuple[str, float]:
    """What a Python program prints, and its seconds from start to end.

    Raises:
        BenchmarkError: it failed; the message is its last line.
    """
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        reason = ended.stderr.strip().splitlines() or ["no reason given"]
        raise BenchmarkError(f"{shlex.join(arguments[1:3])}: {reason[-1]}")
    return ended.stdout, time.perf_counter() - started


def table(case: Case) -> Table:
    """A stage a line."""
    shown = Table(box=box.SIMPLE_HEAD, title=f"{case.work}, {case.work_bytes:,} bytes")
    shown.add_column("stage", no_wrap=True)
    for heading in ("seconds", "bytes", "peak MB"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in case.rows:
        size_bytes, peak_bytes = row.middle("size_bytes"), row.middle("peak_bytes")
        size = "" if size_bytes is None else f"{size_bytes:,}"
        peak = "" if peak_bytes is None else f"{peak_bytes / 1e6:,.0f}"
        shown.add_row(row.contender, f"{row.seconds:.2f}", size, peak)
    return shown


if __name__ == "__main__":
    main()

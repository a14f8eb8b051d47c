"""`diffcodec bench`: the peers' table in one run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from diffcodec.bench.compare import compare
from diffcodec.bench.errors import BenchmarkError
from diffcodec.bench.generations import NextGeneration, read_delta
from diffcodec.bench.nncodec import NnCodec
from diffcodec.bench.ours import our_coders
from diffcodec.bench.peers import standard_peers
from diffcodec.bench.rnnt import rnnt
from diffcodec.bench.table import print_comparison
from diffcodec.bench.timing import OnProgress
from diffcodec.bench.work import Work
from diffcodec.changes import MAX_LEVEL
from diffcodec.errors import CodecError
from diffcodec.fitting.selection import differences
from diffcodec.parameters import ParameterSet
from diffcodec.weights import read_weights

BIG_DENSITY = 0.05
progress = Console(stderr=True)


def bench(
    base: Annotated[
        Path | None, typer.Argument(metavar="BASE", help="A .safetensors or .onnx file.")
    ] = None,
    new: Annotated[
        list[Path] | None,
        typer.Argument(metavar="NEW...", help="Weights, or deltas on BASE as .npz."),
    ] = None,
    levels: Annotated[
        int, typer.Option(min=1, max=MAX_LEVEL, metavar="K", help="Magnitudes a tensor may use.")
    ] = 15,
    codebook: Annotated[
        bool, typer.Option("--codebook", help="K centroids, not K even steps.")
    ] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="NEW exactly, any dtype: coders of files alone.")
    ] = False,
    big: Annotated[
        bool, typer.Option("--big", help="A made-up RNN-T of 61,155,780 parameters instead.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of what --big makes up.")] = 0,
    nncodec: Annotated[
        Path | None, typer.Option(metavar="PYTHON", help="An interpreter that has nncodec.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Coders with that in their names.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Rounds that count.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list in JSON.")] = False,
) -> None:
    """Compare our coders with their peers on the same levels: bytes, seconds, memory.

    Times are those of one thread, in turns; peers that are not installed are named.

    Examples:
        diffcodec bench base.safetensors delta_d5.npz --nncodec nn/bin/python

        diffcodec bench g6.safetensors g7.safetensors --levels 2 --codebook

        diffcodec bench --big --runs 3 --only diffcodec --only NNCodec
    """
    if big == (base is not None and bool(new)) or (big and (base or lossless)):
        raise typer.BadParameter("expected BASE and NEW, or --big alone")
    try:
        found = []
        with NnCodec(nncodec) as peer, _display() as show:
            show("quantising")
            peers = [*our_coders(), *standard_peers(), peer]
            chosen = [p for p in peers if not only or any(t in p.name for t in only)]
            for work in _works(base, new or [], levels, codebook, lossless, seed):
                found.append(compare(work, chosen, runs, show))
                if not as_json:
                    print_comparison(found[-1], Console())
    except (CodecError, OSError) as error:
        print(f"error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        raise typer.Exit(1) from None
    if as_json:
        print(json.dumps([comparison.to_json() for comparison in found], indent=1))


def _works(
    base: Path | None,
    new: list[Path],
    levels: int,
    codebook: bool,
    lossless: bool,
    seed: int,
) -> Iterator[Work]:
    """One at a time, and made when it is asked for: the largest takes a gigabyte."""
    if base is None:
        yield Work.at_levels(rnnt(BIG_DENSITY, seed), levels, codebook)
        return
    before = read_weights(base)
    for path in new:
        yield _work(before, path, levels, codebook, lossless)


def _work(base: ParameterSet, path: Path, levels: int, codebook: bool, lossless: bool) -> Work:
    if path.suffix.lower() == ".npz":
        if lossless:
            raise BenchmarkError(f"{path}: expected weights, as --lossless is about exact ones")
        return Work.at_levels(
            NextGeneration(path.stem, base, read_delta(path, base)), levels, codebook
        )
    after = read_weights(path)
    if lossless:
        return Work.exact(path.stem, base, after)
    base.layout.require(after.layout, "BASE", str(path))
    return Work.at_levels(
        NextGeneration(path.stem, base, differences(base, after)), levels, codebook
    )


@contextmanager
def _display() -> Iterator[OnProgress]:
    """What is being done, on stderr: a line that changes, or none where there is no terminal."""
    if not progress.is_terminal:
        yield lambda text: None
        return
    with progress.status("bench") as status:
        yield lambda text: status.update(text)

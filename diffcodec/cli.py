"""The command `diffcodec`: make, apply, inspect, verify and roll up neural diffs from a shell.

Exit codes: 0 done, 1 it failed (one line on stderr), 2 usage.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from diffcodec.bench.cli import bench
from diffcodec.changes import MAX_LEVEL
from diffcodec.coders.layers import available_coders
from diffcodec.diff import DecodedDiff, apply
from diffcodec.durable import replaced_file
from diffcodec.errors import CodecError, InputError, WrongBaseError
from diffcodec.file import decode, read_header
from diffcodec.fitting.request import DiffRequest, make_diff
from diffcodec.header import Coder, Method
from diffcodec.parameters import ParameterSet
from diffcodec.printing import print_header, print_summary
from diffcodec.rollup import roll_up
from diffcodec.sizes import parse_size
from diffcodec.summary import header_to_json, summarise
from diffcodec.weights import new_graph, read_weights, write_weights

app = typer.Typer(
    help="Neural diffs: turn one generation of a model into the next with few bytes.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
progress = Console(stderr=True)


class MethodChoice(StrEnum):
    """What `--method` offers."""

    SPARSE = "sparse"
    HASH = "hash"
    LOWRANK = "lowrank"
    AUTO = "auto"

    @property
    def method(self) -> Method | None:
        """The method itself; None: whatever comes nearest."""
        return None if self is MethodChoice.AUTO else Method(self.value)


class CoderChoice(StrEnum):
    """What `--coder` offers; `auto` takes the smallest that this machine has."""

    FAST = "fast"
    MAX = "max"
    AUTO = "auto"

    @property
    def coders(self) -> frozenset[Coder]:
        """What may be used."""
        if self is CoderChoice.AUTO:
            return available_coders()
        return frozenset({Coder(self.value)})


Weights = Annotated[Path, typer.Argument(metavar="BASE", help="A .safetensors or .onnx file.")]
DiffPath = Annotated[Path, typer.Argument(metavar="F.ndiff", help="A diff file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def diff(
    base: Weights,
    new: Annotated[Path, typer.Argument(metavar="NEW", help="What to come near to.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="F.ndiff", help="Where the diff goes.")
    ],
    budget: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Largest size of the file, such as 40KB or 64KiB."),
    ] = None,
    density: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the parameters that may change, 0 to 1."),
    ] = None,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="Reproduce NEW exactly, any dtype.")
    ] = False,
    levels: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Levels of each sign, 1 to 127; by default 15, or what suits the budget.",
        ),
    ] = None,
    method: Annotated[
        MethodChoice | None,
        typer.Option(help="How weights change; by default auto within a budget, otherwise sparse."),
    ] = None,
    coder: Annotated[CoderChoice, typer.Option(help="How bytes are packed.")] = CoderChoice.AUTO,
    hash_seed: Annotated[
        int, typer.Option(metavar="N", help="With --method hash: a new one each generation.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write what turns BASE into NEW, or near it.

    The next generation is by definition BASE plus the diff as written: what the budget or the
    levels leave out is printed as `error`, relative to the whole change. Tensors may be added,
    removed or grown in NEW; an .onnx file whose graph differs travels with its graph.

    Examples:
        diffcodec diff g6.safetensors g7.safetensors -o g7.ndiff --budget 40KB

        diffcodec diff g6.onnx g7.onnx -o g7.ndiff --density 0.05 --levels 2

        diffcodec diff g6.safetensors g7.safetensors -o g7.ndiff --lossless
    """
    with _one_line_errors():
        method = method or _usual_method(budget, levels)
        _check_options(budget, density, lossless, levels, method)
        before, after = read_weights(base), read_weights(new)
        request = DiffRequest(
            budget_bytes=None if budget is None else _size(budget),
            density=density,
            lossless=lossless,
            levels=levels,
            method=method.method,
            hash_seed=hash_seed,
            graph=new_graph(base, new),
            coders=coder.coders,
        )
        with progress.status("fitting the diff"):
            data = make_diff(request, before, after)
            summary = summarise(before, after, data)
        with replaced_file(_apart_from(output, base, new)) as out:
            out.write(data)
        if as_json:
            print(json.dumps({"path": str(output), **summary.to_json()}, indent=2))
        else:
            print_summary(summary, output)


@app.command("apply")
def apply_command(
    base: Weights,
    diff_path: DiffPath,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="NEW", help="Where the new weights go.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Rebuild the next generation from BASE and a diff, in a file of BASE's kind.

    The result is written only once its digest is the one that the diff promises.

    Example: diffcodec apply g6.safetensors g7.ndiff -o g7.safetensors
    """
    with _one_line_errors():
        result, decoded = _rebuilt(base, diff_path)
        write_weights(_apart_from(output, base, diff_path), result, base, decoded.diff.graph)
        _print_digest(f"{output}: rebuilt", result, as_json)


@app.command()
def verify(base: Weights, diff_path: DiffPath, as_json: JsonOption = False) -> None:
    """Check that a diff applies to BASE and gives what it promises, and write nothing.

    Example: diffcodec verify g6.safetensors g7.ndiff
    """
    with _one_line_errors():
        result, _ = _rebuilt(base, diff_path)
        _print_digest(f"{diff_path}: applies to {base} and gives", result, as_json)


@app.command()
def rollup(
    base: Weights,
    diffs: Annotated[
        list[Path], typer.Argument(metavar="F.ndiff...", help="A chain of diffs, in order.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="F.ndiff", help="Where the one diff goes.")
    ],
    coder: Annotated[CoderChoice, typer.Option(help="How bytes are packed.")] = CoderChoice.AUTO,
    as_json: JsonOption = False,
) -> None:
    """Roll a chain of diffs from BASE up into one file that leads to the same digest.

    Fails, and writes nothing, where one file would not be smaller than the chain.

    Example: diffcodec rollup g4.safetensors g5.ndiff g6.ndiff g7.ndiff -o g4-g7.ndiff
    """
    with _one_line_errors():
        weights = read_weights(base)
        chain = [path.read_bytes() for path in diffs]
        before = sum(map(len, chain))
        with progress.status("rolling the chain up"):
            data = roll_up(weights, chain, coder.coders)
        if data is None:
            raise InputError(
                f"expected one file to be smaller than the chain of {before} bytes, found none; "
                f"send the chain"
            )
        with replaced_file(_apart_from(output, base, *diffs)) as out:
            out.write(data)
        shown = {
            "path": str(output),
            "file_bytes": len(data),
            "chain_bytes": before,
            "target_digest": read_header(data).target_digest.hex(),
        }
        line = f"{output}: {len(data):,} bytes instead of {before:,}, gives"
        print(json.dumps(shown, indent=2) if as_json else f"{line} {shown['target_digest']}")


@app.command()
def inspect(
    diff_path: DiffPath,
    base: Annotated[
        Path | None,
        typer.Option(metavar="BASE", help="Weights whose tensors' names to show."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a diff says of itself; nothing is decompressed.

    Only a snapshot holds the tensors' names; elsewhere they are the base's, so name it to see
    them.

    Example: diffcodec inspect g7.ndiff --base g6.safetensors
    """
    with _one_line_errors():
        header = read_header(diff_path)
        layout = read_weights(base).layout if base else None
        if layout is not None:
            header.resolve(layout, sys.maxsize)
        shown = header_to_json(header, diff_path.stat().st_size, layout)
        if as_json:
            print(json.dumps(shown, indent=2))
        else:
            print_header(shown)


app.command()(bench)


def main() -> None:
    """Entry point of the `diffcodec` command."""
    app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what can go wrong with input into one line and exit code 1."""
    try:
        yield
    except CodecError as exc:
        _fail(str(exc))
    except OSError as exc:
        where = f"{exc.filename}: " if exc.filename else ""
        _fail(f"{where}{exc.strerror or exc}")


def _fail(message: str) -> NoReturn:
    print(f"error: {' '.join(message.splitlines())}", file=sys.stderr)
    raise typer.Exit(1)


def _usual_method(budget: str | None, levels: int | None) -> MethodChoice:
    """What comes nearest, unless levels are given or bytes do not matter."""
    return MethodChoice.SPARSE if budget is None or levels is not None else MethodChoice.AUTO


def _check_options(
    budget: str | None,
    density: float | None,
    lossless: bool,
    levels: int | None,
    method: MethodChoice,
) -> None:
    """Refuse options that contradict each other, as usage errors."""
    if sum((budget is not None, density is not None, lossless)) > 1:
        raise typer.BadParameter("--budget, --density and --lossless exclude each other")
    if method is not MethodChoice.SPARSE and (budget is None or levels is not None):
        raise typer.BadParameter(
            f"--method {method} takes a --budget, and its --levels follow from it"
        )
    if lossless and levels is not None:
        raise typer.BadParameter("--lossless has no --levels")
    if levels is not None and not 1 <= levels <= MAX_LEVEL:
        raise typer.BadParameter(f"--levels: expected 1 to {MAX_LEVEL}, found {levels}")
    if density is not None and not 0 < density <= 1:
        raise typer.BadParameter(f"--density: expected a share in (0, 1], found {density}")
    if budget is not None:
        _size(budget)


def _size(budget: str) -> int:
    try:
        return parse_size(budget)
    except InputError as exc:
        raise typer.BadParameter(f"--budget: {exc}") from exc


def _rebuilt(base: Path, diff_path: Path) -> tuple[ParameterSet, DecodedDiff]:
    """The weights that a diff leads to, and it; errors name the file that they are about."""
    weights = read_weights(base)
    data = diff_path.read_bytes()
    try:
        decoded = decode(data, weights.layout)
    except CodecError as exc:
        raise type(exc)(f"{diff_path}: {exc}") from exc
    try:
        return apply(weights, decoded), decoded
    except WrongBaseError as exc:
        raise WrongBaseError(f"{base}: {exc}") from exc


def _apart_from(output: Path, *inputs: Path) -> Path:
    """Refuse to write over what is being read."""
    for path in inputs:
        if output.exists() and output.samefile(path):
            raise InputError(f"{output}: expected another file than {path} to write to")
    return output


def _print_digest(done: str, result: ParameterSet, as_json: bool) -> None:
    digest = result.digest().hex()
    print(json.dumps({"target_digest": digest}) if as_json else f"{done} {digest}")

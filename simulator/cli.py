"""`ota-sim`: run scenarios on the real server and real devices, and report what they did."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from diffcodec.errors import CodecError
from server.errors import ServerError
from simulator.corpus_cli import corpus_app
from simulator.errors import DisagreementError, RunFolderError, SimulatorError
from simulator.overrides import with_overrides
from simulator.progress import open_display
from simulator.scenario_file import builtin_names, find_scenario
from simulator.terminal import JsonOption, WorkersOption, cores, interruptible, print_result
from speech.errors import SpeechError

RUN_EXAMPLES = """Examples:

ota-sim run quickstart

ota-sim run table1-small --workers 2 --cache runs/cache

ota-sim run digits --corpus fsdd --out runs/digits --variants bl,ft,sparse --sizes 1/100,1/600

ota-sim run digits --corpus mine --by text --generations 'yes,no;stop;go' --steps 800 --seed 7"""

REPORT_EXAMPLE = """Example:

ota-sim report runs/digits"""

BEST_EXAMPLE = """Example:

ota-sim best runs/equal-bytes --json > measured.json"""

app = typer.Typer(
    help="Replay the life of a model: train, publish, update real devices, measure.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.add_typer(corpus_app, name="corpus")

RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a run.")]


@app.command("run", epilog=RUN_EXAMPLES)
def run_command(
    scenario: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help=f"{', '.join(builtin_names())}, or a .toml file."),
    ],
    corpus: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Corpus folder, see `corpus check`.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where everything goes; else runs/<name>.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where trained generations and synthetic corpora are kept, for several runs to "
            "share; else --out.",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is in --out.")] = False,
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and write nothing.")
    ] = False,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", metavar="S", min=0, help="Instead of the scenario's. Repeatable."),
    ] = None,
    variants: Annotated[
        str | None, typer.Option(metavar="A,B", help="Instead of the scenario's: bl,ft,sparse.")
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Instead of the scenario's: 1/100 of the bytes, or 40x as the paper counts.",
        ),
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(metavar="N", help="Of training: 500, or with exceptions 500,dense=800."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="text|domain|share", help="How the data grow.")
    ] = None,
    generations: Annotated[
        str | None,
        typer.Option(
            metavar="'a,b;c;d'",
            help="Labels; each ; begins a generation that adds some. Shares: '0.5;0.1;0.1'.",
        ),
    ] = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train, publish, update, recognise, report."""
    from simulator.dry_run import dry_run, print_dry_run
    from simulator.run import RunOptions, run

    chosen = with_overrides(
        find_scenario(scenario),
        by=by,
        generations=generations,
        seeds=seeds,
        variants=variants,
        sizes=sizes,
        steps=steps,
    )
    if corpus is None and chosen.speech is None:
        raise typer.BadParameter(f"scenario {chosen.name} needs one", param_hint="--corpus")
    place = out or Path("runs") / chosen.name
    options = RunOptions(corpus, place, cache, resume, workers or cores(), _command())
    if is_dry:
        planned = dry_run(chosen, options)
        print_result(as_json, planned.to_json(), lambda: print_dry_run(planned, Console()))
        return
    kept = f"finished jobs are kept in {options.jobs}, --resume goes on with them"
    with interruptible(kept), open_display() as display:
        report = run(chosen, options, display)
    _show(report, options.out, as_json)
    wrong = report.summary.wrong_digests
    if wrong:
        raise DisagreementError(f"{wrong} devices hold other weights than the server published")


@app.command("report", epilog=REPORT_EXAMPLE)
def report_command(folder: RunFolder, as_json: JsonOption = False) -> None:
    """Make tables and report.html again from a run's results.jsonl."""
    from simulator.report.page import rebuild_report

    _show(rebuild_report(folder), folder, as_json)


@app.command("best", epilog=BEST_EXAMPLE)
def best_command(folder: RunFolder, as_json: JsonOption = False) -> None:
    """Which method was best at each size: what recipe `auto` chooses by."""
    from simulator.report.page import read_report
    from simulator.report.table import best_table

    report = read_report(folder)
    if not report.best_at_sizes:
        raise RunFolderError(
            f"{folder}: expected a run of bl and two or more of sparse, hash and lowrank at a size "
            "in bytes, found none"
        )
    print_result(
        as_json,
        report.measured(),
        lambda: Console().print(best_table(report)),
    )


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit status 1."""
    try:
        app()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
    except (SimulatorError, SpeechError, ServerError, CodecError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _show(report: Any, folder: Path, as_json: bool) -> None:
    from simulator.report.page import PAGE
    from simulator.report.table import print_report

    print_result(as_json, report.to_json(), lambda: print_report(report, Console()))
    if not as_json:
        print(f"\nreport: {folder / PAGE}")


def _command() -> str:
    return shlex.join(["ota-sim", *sys.argv[1:]])


if __name__ == "__main__":
    main()

"""`ota-sim`: run scenarios on the real server and real devices, and report what they did."""

import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from diffcodec.errors import CodecError
from server.errors import ServerError
from simulator.errors import DisagreementError, SimulatorError
from simulator.progress import open_display
from simulator.scenario import Scenario
from simulator.scenario_file import find_scenario
from speech.errors import SpeechError

INTERRUPTED = 130
"""What a shell expects of a program that Ctrl-C ended."""

RUN_EXAMPLES = """Examples:

ota-sim run quickstart

ota-sim run digits --corpus fsdd --out runs/digits --seed 0 --seed 1 --seed 2

ota-sim run digits --corpus mine --by text --generations 'yes,no;stop;go'"""

app = typer.Typer(
    help="Replay the life of a model: train, publish, update real devices, measure.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(help="Make and check corpus folders.", no_args_is_help=True)
app.add_typer(corpus_app, name="corpus")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WorkersOption = Annotated[
    int | None,
    typer.Option("--jobs", min=1, metavar="N", help="Processes at a time; else one a core."),
]


@app.command("run", epilog=RUN_EXAMPLES)
def run_command(
    scenario: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="quickstart, digits, commands, or a .toml file."),
    ],
    corpus: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Corpus folder with manifest.csv.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where everything goes; else runs/<name>.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with what is in --out.")] = False,
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and write nothing.")
    ] = False,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", metavar="S", min=0, help="Instead of the scenario's. Repeatable."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="text|domain", help="What generations are lists of.")
    ] = None,
    generations: Annotated[
        str | None,
        typer.Option(
            metavar="'a,b;c;d'", help="Labels; each ; begins a generation that adds some."
        ),
    ] = None,
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train, publish, update, recognise, report."""
    from simulator.dry_run import dry_run, print_dry_run
    from simulator.run import RunOptions, run

    chosen = _scenario(scenario, by, generations, seeds)
    if corpus is None and chosen.speech is None:
        raise typer.BadParameter(f"scenario {chosen.name} needs one", param_hint="--corpus")
    options = RunOptions(
        corpus, out or Path("runs") / chosen.name, resume, workers or _cores(), _command()
    )
    if is_dry:
        planned = dry_run(chosen, options)
        _print(as_json, planned.to_json(), lambda: print_dry_run(planned, Console()))
        return
    kept = f"finished jobs are kept in {options.out}, --resume goes on with them"
    with _interruptible(kept), open_display() as display:
        summary = run(chosen, options, display)
    _show(summary, options.out, as_json)
    wrong = sum(not cell.digest_ok for cell in summary.cells)
    wrong += sum(not catch_up.digest_ok for catch_up in summary.catch_ups)
    if wrong:
        raise DisagreementError(f"{wrong} devices hold other weights than the server published")


@app.command("report")
def report_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a run.")],
    as_json: JsonOption = False,
) -> None:
    """Make table and report.html again from a run's results.jsonl.

    Example: ota-sim report runs/digits
    """
    from simulator.report.page import rebuild_report

    _show(rebuild_report(folder), folder, as_json)


@corpus_app.command("synth")
def synth_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    phrases: Annotated[
        str, typer.Option(metavar="FILE|builtin", help="A csv file with the columns text, domain.")
    ] = "builtin",
    speakers: Annotated[int, typer.Option(metavar="N", help="How many speak every phrase.")] = 24,
    seed: Annotated[int, typer.Option(metavar="S", help="Of speakers and rooms.")] = 0,
    workers: WorkersOption = None,
) -> None:
    """Make a corpus of synthetic speech; a seed always gives the same.

    Example: ota-sim corpus synth home-speech --phrases builtin --speakers 97 --seed 0
    """
    from simulator.synthesis.corpus import CorpusPlan, write_corpus
    from simulator.synthesis.phrases import read_phrases

    plan = CorpusPlan(read_phrases(phrases), speakers, seed)
    with _interruptible(f"nothing is left in {folder}"), open_display() as display:
        work = display.begin("synthetic speakers", plan.speakers)
        digest = write_corpus(
            folder, plan, workers or _cores(), lambda done, _count: work.advance(done)
        )
    print(f"{folder}: {len(plan.phrases) * speakers} recordings, speech {digest[:16]}")


@corpus_app.command("check")
def check_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus folder.")],
    as_json: JsonOption = False,
) -> None:
    """Open every recording of a corpus and count what there is.

    Example: ota-sim corpus check fsdd
    """
    from simulator.corpus_check import check_corpus, print_check
    from speech.corpus import Corpus

    corpus = Corpus.read(folder)
    with open_display() as display:
        work = display.begin("recordings", len(corpus.utterances))
        check = check_corpus(corpus, work.advance)
    _print(as_json, check.to_json(), lambda: print_check(check, Console()))
    for problem in check.problems:
        print(f"error: {problem}", file=sys.stderr)
    if check.problems:
        raise typer.Exit(1)


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


def _scenario(
    name: str, by: str | None, generations: str | None, seeds: list[int] | None
) -> Scenario:
    scenario = find_scenario(name).evolving(by, generations)
    return replace(scenario, seeds=tuple(seeds)) if seeds else scenario


def _show(summary: Any, folder: Path, as_json: bool) -> None:
    from simulator.report.page import PAGE
    from simulator.report.table import print_table

    _print(as_json, summary.to_json(), lambda: print_table(summary, Console()))
    if not as_json:
        print(f"\nreport: {folder / PAGE}")


def _print(as_json: bool, content: Any, print_table: Callable[[], None]) -> None:
    if as_json:
        print(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        print_table()


@contextmanager
def _interruptible(left: str) -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does, and say what is left."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted; {left}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _command() -> str:
    return shlex.join(["ota-sim", *sys.argv[1:]])


if __name__ == "__main__":
    main()

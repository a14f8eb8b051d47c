"""`ota-sim corpus`: make corpora of synthetic speech, and look at any corpus."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simulator.progress import open_display
from simulator.terminal import JsonOption, WorkersOption, cores, interruptible, print_result

MOST_PROBLEMS_PRINTED = 20

SYNTH_EXAMPLES = """Examples:

ota-sim corpus synth home-speech --phrases builtin --speakers 97 --seed 0

ota-sim corpus synth sentences --sentences 100 --speakers 24"""

CHECK_EXAMPLES = """Examples:

ota-sim corpus check fsdd

ota-sim corpus check LibriSpeech --json"""

corpus_app = typer.Typer(help="Make and check corpus folders.", no_args_is_help=True)


@corpus_app.command("synth", epilog=SYNTH_EXAMPLES)
def synth_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    phrases: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|builtin",
            help="What every speaker says: a csv file with the columns text, domain, or the 248 "
            "smart-home phrases that come with this. The default without --sentences.",
        ),
    ] = None,
    sentences: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            help="For speech recognition: so many sentences of each speaker's own.",
        ),
    ] = 0,
    topics: Annotated[
        list[str] | None,
        typer.Option(
            "--topic", metavar="T", help="What the sentences are about: home. Repeatable."
        ),
    ] = None,
    speakers: Annotated[int, typer.Option(metavar="N", help="How many speak.")] = 24,
    seed: Annotated[int, typer.Option(metavar="S", help="Of speakers, rooms, sentences.")] = 0,
    workers: WorkersOption = None,
) -> None:
    """Make a corpus of synthetic speech; a seed always gives the same."""
    from simulator.synthesis.corpus import CorpusPlan, write_corpus
    from simulator.synthesis.phrases import BUILTIN, read_phrases

    if phrases is None and not sentences:
        phrases = BUILTIN
    said_by_all = read_phrases(phrases) if phrases else ()
    plan = CorpusPlan(said_by_all, speakers, seed, sentences, tuple(topics or ()))
    with interruptible(f"nothing is left in {folder}"), open_display() as display:
        work = display.begin("synthetic speakers", plan.speakers)
        digest = write_corpus(
            folder, plan, workers or cores(), lambda done, _count: work.advance(done)
        )
    print(f"{folder}: {plan.recordings} recordings, speech {digest[:16]}")


@corpus_app.command("check", epilog=CHECK_EXAMPLES)
def check_command(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder with manifest.csv, or LibriSpeech, Fluent Speech Commands or "
            "Speech Commands as unpacked.",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Open every recording of a corpus, count what there is, and list what is broken."""
    from simulator.corpus_check import check_corpus, print_check
    from speech.layouts import read_folder

    reading = read_folder(folder)
    with open_display() as display:
        work = display.begin("recordings", len(reading.utterances))
        check = check_corpus(folder, reading, work.advance)
    if check.recordings or as_json:
        print_result(as_json, check.to_json(), lambda: print_check(check, Console()))
    for problem in check.problems[:MOST_PROBLEMS_PRINTED]:
        print(f"error: {problem}", file=sys.stderr)
    more = len(check.problems) - MOST_PROBLEMS_PRINTED
    if more > 0:
        print(f"error: and {more:,} more like these; --json lists them all", file=sys.stderr)
    if check.problems:
        raise typer.Exit(1)

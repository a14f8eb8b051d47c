"""The command `ota-edge infer`."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from edge_client.errors import ListError
from edge_client.footprint import peak_rss_bytes
from edge_client.home import EdgeHome
from edge_client.inference.answers import NearestPhrase, Transcript
from edge_client.inference.recognizer import Recognizer
from edge_client.inference.search import BEAM_WIDTH
from edge_client.progress import OnProgress, Progress
from edge_client.terminal import HomeOption, JsonOption, complain, one_line_errors, progress_bar
from speech.audio import SAMPLE_RATE_HZ, read_audio
from speech.errors import AudioError

WIDEST_BEAM = 256
HEARD_AT_ONCE = SAMPLE_RATE_HZ * 3 // 10
"""Samples of a piece with --partial: ten frames."""

Hear = Callable[[Recognizer, str, NDArray[np.float32]], Transcript]


@dataclass(frozen=True)
class Answered:
    """What became of one recording: an answer, or why there is none."""

    path: str
    answer: Transcript | None
    error: str | None
    audio_s: float
    infer_s: float

    def to_json(self) -> Mapping[str, object]:
        """An entry of `infer --json`: `text` for every model, `phrase` where there are phrases."""
        if self.answer is None:
            return {"path": self.path, "error": self.error}
        content = {"path": self.path, "text": self.answer.text, **asdict(self.answer)}
        return {**content, "audio_s": self.audio_s, "infer_s": self.infer_s}


def infer(
    home: HomeOption,
    files: Annotated[
        # Not Path: typer would check each itself, and refuse all of them for one.
        list[str] | None,
        typer.Argument(metavar="FILE", help="wav or flac, any rate."),
    ] = None,
    files_from: Annotated[
        str | None,
        typer.Option("--files-from", metavar="LIST", help="One path a line; - is stdin."),
    ] = None,
    beam_width: Annotated[
        int,
        typer.Option(
            "--beam",
            min=1,
            max=WIDEST_BEAM,
            help="Hypotheses that a speech recogniser follows; 1 is fastest.",
        ),
    ] = BEAM_WIDTH,
    is_partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Hear a recording piece by piece, and print the text so far whenever it grows.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Recognise recordings: path, text and a score, one line a file.

    The score of a command is its distance, from 0 to 2; that of a sentence its log-probability.

    A recording that cannot be read is named on stderr, the others are answered, and the exit
    code is 1.

    Example: ota-edge infer --home device seven.wav three.flac

    Example: find recordings -name '*.wav' | ota-edge infer --home device --files-from - --json

    Example: ota-edge infer --home device --partial sentence.wav
    """
    if is_partial and as_json:
        raise typer.BadParameter("expected --partial or --json, found both")
    if not files and files_from is None:
        raise typer.BadParameter("expected recordings, as FILE... or by --files-from")
    with one_line_errors():
        paths = [*(files or ()), *_listed(files_from)]
        started_s = time.perf_counter()
        recognizer = Recognizer.open(EdgeHome(home), beam_width)
        load_s = time.perf_counter() - started_s
        if as_json:
            with progress_bar() as show:
                results = list(_recognise(recognizer, paths, show))
            print(json.dumps(_inference_as_json(recognizer, results, load_s)))
        else:
            hear = _hear_in_pieces if is_partial else _hear
            results = list(map(_printed, _recognise(recognizer, paths, hear=hear)))
    if any(result.answer is None for result in results):
        raise typer.Exit(1)


def _listed(files_from: str | None) -> Sequence[str]:
    """The paths of a list, one a line; empty lines are passed over.

    Raises:
        ListError: it cannot be read.
    """
    if files_from is None:
        return []
    name = "stdin" if files_from == "-" else files_from
    try:
        content = sys.stdin.buffer.read() if files_from == "-" else Path(files_from).read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise ListError(
            f"{name}: expected a list of paths, one a line: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise ListError(
            f"{name}: expected a list of paths in UTF-8, one a line, "
            f"found the byte {content[error.start]:#04x} at {error.start}"
        ) from error
    return [line for line in text.splitlines() if line.strip()]


def _hear(recognizer: Recognizer, path: str, samples: NDArray[np.float32]) -> Transcript:
    return recognizer.recognise(samples)


def _hear_in_pieces(recognizer: Recognizer, path: str, samples: NDArray[np.float32]) -> Transcript:
    """Hear a recording as it would come from a microphone; print the text whenever it changes."""
    listener, shown = recognizer.listen(), ""
    for start in range(0, len(samples), HEARD_AT_ONCE):
        listener.feed(samples[start : start + HEARD_AT_ONCE])
        if listener.text != shown:
            shown = listener.text
            heard_s = min(start + HEARD_AT_ONCE, len(samples)) / SAMPLE_RATE_HZ
            print(f"{path}\t{shown} ...\t{heard_s:.2f} s", flush=True)
    return listener.finish()


def _recognise(
    recognizer: Recognizer,
    paths: Sequence[str],
    on_progress: OnProgress = lambda progress: None,
    hear: Hear = _hear,
) -> Iterator[Answered]:
    """Answer one recording after another; complain of those that cannot be read."""
    for number, path in enumerate(paths):
        on_progress(Progress("recognising, files", number, len(paths)))
        started_s = time.perf_counter()
        answer, reason, audio_s = None, None, 0.0
        try:
            samples = read_audio(path)
            audio_s = len(samples) / SAMPLE_RATE_HZ
            answer = hear(recognizer, path, samples)
        except AudioError as error:
            reason = str(error)
            complain(reason)
        yield Answered(path, answer, reason, audio_s, time.perf_counter() - started_s)


def _printed(answered: Answered) -> Answered:
    """Print an answer, where there is one, as soon as it is known."""
    answer = answered.answer
    if answer is not None:
        score = (
            f"{answer.distance:.4f}"
            if isinstance(answer, NearestPhrase)
            else f"{answer.log_probability:.2f}"
        )
        print(f"{answered.path}\t{answer.text}\t{score}", flush=True)
    return answered


def _inference_as_json(
    recognizer: Recognizer, results: Sequence[Answered], load_s: float
) -> Mapping[str, object]:
    answered = [result for result in results if result.answer is not None]
    audio_s, infer_s = (
        sum(getattr(result, name) for result in answered) for name in ("audio_s", "infer_s")
    )
    return {
        "generation": recognizer.generation.number,
        "digest": recognizer.generation.digest.hex(),
        "load_s": load_s,
        "audio_s": audio_s,
        "infer_s": infer_s,
        "real_time_factor": infer_s / audio_s if audio_s else None,
        "peak_rss_bytes": peak_rss_bytes(),
        "results": [result.to_json() for result in results],
    }

"""The command line of a device: `ota-edge`.

Exit codes: 0 it worked (nothing to do included), 1 it failed (one line on stderr for each thing
that did, starting with `error:`), 2 usage.
"""

import hashlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as ProgressBar

from diffcodec import available_coders
from edge_client.address import ServerAddress
from edge_client.enrollment import Wanted
from edge_client.enrollment import enroll as enroll_home
from edge_client.errors import CredentialError, EdgeError, ListError, NotYetAcceptedError
from edge_client.footprint import peak_rss_bytes
from edge_client.home import EdgeHome
from edge_client.identity.credential import Credential, key_sha256, load_certificate, load_key
from edge_client.inference import BEAM_WIDTH, NearestPhrase, Recognizer, Transcript
from edge_client.slots import Installed
from edge_client.trust import pinned_root, trust_status
from edge_client.updater import OnProgress, Progress, UpdateResult
from edge_client.updater import update as update_home
from speech.audio import SAMPLE_RATE_HZ, read_audio
from speech.errors import AudioError

WIDEST_BEAM = 256
HEARD_AT_ONCE = SAMPLE_RATE_HZ * 3 // 10
"""Samples of a piece with --partial: ten frames."""

Hear = Callable[[Recognizer, str, NDArray[np.float32]], Transcript]

app = typer.Typer(
    help="A device that follows a model: enrol it, update it, let it recognise speech.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


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


HomeOption = Annotated[Path, typer.Option("--home", metavar="DIR", help="The device's folder.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def enroll(
    home: HomeOption,
    server: Annotated[
        str,
        typer.Option("--server", metavar="HOST:PORT", help="As its certificate names it."),
    ],
    ca: Annotated[
        Path | None,
        typer.Option("--ca", metavar="FILE", help="The fleet's ca.pem; the home keeps a copy."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", help="Which of its models to follow; else its only one.")
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="A name for people; this machine's by default.")
    ] = "",
    device_id: Annotated[
        str, typer.Option("--device-id", help="The id to ask for; else the server makes one.")
    ] = "",
    is_waiting: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait until an operator has accepted the key."),
    ] = True,
    root: Annotated[
        Path | None,
        typer.Option("--root", metavar="FILE", help="The root.json to trust; else the server's."),
    ] = None,
) -> None:
    """Make a folder the home of a device that follows a model.

    The device makes its key and asks for a certificate. Where an operator has to accept the key,
    the command waits; with --no-wait it ends, and the same command goes on later.

    forgotten it, the device asks anew by the same key and id and keeps what it has installed.
    Another address is followed from then on; another model is refused.

    The root of trust is pinned: of --root, or at the first enrolment the one that the server
    gives. Compare what is printed with `ota-server keys status`.

    Example: ota-edge enroll --home device --server 127.0.0.1:50051 --ca ca.pem --model digits
    """
    with _one_line_errors():
        address = ServerAddress.parse(server)
        fleet = _read_fleet(ca) if ca is not None else None
        wanted = Wanted(model, name or platform.node(), device_id)
        trusted = None if root is None else root.read_bytes()
        try:
            with _waiting_line() as on_wait:
                config = enroll_home(
                    EdgeHome(home),
                    address,
                    wanted,
                    fleet,
                    on_wait=on_wait if is_waiting else None,
                    root=trusted,
                )
        except NotYetAcceptedError as pending:
            print(f"not enrolled yet: {pending}")
            return
        print(f"{home} is device {config.device_id}, follows {config.model!r} at {config.server}")
        print(f"root of trust, SHA-256 {hashlib.sha256(pinned_root(home)).hexdigest()}")


@app.command()
def key(home: HomeOption) -> None:
    """Print the SHA-256 of this device's public key; the key is made if there is none.

    An operator compares it, or accepts it beforehand with `ota-server device preauthorize`.

    Example: ota-edge key --home device
    """
    with _one_line_errors(), EdgeHome(home).locked() as locked:
        print(key_sha256(load_key(locked.identity.make_key())).hex())


@app.command()
def update(
    home: HomeOption,
    is_metered: Annotated[
        bool,
        typer.Option("--metered", help="Say that the link costs money by the byte."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Install what the server offers, once. Nothing to do, or having to wait, is success.

    Example: ota-edge update --home device --json
    """
    with _one_line_errors():
        with _progress_bar() as show:
            result = update_home(EdgeHome(home), on_progress=show, is_metered=is_metered)
        if as_json:
            print(json.dumps(_update_as_json(result)))
        else:
            print(_update_as_text(result))


@app.command()
def status(home: HomeOption, as_json: JsonOption = False) -> None:
    """Say what the device follows and which generation it holds.

    Example: ota-edge status --home device
    """
    with _one_line_errors():
        content = _status(EdgeHome(home))
        if as_json:
            print(json.dumps(content))
        else:
            for key, value in content.items():
                print(f"{key.replace('_', ' '):14} {_shown(value)}")


@app.command()
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
    with _one_line_errors():
        paths = [*(files or ()), *_listed(files_from)]
        started_s = time.perf_counter()
        recognizer = Recognizer.open(EdgeHome(home), beam_width)
        load_s = time.perf_counter() - started_s
        if as_json:
            with _progress_bar() as show:
                results = list(_recognise(recognizer, paths, show))
            print(json.dumps(_inference_as_json(recognizer, results, load_s)))
        else:
            hear = _hear_in_pieces if is_partial else _hear
            results = list(map(_printed, _recognise(recognizer, paths, hear=hear)))
    if any(result.answer is None for result in results):
        raise typer.Exit(1)


def main() -> None:
    """Run `ota-edge`."""
    app()


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """End with exit code 1 and one line, whatever fails."""
    try:
        yield
    except EdgeError as error:
        _complain(str(error))
        raise typer.Exit(1) from error
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        raise typer.Exit(1) from error


def _read_fleet(path: Path) -> Credential:
    try:
        return Credential.from_pem(path.read_bytes())
    except CredentialError as error:
        raise CredentialError(f"{path}: {error}") from error


@contextmanager
def _waiting_line() -> Iterator[Callable[[str], None]]:
    """Say on stderr that an operator is waited for: a line that moves, or one line in a log."""
    console = Console(stderr=True)
    with console.status("asking") as status:
        is_told = False

        def tell(key_sha256: str) -> None:
            nonlocal is_told
            words = f"waiting for an operator to accept key {key_sha256[:16]}"
            status.update(words)
            if not is_told and not console.is_terminal:
                print(words, file=sys.stderr, flush=True)
            is_told = True

        yield tell


def _complain(message: str) -> None:
    print("error:", message.replace("\n", " "), file=sys.stderr)


@contextmanager
def _progress_bar() -> Iterator[OnProgress]:
    """A bar on stderr while the block runs, if a person is looking."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} of {task.total:,}"),
        TimeElapsedColumn(),
    )
    with ProgressBar(
        *columns,
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
        # What is printed belongs on stdout, also while a bar is shown.
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task("starting", total=1)

        def show(progress: Progress) -> None:
            bar.update(
                task,
                description=progress.doing,
                completed=progress.done,
                total=progress.total,
            )

        yield show


def _update_as_json(result: UpdateResult) -> Mapping[str, object]:
    costs = result.costs
    return {
        "from_generation": result.before.number if result.before else None,
        "generation": result.after.number if result.after else None,
        "head": result.head,
        "digest": result.after.digest.hex() if result.after else None,
        "is_changed": bool(result.steps),
        "steps": [
            {
                "generation": step.target.number,
                "diff_bytes": step.diff.length_bytes,
                "is_snapshot": step.is_snapshot,
            }
            for step in result.steps
        ],
        "diff_bytes": result.diff_bytes,
        "downloaded_bytes": costs.downloaded_bytes,
        "bytes_sent": costs.traffic.sent_bytes,
        "bytes_received": costs.traffic.received_bytes,
        "apply_s": costs.apply_s,
        "apply_peak_rss_bytes": costs.apply_peak_rss_bytes,
        "peak_rss_bytes": peak_rss_bytes(),
        "is_reported": result.is_reported,
        "is_repair": result.repaired is not None,
        "repaired": result.repaired,
        "deferral": asdict(result.deferral) if result.deferral else None,
        "come_again_s": result.come_again_s,
    }


def _update_as_text(result: UpdateResult) -> str:
    costs, traffic = result.costs, result.costs.traffic
    wire = f"on the wire: {traffic.sent_bytes:,} bytes sent, {traffic.received_bytes:,} received"
    if result.deferral is not None:
        return f"deferred: {result.deferral.reason}: {result.deferral.detail}\n{wire}"
    if result.after is None:
        found = "no generation" if result.head is None else f"generation {result.head}"
        return f"nothing to install: the model has {found}, none is offered\n{wire}"
    if not result.steps:
        return f"up to date: generation {result.after.number}\n{wire}"
    before = f"generation {result.before.number}" if result.before else "nothing"
    repaired = [f"repaired from a snapshot: {result.repaired}"] if result.repaired else []
    lines = [
        *repaired,
        f"updated from {before} to generation {result.after.number}",
        f"steps: {len(result.steps)}, {result.diff_bytes:,} bytes of diffs",
        wire,
        f"applied in {costs.apply_s:.2f} s, peak memory {peak_rss_bytes() / 1e6:.0f} MB",
        f"digest: {result.after.digest.hex()}",
    ]
    if not result.is_reported:
        lines.append("the server could not be told yet; it will learn at the next update")
    return "\n".join(lines)


def _status(home: EdgeHome) -> Mapping[str, object]:
    config = home.config()
    installed = home.slots.installed()
    generation = installed.record.generation if installed else None
    return {
        "home": str(home.path),
        "server": str(config.server),
        "model": config.model,
        "device_id": config.device_id,
        "name": config.name,
        "certificate_until": _certificate_end(home),
        "generation": generation.number if generation else None,
        "digest": generation.digest.hex() if generation else None,
        "slot": installed.slot.name if installed else None,
        "weights_bytes": installed.slot.weights_bytes() if installed else None,
        "coders": sorted(available_coders()),
        **trust_status(home.path, datetime.now(UTC)),
        **_paths_for_other_programs(installed),
    }


def _certificate_end(home: EdgeHome) -> str | None:
    with suppress(CredentialError):
        certificate = load_certificate(home.identity.credential().certificate)
        return certificate.not_valid_after_utc.isoformat()
    return None


def _shown(value: object) -> object:
    if isinstance(value, list):
        return ", ".join(value)
    return "none" if value is None else value


def _paths_for_other_programs(installed: Installed | None) -> Mapping[str, str | None]:
    """Where the serving model lies; an update moves it to the other slot."""
    if installed is None:
        return dict.fromkeys(("weights", "graph", "card"))
    slot, record = installed.slot, installed.record
    return {
        "weights": str(slot.weights.absolute()),
        "graph": str(slot.graph.absolute()) if record.graph_sha256 else None,
        "card": str(slot.card.absolute()) if record.card_sha256 else None,
    }


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
            _complain(reason)
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

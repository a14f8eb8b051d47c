"""Corpora in the layouts that they are published in, beside our own with manifest.csv.

    LibriSpeech               SPEAKERS.TXT, train-clean-100/19/198/19-198.trans.txt and *.flac
    Fluent Speech Commands    data/train_data.csv, valid_data.csv, test_data.csv, wavs/...
    Speech Commands           yes/0a7c2a8d_nohash_0.wav, validation_list.txt, testing_list.txt

Nothing is copied or written: a folder is used as it was unpacked. The length of a recording comes
from its header. A missing or broken recording is a problem of its own, so that one look shows all
of them; a folder of which whole parts are missing is refused.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speech.audio import duration_s
from speech.errors import AudioError, CorpusError
from speech.manifest import MANIFEST, Row, audio_path, read_csv, read_manifest
from speech.utterances import Reading, Utterance

IS_COMPLETE = "is the archive unpacked to its end?"

# LibriSpeech: https://www.openslr.org/12. The small sets of 31 (train-clean-5) look the same.
SUBSET = re.compile(r"(?P<split>train|dev|test)-(?P<domain>clean|other)(-\d+)?")
SUBSET_SPLITS = {"train": "train", "dev": "val", "test": "test"}
SPEAKERS = "SPEAKERS.TXT"

# Fluent Speech Commands: Lugosch et al. 2019, "Speech model pre-training for end-to-end SLU".
FLUENT_LISTS = {"train_data.csv": "train", "valid_data.csv": "val", "test_data.csv": "test"}
FLUENT_COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")
DOMAIN_OF_ACTION = {"bring": "Bring", "change language": "Language"}
DOMAIN_OF_OBJECT = {
    "lights": "Lighting",
    "lamp": "Lighting",
    "heat": "Heat",
    "volume": "Volume",
    "music": "Music",
}
"""The six domains of the neural diff paper (4.2): by the action where it says it all (whatever is
brought, whichever language is set), otherwise by the object."""

# Speech Commands: Warden 2018, https://arxiv.org/abs/1804.03209; versions 0.01 and 0.02.
COMMAND_LISTS = {"validation_list.txt": "val", "testing_list.txt": "test"}
SAME_SPEAKER = "_nohash_"


@dataclass(frozen=True)
class Layout:
    """A way to lay out a corpus: its name, how to know it, how to read it."""

    name: str
    matches: Callable[[Path], bool]
    read: Callable[[Path], Reading]


def read_folder(folder: Path) -> Reading:
    """Read a corpus folder in whichever layout it has.

    Raises:
        CorpusError: it has none that is known, or a whole part is missing.
    """
    for layout in LAYOUTS:
        if layout.matches(folder):
            return layout.read(folder)
    if not folder.is_dir():
        raise CorpusError(f"{folder}: expected a corpus folder, found none")
    names = sorted(path.name for path in folder.iterdir())
    found = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    published = ", ".join(layout.name for layout in LAYOUTS[1:])
    raise CorpusError(
        f"{folder}: expected a corpus folder, with {MANIFEST} or as published ({published}), "
        f"found {_inner_corpus(folder) or found or 'nothing'}"
    )


def _inner_corpus(folder: Path) -> str:
    """Archives unpack into a folder of their own; tell whoever names the one around it."""
    inner = [p for p in folder.iterdir() if p.is_dir() and any(x.matches(p) for x in LAYOUTS)]
    return f"one inside: {inner[0]}" if len(inner) == 1 else ""


def read_librispeech(folder: Path) -> Reading:
    """Texts in lower case; splits and domains ("clean", "other") from the subsets' names."""
    subsets = [path for path in sorted(folder.iterdir()) if SUBSET.fullmatch(path.name)]
    splits = {_split_of_subset(subset) for subset in subsets}
    if "train" not in splits or len(splits) < 2:
        raise CorpusError(
            f"{folder}: LibriSpeech: expected a folder train-* and one of test-* or dev-*, "
            f"found {', '.join(path.name for path in subsets) or 'none of them'}"
        )
    found = [entry for subset in subsets for entry in _read_subset(subset)]
    notes = tuple(_absent_speakers(folder / SPEAKERS, subsets))
    return _reading("LibriSpeech", folder, found, notes)


def read_fluent_speech_commands(folder: Path) -> Reading:
    """Texts as published; domains by DOMAIN_OF_ACTION and DOMAIN_OF_OBJECT."""
    for name in (*(f"data/{name}" for name in FLUENT_LISTS), "wavs"):
        if not (folder / name).exists():
            raise CorpusError(
                f"{folder}: Fluent Speech Commands: expected {name}, found none: {IS_COMPLETE}"
            )
    found = [
        _read_fluent_row(folder, f"{folder / 'data' / name}, line {line}", row, split)
        for name, split in FLUENT_LISTS.items()
        for line, row in read_csv(folder / "data" / name, FLUENT_COLUMNS)[1]
    ]
    return _reading("Fluent Speech Commands", folder, found)


def read_speech_commands(folder: Path) -> Reading:
    """A word's folder is its text; _background_noise_ is left out; speakers from file names."""
    for name in COMMAND_LISTS:
        if not (folder / name).is_file():
            raise CorpusError(f"{folder}: Speech Commands: expected {name}, found none")
    listed = {
        name: split for file, split in COMMAND_LISTS.items() for name in _lines(folder / file)
    }
    found: list[Utterance | str] = []
    for path in sorted(folder.glob("[!_.]*/*.wav")):
        name = f"{path.parent.name}/{path.name}"
        found.append(_read_command(path, listed.pop(name, "train")))
    absent = Counter(name.partition("/")[0] for name in listed)
    found += [
        f"{folder / word}: expected {count} more recordings, which the lists name; {IS_COMPLETE}"
        for word, count in sorted(absent.items())
    ]
    return _reading("Speech Commands", folder, found)


LAYOUTS = (
    Layout(MANIFEST, lambda folder: (folder / MANIFEST).is_file(), read_manifest),
    Layout(
        "LibriSpeech",
        lambda folder: (
            (folder / SPEAKERS).is_file()
            or (folder.is_dir() and any(SUBSET.fullmatch(path.name) for path in folder.iterdir()))
        ),
        read_librispeech,
    ),
    Layout(
        "Fluent Speech Commands",
        lambda folder: any((folder / "data" / name).is_file() for name in FLUENT_LISTS),
        read_fluent_speech_commands,
    ),
    Layout(
        "Speech Commands",
        lambda folder: any((folder / name).is_file() for name in COMMAND_LISTS),
        read_speech_commands,
    ),
)
"""In the order in which they are tried: whoever writes a manifest means it."""


def _reading(
    layout: str, folder: Path, found: list[Utterance | str], notes: tuple[str, ...] = ()
) -> Reading:
    """Tell recordings from lines on what is wrong."""
    utterances = tuple(entry for entry in found if isinstance(entry, Utterance))
    problems = tuple(entry for entry in found if isinstance(entry, str))
    return Reading(layout, folder, utterances, problems, notes)


def _split_of_subset(subset: Path) -> str:
    return SUBSET_SPLITS[subset.name.partition("-")[0]]


def _read_subset(subset: Path) -> Iterator[Utterance | str]:
    chapters = sorted(path for path in subset.glob("*/*") if path.is_dir())
    if not chapters:
        yield f"{subset}: expected speakers with chapters, found none; {IS_COMPLETE}"
    for chapter in chapters:
        yield from _read_chapter(subset, chapter)


def _read_chapter(subset: Path, chapter: Path) -> Iterator[Utterance | str]:
    speaker, domain = chapter.parent.name, subset.name.split("-")[1]
    transcript = chapter / f"{speaker}-{chapter.name}.trans.txt"
    try:
        texts = dict(line.partition(" ")[::2] for line in _lines(transcript))
    except CorpusError as error:
        yield f"{error}; {IS_COMPLETE}"
        return
    for name, text in texts.items():
        path = chapter / f"{name}.flac"
        try:
            if not text.strip():
                raise CorpusError(f"{transcript}: expected a text for {name}, found none")
            seconds = duration_s(path)
        except (AudioError, CorpusError) as error:
            yield str(error)
            continue
        split = _split_of_subset(subset)
        yield Utterance(path, speaker, text.strip().lower(), seconds, split, domain)
    untold = sorted(path.stem for path in chapter.glob("*.flac") if path.stem not in texts)
    if untold:
        yield (
            f"{transcript}: expected a text for every recording, found none for "
            f"{untold[0]} and {len(untold) - 1} others"
        )


def _absent_speakers(speakers: Path, subsets: list[Path]) -> Iterator[str]:
    """Speakers that SPEAKERS.TXT lists ("14 | F | train-clean-360 | ...") and nobody finds."""
    listed: dict[str, set[str]] = {}
    for line in _lines(speakers) if speakers.is_file() else ():
        cells = [cell.strip() for cell in line.split("|")]
        if not line.startswith(";") and len(cells) > 2:
            listed.setdefault(cells[2], set()).add(cells[0])
    for subset in subsets:
        expected = listed.get(subset.name, set())
        absent = expected - {path.name for path in subset.iterdir()}
        if absent:
            yield f"{subset}: lacks {len(absent)} of the {len(expected)} speakers in {SPEAKERS}"


def _read_fluent_row(folder: Path, where: str, row: Row, split: str) -> Utterance | str:
    cells = {column: (row[column] or "").strip() for column in FLUENT_COLUMNS}
    intent = [cells[column] for column in ("action", "object", "location")]
    domain = DOMAIN_OF_ACTION.get(cells["action"]) or DOMAIN_OF_OBJECT.get(cells["object"])
    try:
        if not cells["transcription"]:
            raise CorpusError("expected a transcription, found none")
        if not domain:
            raise CorpusError(f"expected an intent of the six domains, found {' '.join(intent)!r}")
        path = audio_path(folder, cells["path"])
        seconds = duration_s(path)
    except (AudioError, CorpusError) as error:
        return f"{where}: {error}"
    speaker, text = cells["speakerId"], cells["transcription"]
    return Utterance(path, speaker, text, seconds, split, domain, intent="/".join(intent))


def _read_command(path: Path, split: str) -> Utterance | str:
    speaker, separator, _ = path.stem.partition(SAME_SPEAKER)
    if not separator:
        return f"{path}: expected a name such as 0a7c2a8d{SAME_SPEAKER}0.wav"
    try:
        return Utterance(path, speaker, path.parent.name, duration_s(path), split)
    except AudioError as error:
        return str(error)


def _lines(path: Path) -> list[str]:
    """The lines of a text file that are not empty."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: expected UTF-8 text") from error
    except OSError as error:
        raise CorpusError(f"{path}: expected a readable file: {error.strerror}") from error
    return [line.strip() for line in lines if line.strip()]

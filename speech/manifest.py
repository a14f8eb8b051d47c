"""Our own corpus layout: manifest.csv beside the audio.

The columns are path, speaker, text, seconds, and perhaps sample_rate, split, domain, intent,
timestamp. A broken row is a problem of its own: the others are read all the same, so that one
look shows all that is to be mended.
"""

import csv
import math
from pathlib import Path

from speech.errors import CorpusError
from speech.utterances import Reading, Utterance

MANIFEST = "manifest.csv"
NEEDED_COLUMNS = ("path", "speaker", "text", "seconds")
SPLITS = {
    "train": "train",
    "test": "test",
    "val": "val",
    # Names that public corpora use for the same thing.
    "valid": "val",
    "validation": "val",
    "dev": "val",
}

Row = dict[str, str | None]


def read_manifest(folder: Path) -> Reading:
    """Read a folder's manifest; audio files are looked for, but not opened.

    Raises:
        CorpusError: the manifest cannot be read at all, or a needed column is missing.
    """
    manifest = folder / MANIFEST
    utterances, problems = [], []
    columns, rows = read_csv(manifest, NEEDED_COLUMNS)
    for line, row in rows:
        try:
            utterances.append(_read_row(folder, row, has_splits="split" in columns))
        except CorpusError as error:
            problems.append(f"{manifest}, line {line}: {error}")
    return Reading(MANIFEST, manifest, tuple(utterances), tuple(problems))


def read_csv(
    path: Path, needed_columns: tuple[str, ...]
) -> tuple[tuple[str, ...], list[tuple[int, Row]]]:
    """The columns of a csv file and its rows with their line numbers.

    Raises:
        CorpusError: not readable, not UTF-8, not csv, or a column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            for column in needed_columns:
                if column not in columns:
                    found = ", ".join(columns) or "an empty file"
                    raise CorpusError(f"{path}: expected a column {column!r}, found {found}")
            return columns, [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path}: expected UTF-8 text with comma-separated rows") from error
    except OSError as error:
        raise CorpusError(f"{path}: expected a readable file: {error.strerror}") from error


def audio_path(folder: Path, name: str) -> Path:
    """The file that a row names.

    Raises:
        CorpusError: it is outside the folder, or not there.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise CorpusError(f"expected a path inside the corpus folder, found {name!r}")
    path = folder / name
    if not name or not path.is_file():
        raise CorpusError(f"expected the audio file {name!r}, found none")
    return path


def _read_row(folder: Path, row: Row, has_splits: bool) -> Utterance:
    cells = {column: (cell or "").strip() for column, cell in row.items() if column is not None}
    path = audio_path(folder, row["path"] or "")
    if not cells["text"]:
        raise CorpusError(f"expected a text, found {row['text']!r}")
    split = SPLITS.get(cells.get("split", "").lower(), "")
    if has_splits and not split:
        raise CorpusError(f"expected a split of train, val or test, found {row['split']!r}")
    return Utterance(
        path,
        cells["speaker"],
        cells["text"],
        _seconds(cells["seconds"]),
        split,
        domain=cells.get("domain", ""),
        intent=cells.get("intent", ""),
        timestamp=cells.get("timestamp", ""),
    )


def _seconds(cell: str) -> float:
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CorpusError(f"expected a number of seconds, found {cell!r}")
    return seconds

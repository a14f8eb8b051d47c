"""The --out folder of a run: one run at a time, and a record of what it was a run of.

A run that is resumed may differ from the one before. Then it says in what, and the report of
before is set aside: nothing is lost, and nothing is mixed.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffcodec.durable import replaced_file
from simulator.errors import RunFolderError
from simulator.report.facts import SUMMARY
from simulator.report.page import PAGE
from simulator.report.rows import RESULTS

JOBS, CORPORA, ANSWERS, EARLIER = "jobs", "corpus", "answers", "earlier"
LOCK = ".lock"
RECORD = "run.json"


@contextmanager
def locked(out: Path, resume: bool) -> Iterator[None]:
    """Be the only run in a folder.

    Raises:
        RunFolderError: another run is at work there, or an earlier one was and `resume` is not
            asked for, or it holds something else, or it cannot be made.
    """
    try:
        if out.is_dir() and any(out.iterdir()) and not _is_run(out):
            raise RunFolderError(
                f"{out}: expected a new folder, an empty one or an earlier run's, "
                f"found other things: --out DIR chooses another"
            )
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / LOCK).open("w")
    except OSError as error:
        raise RunFolderError(f"{out}: expected a folder to write to: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunFolderError(f"{out}: another run is at work there") from error
        if not resume and any((out / name).exists() for name in (JOBS, RECORD, RESULTS)):
            raise RunFolderError(
                f"{out}: holds an earlier run; --resume goes on with it, --out DIR starts another"
            )
        yield


def _is_run(out: Path) -> bool:
    return any((out / name).exists() for name in (LOCK, JOBS, RECORD, RESULTS))


def begin_record(out: Path, now: Mapping[str, Any]) -> tuple[str, ...]:
    """Write down what a run is of; where that differs from the run before, set its report aside.

    Args:
        out: The run's folder.
        now: All that the results depend on, as JSON can state it.

    Returns:
        What changed since the run before, a line each; none where nothing did or none was.
    """
    before, now = _read_record(out), json.loads(json.dumps(now))  # a tuple is a list there
    changes = tuple(differences(before, now)) if before is not None else ()
    if changes:
        aside = _set_aside(out)
        if aside is not None:
            changes += (f"the report of before is kept in {aside}",)
    with replaced_file(out / RECORD) as file:
        file.write((json.dumps(now, indent=1, ensure_ascii=False) + "\n").encode())
    return changes


def differences(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """What differs between two records: "steps.default: 300 -> 400", "sizes: without 1/40"."""
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from differences(old, new, f"{path}{key}.")
        elif isinstance(old, list) and isinstance(new, list) and lost_and_gained(old, new):
            yield f"{path}{key}: {lost_and_gained(old, new)}"
        elif old != new:
            yield f"{path}{key}: {_short(old)} -> {_short(new)}"


def lost_and_gained(old: list[Any], new: list[Any]) -> str:
    """What a list lost and gained: "without 1/40, with 20x"; empty where only its order did."""
    lost = [value for value in old if value not in new]
    gained = [value for value in new if value not in old]
    parts = (("without", lost), ("with", gained))
    return ", ".join(f"{word} {', '.join(map(str, part))}" for word, part in parts if part)


def _short(value: Any) -> str:
    text = "none" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:100]}..."


def _read_record(out: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _set_aside(out: Path) -> Path | None:
    """Move an earlier report into a folder of its own; None where there is none."""
    files = [out / name for name in (RESULTS, SUMMARY, PAGE) if (out / name).exists()]
    if not files:
        return None
    number = 1
    while (out / EARLIER / str(number)).exists():
        number += 1
    aside = out / EARLIER / str(number)
    aside.mkdir(parents=True)
    for file in files:
        file.rename(aside / file.name)
    return aside

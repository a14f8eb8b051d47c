"""Phrase lists: what synthetic speakers say.

A list is a csv file with the column text and, if wanted, domain. The built-in one has 248
smart-home phrases over six domains; the first few of each domain differ most in sound.
"""

import csv
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from simulator.errors import SynthesisError

BUILTIN = "builtin"


@dataclass(frozen=True, order=True)
class Phrase:
    """One thing to say, and the domain that it belongs to ("" for none)."""

    text: str
    domain: str = ""


def read_phrases(source: str) -> tuple[Phrase, ...]:
    """Read a phrase list in the order of its rows, repetitions left out.

    Args:
        source: "builtin", or the path of a csv file.

    Raises:
        SynthesisError: no such file, no column text, an empty text, one text in two domains.
    """
    if source == BUILTIN:
        builtin = resources.files("simulator") / "data" / "phrases.csv"
        lines = builtin.read_text(encoding="utf-8").splitlines()
    else:
        try:
            lines = Path(source).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "other bytes"
            raise SynthesisError(
                f"{source}: expected a csv file of phrases in UTF-8, found: {reason}"
            ) from error
    return _parse(source, lines)


def take_per_domain(phrases: Iterable[Phrase], count: int) -> tuple[Phrase, ...]:
    """The first phrases of each domain, at most count of each, in their order."""
    taken: Counter[str] = Counter()
    chosen = []
    for phrase in phrases:
        if taken[phrase.domain] < count:
            taken[phrase.domain] += 1
            chosen.append(phrase)
    return tuple(chosen)


def domains(phrases: Iterable[Phrase]) -> Collection[str]:
    """Every domain once, in the order of first appearance."""
    return tuple(dict.fromkeys(phrase.domain for phrase in phrases))


def _parse(source: str, lines: list[str]) -> tuple[Phrase, ...]:
    reader = csv.DictReader(lines)
    columns = reader.fieldnames or ()
    if "text" not in columns:
        found = ", ".join(columns) or "nothing"
        raise SynthesisError(f"{source}: expected a column 'text', found {found}")
    by_text: dict[str, Phrase] = {}
    for row in reader:
        phrase = Phrase((row["text"] or "").strip(), (row.get("domain") or "").strip())
        if not phrase.text:
            raise SynthesisError(f"{source}, line {reader.line_num}: expected a text, found ''")
        known = by_text.setdefault(phrase.text, phrase)
        if known != phrase:
            raise SynthesisError(
                f"{source}, line {reader.line_num}: expected {phrase.text!r} in the one domain "
                f"{known.domain!r}, found it in {phrase.domain!r} too"
            )
    if not by_text:
        raise SynthesisError(f"{source}: expected at least one phrase, found none")
    return tuple(by_text.values())

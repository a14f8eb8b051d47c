"""What a corpus folder holds, whatever its layout: recordings, and what is wrong with it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it.

    Attributes:
        split: train, val or test; "" where the layout has none.
        domain, intent, timestamp: "" where the layout has none.
    """

    path: Path
    speaker: str
    text: str
    seconds: float
    split: str
    domain: str = ""
    intent: str = ""
    timestamp: str = ""


@dataclass(frozen=True)
class Reading:
    """A folder as it was read.

    Attributes:
        layout: Its name, for people.
        source: What to look into when something is wrong: the manifest, or the folder.
        utterances: What could be read.
        problems: A line for each recording that could not; the folder is to be mended.
        notes: Lines on what looks unusual and may be meant.
    """

    layout: str
    source: Path
    utterances: tuple[Utterance, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

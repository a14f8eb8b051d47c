from dataclasses import dataclass, field
from pathlib import Path

import pytest

from simulator.answers import Answers
from speech.corpus import Corpus, Utterance


@dataclass
class Parrot:
    """A device that answers with names of files, and counts how often it is asked."""

    home: Path = Path("devices/parrot")
    asked: list[int] = field(default_factory=list)

    def recognise(self, recordings):
        self.asked.append(len(recordings))
        return tuple(path.stem for path in recordings)


@pytest.fixture
def test(tmp_path) -> Corpus:
    paths = [tmp_path / f"{name}.wav" for name in ("yes", "no")]
    for path in paths:
        path.write_bytes(b"audio")
    return Corpus(tmp_path, tuple(Utterance(p, "s", p.stem, 1.0, "test") for p in paths), True)


def test_a_model_is_asked_once_about_a_recording(tmp_path, test):
    first, second = Parrot(), Parrot()
    assert Answers(tmp_path / "kept").of(first, ["digest", "graph", "card"], test) == ("yes", "no")
    assert Answers(tmp_path / "kept").of(second, ["digest", "graph", "card"], test) == ("yes", "no")
    assert (first.asked, second.asked) == ([2], [])


@pytest.mark.parametrize("installed", [["other", "graph", "card"], ["digest", "graph", "other"]])
def test_another_model_is_asked_itself(tmp_path, test, installed):
    parrot = Parrot()
    for names in (["digest", "graph", "card"], installed):
        Answers(tmp_path / "kept").of(parrot, names, test)
    assert parrot.asked == [2, 2]


def test_answers_that_a_power_cut_took_are_asked_for_again(tmp_path, test):
    parrot, answers = Parrot(), Answers(tmp_path / "kept")
    answers.of(parrot, ["digest"], test)
    (kept,) = (tmp_path / "kept").iterdir()
    kept.write_text("")
    assert answers.of(parrot, ["digest"], test) == ("yes", "no")
    assert parrot.asked == [2, 2]

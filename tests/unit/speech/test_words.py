"""Word errors, beside jiwer and beside a definition that is too slow to use."""

from functools import cache

import numpy as np
import pytest

from speech.words import WordErrors, word_errors


@pytest.mark.parametrize(
    ("said", "heard", "errors"),
    [
        ("turn the light on", "turn the light on", WordErrors(0, 0, 0, 4)),
        ("turn the light on", "turn light on", WordErrors(0, 1, 0, 4)),
        ("turn the light on", "turn off the light on", WordErrors(0, 0, 1, 4)),
        ("turn the light on", "turn the night on", WordErrors(1, 0, 0, 4)),
        ("turn  on\n", " turn on", WordErrors(0, 0, 0, 2)),
        ("a b", "b a", WordErrors(2, 0, 0, 2)),
        ("a", "A", WordErrors(1, 0, 0, 1)),
        ("a b", "", WordErrors(0, 2, 0, 2)),
        ("", "a b", WordErrors(0, 0, 2, 0)),
        ("", "", WordErrors()),
    ],
)
def test_the_errors_of_an_utterance(said: str, heard: str, errors: WordErrors) -> None:
    assert word_errors(said, heard) == errors


def test_errors_add_up_and_the_rate_is_of_the_sums() -> None:
    total = sum([word_errors("a", "b"), word_errors("a b c", "a b c")], WordErrors())
    assert total == WordErrors(1, 0, 0, 4)
    assert total.rate == 0.25


def test_insertions_can_bring_the_rate_above_one() -> None:
    assert word_errors("a", "b c d").rate == 3.0


def test_without_words_there_is_no_rate() -> None:
    with pytest.raises(ValueError, match="at least one word"):
        word_errors("", "a").rate  # noqa: B018


def pairs_of_texts(count: int, longest: int) -> list[tuple[str, str]]:
    rng = np.random.default_rng(1)

    def text(shortest: int) -> str:
        return " ".join(rng.choice(list("abcd"), size=rng.integers(shortest, longest)))

    return [(text(1), text(0)) for _ in range(count)]


@pytest.mark.parametrize(("said", "heard"), pairs_of_texts(40, 8))
def test_no_way_of_editing_has_fewer_errors(said: str, heard: str) -> None:
    wanted, found = said.split(), heard.split()

    @cache
    def fewest(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        replaced = fewest(i - 1, j - 1) + (wanted[i - 1] != found[j - 1])
        return min(replaced, fewest(i - 1, j) + 1, fewest(i, j - 1) + 1)

    errors = word_errors(said, heard)
    assert errors.errors == fewest(len(wanted), len(found))
    assert errors.insertions - errors.deletions == len(found) - len(wanted)
    assert errors.words == len(wanted)


def test_jiwer_finds_the_same_rate() -> None:
    jiwer = pytest.importorskip("jiwer")
    said, heard = zip(*pairs_of_texts(200, 30), strict=True)
    total = sum(map(word_errors, said, heard), WordErrors())
    theirs = jiwer.process_words(list(said), list(heard))
    assert total.errors == theirs.substitutions + theirs.deletions + theirs.insertions
    assert total.rate == pytest.approx(theirs.wer, abs=1e-12)

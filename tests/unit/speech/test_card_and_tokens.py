"""Cards and tokens."""

import json

import numpy as np
import pytest

from speech.card import Card
from speech.errors import CardError
from speech.tokens import encode_text


def test_a_card_survives_the_journey() -> None:
    card = Card(("off", "on", "zürück"))
    assert Card.from_json(card.to_json()) == card


@pytest.mark.parametrize("phrases", [(), ("",), ("b", "a"), ("a", "a")])
def test_a_card_has_sorted_phrases_each_once(phrases: tuple[str, ...]) -> None:
    with pytest.raises(CardError):
        Card(phrases)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "rnnt"}, "spoken-command"),
        ({"features": "mfcc"}, "logmel64"),
        ({"phrases": 3}, "expected a card"),
        ({"phrases": []}, "at least one phrase"),
    ],
)
def test_a_card_for_another_program_is_refused(change: dict[str, object], expected: str) -> None:
    content = json.loads(Card(("on",)).to_json()) | change
    with pytest.raises(CardError, match=expected):
        Card.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", "{}", "nonsense"])
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(CardError):
        Card.from_json(text)


def test_tokens_are_the_bytes_of_any_language() -> None:
    np.testing.assert_array_equal(encode_text("aé"), [0x61, 0xC3, 0xA9])
    with pytest.raises(ValueError, match="empty"):
        encode_text("")

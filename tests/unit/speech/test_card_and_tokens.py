"""Cards and tokens."""

import json

import numpy as np
import pytest

from speech.card import Card, Piece, TransducerCard, read_card
from speech.errors import CardError
from speech.tokens import BYTES, PIECES, VOCABULARY_SIZES, encode_text

PIECES_OF_WORDS = (Piece("▁", -2.5), Piece("▁the", -1.0), Piece("r", -3.0), Piece("é", -4.0))
TRANSDUCER_CARD = TransducerCard(
    PIECES_OF_WORDS, encoder_layers=6, prediction_layers=2, hidden=1024
)


@pytest.mark.parametrize(
    "card",
    [
        Card(("off", "on", "zürück")),
        Card(("off", "on"), tokens=PIECES),
        TRANSDUCER_CARD,
    ],
)
def test_a_card_survives_the_journey(card: Card | TransducerCard) -> None:
    assert read_card(card.to_json()) == card


def test_a_card_of_bytes_is_written_as_ever() -> None:
    assert Card(("off", "zürück")).to_json() == (
        '{"features":"logmel64-stack3-v1","kind":"spoken-command","phrases":["off","zürück"]}'
    )


def test_a_card_of_a_transducer_is_written_as_agreed() -> None:
    assert TRANSDUCER_CARD.to_json() == (
        '{"features":"logmel64-stack3-v1","kind":"transducer","pieces":'
        '[["▁",-2.5],["▁the",-1.0],["r",-3.0],["é",-4.0]],"layers":[6,2],"hidden":1024}'
    )


@pytest.mark.parametrize("phrases", [(), ("",), (" \t",), ("b", "a"), ("a", "a"), ("\ud800",)])
def test_a_card_has_sorted_phrases_each_once(phrases: tuple[str, ...]) -> None:
    with pytest.raises(CardError):
        Card(phrases)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kind": "rnnt"}, "'spoken-command' or 'transducer'"),
        ({"kind": ["spoken-command"]}, "'spoken-command' or 'transducer'"),
        ({"features": "mfcc"}, "logmel64"),
        ({"phrases": 3}, "expected a card"),
        ({"phrases": "on"}, "expected a card"),
        ({"phrases": ["on", 3]}, "expected a card"),
        ({"phrases": []}, "at least one phrase"),
        ({"phrases": ["\udc00"]}, "Unicode"),
        ({"tokens": "pieces-9"}, "expected tokens of bytes, pieces-4500"),
        ({"tokens": None}, "the name of tokens"),
    ],
)
def test_a_card_of_commands_for_another_program_is_refused(
    change: dict[str, object], expected: str
) -> None:
    content = json.loads(Card(("on",)).to_json()) | change
    with pytest.raises(CardError, match=expected):
        read_card(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"features": "mfcc"}, "logmel64"),
        ({"pieces": None}, "expected a card"),
        ({"pieces": []}, "1 to 65,536 pieces, found 0"),
        ({"pieces": [["a", 0]] * 70_000}, "1 to 65,536 pieces, found 70,000"),
        ({"pieces": ["ab"]}, "expected a card"),
        ({"pieces": ["a1"]}, "pieces of text and number"),
        ({"pieces": [["a"]]}, "expected a card"),
        ({"pieces": [["a", 0, 0]]}, "expected a card"),
        ({"pieces": [["a", "1"]]}, "pieces of text and number"),
        ({"pieces": [["a", True]]}, "pieces of text and number"),
        ({"pieces": [[1, 1]]}, "pieces of text and number"),
        ({"pieces": [["a", 10**400]]}, "expected a card"),
        ({"pieces": [["a", float("nan")]]}, "finite"),
        ({"pieces": [["a", float("inf")]]}, "finite"),
        ({"pieces": [["a", 0], ["a", 1]]}, "without repetition"),
        ({"pieces": [["", 0]]}, "none empty"),
        ({"pieces": [["\ud800", 0]]}, "Unicode"),
        ({"layers": 6}, "expected a card"),
        ({"layers": [6]}, "expected a card"),
        ({"layers": [0, 2]}, "1 to 64 encoder layers, found 0"),
        ({"layers": [6, 65]}, "1 to 64 prediction layers, found 65"),
        ({"layers": [6.0, 2]}, "whole numbers"),
        ({"layers": [True, 2]}, "whole numbers"),
        ({"hidden": 10**12}, "1 to 16,384 hidden units"),
        ({"hidden": -1}, "1 to 16,384 hidden units"),
        ({"hidden": None}, "whole numbers"),
    ],
)
def test_a_hostile_card_of_a_transducer_is_refused(
    change: dict[str, object], expected: str
) -> None:
    content = json.loads(TRANSDUCER_CARD.to_json()) | change
    with pytest.raises(CardError, match=expected):
        read_card(json.dumps(content))


def test_a_card_of_the_other_kind_is_refused_where_phrases_are_needed() -> None:
    with pytest.raises(CardError, match="kind 'spoken-command', found 'transducer'"):
        Card.from_json(TRANSDUCER_CARD.to_json())


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "nonsense", "[" * 100_000])
def test_what_is_no_card_is_refused(text: str) -> None:
    with pytest.raises(CardError):
        read_card(text)


def test_pieces_become_words() -> None:
    assert TRANSDUCER_CARD.vocabulary == 5
    assert TRANSDUCER_CARD.text_of([2, 3, 4, 1, 1, 4, 2]) == "theré é the"
    assert TRANSDUCER_CARD.text_of([3]) == "r"
    assert TRANSDUCER_CARD.text_of([]) == ""


def test_pieces_of_single_bytes_become_characters() -> None:
    pieces = ("▁caf", "<0xC3>", "<0xA9>", "<0x3>", "▁")
    card = TransducerCard(tuple(Piece(text, 0.0) for text in pieces), 1, 1, 8)
    assert card.text_of([1, 2, 3, 4]) == "café<0x3>"
    assert card.text_of([1, 2, 1, 3]) == "caf\ufffd caf\ufffd"


def test_bytes_are_the_tokens_of_any_language() -> None:
    np.testing.assert_array_equal(encode_text("aé"), [0x61, 0xC3, 0xA9])
    np.testing.assert_array_equal(encode_text("aé", BYTES), encode_text("aé"))


def test_pieces_are_words_cut_every_four_characters() -> None:
    ligh, ts, on = (encode_text(text, PIECES) for text in ("ligh", "lights", "on"))
    assert (len(ligh), len(ts), len(on)) == (1, 2, 1)
    np.testing.assert_array_equal(encode_text("lights  on", PIECES), [*ligh, ts[1], *on])
    # Written down, because models are trained on these rows.
    np.testing.assert_array_equal(encode_text("lights on", PIECES), [1950, 1435, 3958])


def test_the_start_of_a_word_is_another_piece_than_its_middle() -> None:
    assert encode_text("abcdabcd", PIECES)[0] != encode_text("abcdabcd", PIECES)[1]


def test_pieces_spread_over_their_rows_as_chance_would() -> None:
    count, rows = 2_000, VOCABULARY_SIZES[PIECES]
    words = {format(k * 2654435761 % 2**16, "04x") for k in range(count)}
    hit = {int(encode_text(word, PIECES)[0]) for word in words}
    assert max(hit) < rows
    expected = rows * (1 - (1 - 1 / rows) ** len(words))
    assert abs(len(hit) - expected) < 60


@pytest.mark.parametrize("tokens", [BYTES, PIECES])
@pytest.mark.parametrize("text", ["", "  "])
def test_without_words_there_are_no_tokens(text: str, tokens: str) -> None:
    with pytest.raises(ValueError, match="expected a phrase"):
        encode_text(text, tokens)


def test_unknown_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="expected tokens of bytes, pieces-4500, found 'words'"):
        encode_text("on", "words")

"""Word pieces: learned from texts, carried by the card, the same on both sides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.training.errors import TrainingRequestError
from server.training.rnnt.pieces import Pieces
from speech.card import TransducerCard, read_card

TEXTS = (
    "turn on the light in the kitchen",
    "turn off the light in the hall",
    "make it warmer in here",
    "I cannot see anything",
    "what's the time",
    "lights out please",
)


@pytest.fixture(scope="module", params=[64, 1500], ids=["letters", "bytes"])
def pieces(request: pytest.FixtureRequest) -> Pieces:
    return Pieces.learn(TEXTS, request.param)


def test_a_text_comes_back(pieces: Pieces) -> None:
    for text in (*TEXTS, "a quick brown fox jumps over zebra's lazy dogs"):
        ids = pieces.encode(text)
        assert all(1 <= k < pieces.vocabulary for k in ids)
        assert pieces.decode(ids) == text


@settings(max_examples=50, deadline=None)
@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz'I "), min_size=1))
def test_any_text_of_known_letters_comes_back_but_for_spaces(text: str) -> None:
    pieces = Pieces.learn(TEXTS, 64)
    assert pieces.decode(pieces.encode(text)) == " ".join(text.split())


def test_the_card_carries_all_that_is_needed(pieces: Pieces) -> None:
    card = TransducerCard(pieces.pieces, encoder_layers=1, prediction_layers=1, hidden=8)
    reread = read_card(card.to_json())
    assert isinstance(reread, TransducerCard)
    again = Pieces(reread.pieces)
    assert again == pieces
    for text in (*TEXTS, "zebra"):
        assert again.encode(text) == pieces.encode(text)


def test_a_device_reads_ids_as_the_tokenizer_does(pieces: Pieces) -> None:
    card = TransducerCard(pieces.pieces, encoder_layers=1, prediction_layers=1, hidden=8)
    for text in TEXTS:
        ids = pieces.encode(text)
        assert card.text_of(ids) == pieces.decode(ids)


def test_the_size_does_not_depend_on_how_much_is_said(pieces: Pieces) -> None:
    assert Pieces.learn(["on", "off"], pieces.vocabulary).vocabulary == pieces.vocabulary


def test_the_same_texts_in_any_order_give_the_same_pieces() -> None:
    assert Pieces.learn(TEXTS, 64) == Pieces.learn([*reversed(TEXTS), TEXTS[0]], 64)


def test_more_pieces_make_shorter_sequences() -> None:
    short, long = (Pieces.learn(TEXTS, vocabulary) for vocabulary in (128, 36))
    assert sum(len(short.encode(t)) for t in TEXTS) < sum(len(long.encode(t)) for t in TEXTS)


def test_a_text_is_cut_into_as_few_pieces_as_can_be() -> None:
    pieces = Pieces.learn(TEXTS, 128)
    assert [pieces.pieces[k - 1].text for k in pieces.encode("turn on the light")] == [
        *("\u2581turn", "\u2581on", "\u2581the", "\u2581light")
    ]


def test_with_bytes_every_text_can_be_written() -> None:
    pieces = Pieces.learn(TEXTS, 1500)
    assert pieces.decode(pieces.encode("crème brûlée 灯")) == "crème brûlée 灯"


def test_without_bytes_a_foreign_letter_is_refused_by_name() -> None:
    with pytest.raises(TrainingRequestError, match="'è' in 'crème'"):
        Pieces.learn(TEXTS, 64).encode("crème")


def test_capitals_are_spelled_where_texts_are_in_capitals() -> None:
    pieces = Pieces.learn(["TURN ON", "LIGHTS OUT"], 48)
    assert pieces.decode(pieces.encode("ZEBRA")) == "ZEBRA"


@pytest.mark.parametrize("texts", [(), ("", "  ")])
def test_no_texts_are_refused(texts: tuple[str, ...]) -> None:
    with pytest.raises(
        TrainingRequestError, match="expected texts to learn word pieces from, found none"
    ):
        Pieces.learn(texts, 64)


def test_too_few_pieces_for_the_letters_are_refused() -> None:
    with pytest.raises(TrainingRequestError, match="expected texts that 7 word pieces can spell"):
        Pieces.learn(TEXTS, 8)

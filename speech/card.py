"""The card of a generation: what kind of model it is, and what turns its answers into words.

The card travels beside the weights, as its own small blob, and only when it changes. There are
two kinds: a spoken-command model knows phrases, a transducer (RNN-T) writes pieces of words.

    >>> read_card(text)
    Card(phrases=('off', 'on'), tokens='bytes')
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from speech.errors import CardError
from speech.features import FEATURES_ID
from speech.tokens import BYTES, VOCABULARY_SIZES, WORD_START

SPOKEN_COMMAND, TRANSDUCER = "spoken-command", "transducer"

# A device allocates memory by these numbers of a card, before the graph can contradict them.
MOST_LAYERS, MOST_HIDDEN, MOST_PIECES = 64, 16_384, 65_536

_BYTE = re.compile("<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class Card:
    """The card of a spoken-command model.

    Attributes:
        phrases: What it tells apart, sorted and without repetition.
        tokens: How the text encoder reads them (speech.tokens).
    """

    phrases: tuple[str, ...]
    tokens: str = BYTES

    def __post_init__(self) -> None:
        """Refuse a card that no device could use."""
        if not self.phrases or not all(phrase.split() for phrase in self.phrases):
            raise CardError("a card needs at least one phrase, and none may be empty")
        if list(self.phrases) != sorted(set(self.phrases)):
            raise CardError("the phrases of a card must be sorted and without repetition")
        _require_unicode("phrase", self.phrases)
        if self.tokens not in VOCABULARY_SIZES:
            raise CardError(
                f"expected tokens of {', '.join(VOCABULARY_SIZES)}, found {self.tokens!r}"
            )

    def to_json(self) -> str:
        """Serialise; the same card always gives the same text."""
        tokens = {} if self.tokens == BYTES else {"tokens": self.tokens}
        return _to_json(SPOKEN_COMMAND, {"phrases": self.phrases, **tokens})

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read the card of a spoken-command model.

        Raises:
            CardError: another card, or one for the features of another program.
        """
        return _command_card(_content(text, SPOKEN_COMMAND))


class Piece(NamedTuple):
    """A piece of a word; WORD_START stands where a word begins, and <0x41> for the byte 0x41."""

    text: str
    score: float
    """Its log-probability in the tokenizer; the server needs it to cut new texts alike."""


@dataclass(frozen=True)
class TransducerCard:
    """The card of a transducer, which writes pieces of words.

    Attributes:
        pieces: Those with the ids 1, 2, ... in this order; id 0 is the blank.
        encoder_layers, prediction_layers, hidden: The LSTM states that a device has to carry.
    """

    pieces: tuple[Piece, ...]
    encoder_layers: int
    prediction_layers: int
    hidden: int

    def __post_init__(self) -> None:
        """Refuse a card that no device could use."""
        _require_between("pieces", len(self.pieces), MOST_PIECES)
        _require_between("encoder layers", self.encoder_layers, MOST_LAYERS)
        _require_between("prediction layers", self.prediction_layers, MOST_LAYERS)
        _require_between("hidden units", self.hidden, MOST_HIDDEN)
        texts = [piece.text for piece in self.pieces]
        if "" in texts or len(set(texts)) < len(texts):
            raise CardError("the pieces of a card must be without repetition, and none empty")
        _require_unicode("piece", texts)
        if not all(math.isfinite(piece.score) for piece in self.pieces):
            raise CardError("expected pieces with finite scores, found NaN or infinity")

    @property
    def vocabulary(self) -> int:
        """V: the pieces and the blank."""
        return len(self.pieces) + 1

    def text_of(self, ids: Iterable[int]) -> str:
        """The words that pieces make up.

        Args:
            ids: In [1, vocabulary); the blank has no text.
        """
        spelled = b"".join(_bytes_of(self.pieces[k - 1].text) for k in ids)
        joined = spelled.decode(errors="replace")  # a search may break a character off
        return " ".join(joined.replace(WORD_START, " ").split())

    def to_json(self) -> str:
        """Serialise; the same card always gives the same text."""
        return _to_json(
            TRANSDUCER,
            {
                "pieces": self.pieces,
                "layers": [self.encoder_layers, self.prediction_layers],
                "hidden": self.hidden,
            },
        )


def read_card(text: str) -> Card | TransducerCard:
    """Read a card of either kind.

    Raises:
        CardError: not a card, of an unknown kind, or for the features of another program.
    """
    content = _content(text, SPOKEN_COMMAND, TRANSDUCER)
    is_transducer = content["kind"] == TRANSDUCER
    return _transducer_card(content) if is_transducer else _command_card(content)


def _content(text: str, *kinds: str) -> dict[str, Any]:
    """What a card of one of these kinds says."""
    try:
        content: dict[str, Any] = json.loads(text)
        kind, features = content["kind"], content["features"]
    # RecursionError: lists in lists in lists.
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CardError("expected a card: JSON with kind and features") from error
    if kind not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise CardError(f"expected a model of kind {wanted}, found {kind!r}")
    if features != FEATURES_ID:
        raise CardError(f"expected features {FEATURES_ID!r}, found {features!r}")
    return content


def _command_card(content: dict[str, Any]) -> Card:
    phrases, tokens = content.get("phrases", ()), content.get("tokens", BYTES)
    if not _is_list_of(phrases, str) or not isinstance(tokens, str):
        raise CardError("expected a card with phrases, a list of texts, and the name of tokens")
    return Card(tuple(phrases), tokens)


def _transducer_card(content: dict[str, Any]) -> TransducerCard:
    try:
        pieces = tuple(Piece(text, score) for text, score in content["pieces"])
        encoder_layers, prediction_layers = content["layers"]
        hidden = content["hidden"]
        scores = [float(piece.score) for piece in pieces]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CardError(
            "expected a card with pieces, [text, score] each, layers, two of them, and hidden"
        ) from error
    # A bool is an int to Python, and a text of digits a number to float.
    sizes = [encoder_layers, prediction_layers, hidden]
    if not (
        _is_list_of([piece.text for piece in pieces], str)
        and _is_list_of([piece.score for piece in pieces], int, float)
        and _is_list_of(sizes, int)
    ):
        raise CardError("expected pieces of text and number, and whole numbers of layers and units")
    named = tuple(Piece(piece.text, score) for piece, score in zip(pieces, scores, strict=True))
    return TransducerCard(named, encoder_layers, prediction_layers, hidden)


def _bytes_of(piece: str) -> bytes:
    byte = _BYTE.fullmatch(piece)
    return bytes.fromhex(byte[1]) if byte else piece.encode()


def _is_list_of(found: object, *types: type) -> bool:
    return isinstance(found, list) and all(type(item) in types for item in found)


def _require_between(what: str, found: int, most: int) -> None:
    if not 1 <= found <= most:
        raise CardError(f"expected 1 to {most:,} {what}, found {found:,}")


def _require_unicode(what: str, texts: Iterable[str]) -> None:
    """JSON can spell half a character, which is no text and has no UTF-8."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CardError(f"expected a {what} in Unicode, found {text!r}") from error


def _to_json(kind: str, content: dict[str, Any]) -> str:
    whole = {"features": FEATURES_ID, "kind": kind, **content}
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

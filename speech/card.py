"""The card of a generation: what kind of model it is and which phrases it knows.

The card travels beside the weights, as its own small blob, and only when it changes.
"""

import json
from dataclasses import dataclass

from speech.errors import CardError
from speech.features import FEATURES_ID

KIND = "spoken-command"


@dataclass(frozen=True)
class Card:
    """The phrases that a spoken-command model tells apart, sorted and without repetition."""

    phrases: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse a card that no device could use."""
        if not self.phrases or "" in self.phrases:
            raise CardError("a card needs at least one phrase, and none may be empty")
        if list(self.phrases) != sorted(set(self.phrases)):
            raise CardError("the phrases of a card must be sorted and without repetition")

    def to_json(self) -> str:
        """Serialise; the same card always gives the same text."""
        content = {"features": FEATURES_ID, "kind": KIND, "phrases": list(self.phrases)}
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Card":
        """Read a card.

        Raises:
            CardError: not a card of a spoken-command model with the features of this program.
        """
        try:
            content = json.loads(text)
            kind, features = content["kind"], content["features"]
            phrases = tuple(str(phrase) for phrase in content["phrases"])
        except (ValueError, KeyError, TypeError) as error:
            raise CardError("expected a card: JSON with kind, features and phrases") from error
        if kind != KIND:
            raise CardError(f"expected a model of kind {KIND!r}, found {kind!r}")
        if features != FEATURES_ID:
            raise CardError(f"expected features {FEATURES_ID!r}, found {features!r}")
        return cls(phrases)

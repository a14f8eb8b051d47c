"""Word pieces: texts as short sequences of ids, and back (SentencePiece).

Byte-pair merges find the pieces, and a text is cut into as few of them as can be: of a few thousand
short texts SentencePiece's unigram model makes "▁" and "the" two pieces, and half as many again.

The pieces are learned from the texts of generation 0 and stay as they are from then on, as a
generation that cut words another way could not build on its base. They travel on the card, as
texts with scores; the tokenizer is built again from these alone.

    >>> pieces = Pieces.learn(["turn on the light", "lights out"], vocabulary=64)
    >>> pieces.decode(pieces.encode("light the house"))     # a new word is spelled
    'light the house'

Ids are 1..V - 1; 0 is blank, which has no text (it is the tokenizer's unknown piece, which never
comes out of `encode`). Texts are taken as they are, capitals and all, but for spaces.
"""

import io
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # type: ignore[attr-defined]

from server.training.errors import TrainingRequestError
from speech.card import Piece

BYTES_FROM = 1024
"""From this vocabulary on the 256 bytes are pieces, too, and every text in Unicode has ids."""
DECIMALS = 4
"""Of the scores on the card."""
RANKS = 10**DECIMALS
"""A piece costs 1, and this much less the earlier it was found: fewer pieces always win."""

_BYTE, _UNUSED = re.compile(r"<0x[0-9A-F]{2}>"), re.compile(r"<unused_\d+>")


@dataclass(frozen=True)
class Pieces:
    """The pieces with ids 1, 2, ..., V - 1; decode(encode(text)) == text, but for spaces."""

    pieces: tuple[Piece, ...]

    @classmethod
    def learn(cls, texts: Iterable[str], vocabulary: int) -> "Pieces":
        """Learn pieces from texts; the same texts always give the same pieces.

        Args:
            texts: What is said; repetitions and order do not matter.
            vocabulary: V, blank included. Where texts are too few for as many pieces, ids are
                filled up by pieces that are never used: the size of a model must not depend on
                what is said.

        Raises:
            TrainingRequestError: there are no texts, or they have more letters than pieces.
        """
        distinct = sorted({_trimmed(text) for text in texts} - {""})
        if not distinct:
            raise TrainingRequestError("expected texts to learn word pieces from, found none")
        written = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(distinct),
                model_writer=written,
                vocab_size=vocabulary,
                hard_vocab_limit=False,
                model_type="bpe",
                normalization_rule_name="identity",
                byte_fallback=vocabulary >= BYTES_FROM,
                required_chars=_alphabet(distinct),
                character_coverage=1.0,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=1,
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise TrainingRequestError(
                f"expected texts that {vocabulary - 1} word pieces can spell, found {reason}"
            ) from error
        model = ModelProto.FromString(written.getvalue())
        found = enumerate(p.piece for p in model.pieces[1:])
        learned = [Piece(text, round(-1.0 - rank / RANKS, DECIMALS)) for rank, text in found]
        missing = vocabulary - 1 - len(learned)
        return cls((*learned, *(Piece(f"<unused_{k}>", 0.0) for k in range(missing))))

    @property
    def vocabulary(self) -> int:
        """V: the pieces and blank."""
        return len(self.pieces) + 1

    def encode(self, text: str) -> list[int]:
        """Cut a text into pieces: ids in 1..V - 1.

        Raises:
            TrainingRequestError: it has a letter that is not among the pieces.
        """
        ids: list[int] = self._processor.encode(_trimmed(text))
        if 0 in ids:
            known = set("".join(piece.text for piece in self.pieces))
            foreign = sorted(set(_trimmed(text)) - known - {" "})
            raise TrainingRequestError(
                f"expected a text that the word pieces of the model can spell, found "
                f"{' '.join(map(repr, foreign))} in {text!r}"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids in 1..V - 1."""
        return str(self._processor.decode([int(k) for k in ids])).strip()

    @cached_property
    def _processor(self) -> Any:
        """The tokenizer, from texts and scores alone."""
        kinds = ModelProto.SentencePiece
        model = ModelProto()
        model.pieces.add(piece="<unk>", score=0.0, type=kinds.UNKNOWN)
        has_bytes = False
        for text, score in self.pieces:
            kind = kinds.NORMAL
            if _BYTE.fullmatch(text):
                kind, has_bytes = kinds.BYTE, True
            elif _UNUSED.fullmatch(text):
                kind = kinds.UNUSED
            model.pieces.add(piece=text, score=score, type=kind)
        spec = model.trainer_spec
        spec.model_type, spec.byte_fallback = spec.UNIGRAM, has_bytes
        spec.vocab_size = self.vocabulary
        spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 0, -1, -1, -1
        model.normalizer_spec.name = "identity"
        return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


def _trimmed(text: str) -> str:
    return " ".join(text.split())


def _alphabet(texts: Iterable[str]) -> str:
    """Letters that are pieces whether the texts have them or not, so that they spell new words."""
    letters = set("".join(texts))
    alphabets = string.ascii_lowercase, string.ascii_uppercase
    # One stray capital does not make a text of capitals.
    return max(alphabets, key=lambda alphabet: len(letters & set(alphabet))) + "'"

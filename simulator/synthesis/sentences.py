"""Sentences for speech recognition: a small grammar of everyday English.

A recogniser that heard every sentence in training would learn sentences, not words. So each
synthetic speaker says sentences of his own, drawn from a grammar of some 420 words that makes
70,000 sentences. What the speakers for testing say is then mostly new: of 24 speakers with 100
sentences each, one in twenty test sentences was said in training; of 97, one in five.

    >>> grammar = read_grammar()
    >>> draw_sentences(grammar, 2, np.random.default_rng(0))
    (Phrase(text='we are flying to rome in june', domain='travel'), ...)

Not for spoken commands, where a model has to know every phrase beforehand: see `phrases`.
"""

import math
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import numpy as np

from simulator.errors import SynthesisError
from simulator.synthesis.phrases import Phrase

SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Grammar:
    """Templates by topic, and what their {slots} stand for; a filling may hold slots again.

    Drills are topics of few words, which are spoken of only where they are asked for.

    Laws: `count(t)` is the number of `fill(t, k)` for k in 0..count(t) - 1, and every one of
    them is without slots.
    """

    topics: Mapping[str, tuple[str, ...]]
    slots: Mapping[str, tuple[str, ...]]
    drills: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def about(self, topics: Collection[str]) -> "Grammar":
        """The grammar of some topics or drills alone; as it is where none is named.

        Raises:
            SynthesisError: it has no such topic.
        """
        if not topics:
            return self
        known = {**self.topics, **self.drills}
        unknown = sorted(set(topics) - set(known))
        if unknown:
            raise SynthesisError(f"expected topics of {', '.join(known)}, found {unknown[0]}")
        return Grammar({name: t for name, t in known.items() if name in topics}, self.slots)

    def templates(self) -> tuple[Phrase, ...]:
        """Every template with its topic as domain, in the order of the file."""
        return tuple(
            Phrase(template, topic)
            for topic, templates in self.topics.items()
            for template in templates
        )

    def count(self, template: str) -> int:
        """In how many ways a template can be filled."""
        return math.prod(self._count_slot(name) for name in SLOT.findall(template))

    def fill(self, template: str, index: int) -> str:
        """The filling with this index: the slots are the digits of a mixed-radix number.

        Args:
            template: A text with slots.
            index: 0..count(template) - 1.
        """

        def replace(match: re.Match[str]) -> str:
            nonlocal index
            index, choice = divmod(index, self._count_slot(match[1]))
            return self._fill_slot(match[1], choice)

        return SLOT.sub(replace, template)

    def size(self) -> int:
        """Of how many sentences all topics together are made, counting a repetition twice."""
        return sum(self.count(template.text) for template in self.templates())

    def _count_slot(self, name: str) -> int:
        return sum(self.count(filling) for filling in self.slots[name])

    def _fill_slot(self, name: str, choice: int) -> str:
        for filling in self.slots[name]:
            if choice < self.count(filling):
                return self.fill(filling, choice)
            choice -= self.count(filling)
        raise AssertionError(f"slot {name} has fewer fillings")


@cache
def read_grammar() -> Grammar:
    """The built-in grammar."""
    content = (resources.files("simulator") / "data" / "sentences.toml").read_text("utf-8")
    table = tomllib.loads(content)
    topics, slots, drills = (
        {name: tuple(texts) for name, texts in table[part].items()}
        for part in ("topics", "slots", "drills")
    )
    return Grammar(topics, slots, drills)


def most_sentences(grammar: Grammar) -> int:
    """How many sentences one speaker may be asked for: few enough that he seldom draws twice."""
    return grammar.size() // 100


def draw_sentences(
    grammar: Grammar,
    count: int,
    random: np.random.Generator,
    known: Collection[str] = frozenset(),
) -> tuple[Phrase, ...]:
    """Draw distinct sentences: first a template, then one of its fillings.

    A template is as likely as the root of the number of its fillings: by the number itself a few
    templates would be all that is said, and if all were equal the short ones would come again
    and again.

    Args:
        grammar: What can be said.
        count: 0..most_sentences(grammar).
        random: The speaker's own stream.
        known: Texts that are said anyway, and are not drawn.

    Returns:
        Sentences in the order drawn, their topics as domains.

    Raises:
        SynthesisError: count is out of range.
    """
    if not 0 <= count <= most_sentences(grammar):
        raise SynthesisError(
            f"expected 0 to {most_sentences(grammar)} sentences a speaker, found {count}"
        )
    templates = grammar.templates()
    weights = np.sqrt([grammar.count(template.text) for template in templates])
    drawn: dict[str, Phrase] = {}
    while len(drawn) < count:
        template = templates[random.choice(len(templates), p=weights / weights.sum())]
        text = grammar.fill(template.text, int(random.integers(grammar.count(template.text))))
        if text not in known:
            drawn.setdefault(text, Phrase(text, template.domain))
    return tuple(drawn.values())

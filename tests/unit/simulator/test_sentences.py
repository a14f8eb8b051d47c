"""Sentences for speech recognition: what the grammar says, and who says it."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.errors import SynthesisError
from simulator.synthesis.corpus import CorpusPlan, assign_splits, write_corpus
from simulator.synthesis.sentences import SLOT, Grammar, draw_sentences, read_grammar
from speech.corpus import Corpus
from tests.unit.simulator.test_synthesis import needs_engine

TOY = Grammar(
    topics={"food": ("{who} likes {food}", "no {food}")},
    slots={"who": ("ann", "my {kin}"), "kin": ("aunt", "son"), "food": ("rice", "tea")},
)


def test_a_template_has_one_sentence_for_each_way_to_fill_it() -> None:
    template = "{who} likes {food}"
    assert TOY.count(template) == 6
    assert {TOY.fill(template, index) for index in range(6)} == {
        *("ann likes rice", "ann likes tea", "my aunt likes rice", "my aunt likes tea"),
        *("my son likes rice", "my son likes tea"),
    }
    assert TOY.size() == 8


@given(st.data())
def test_every_sentence_is_words_and_nothing_else(data: st.DataObject) -> None:
    grammar = read_grammar()
    template = data.draw(st.sampled_from(grammar.templates()))
    index = data.draw(st.integers(0, grammar.count(template.text) - 1))
    sentence = grammar.fill(template.text, index)
    assert re.fullmatch(r"[a-z']+( [a-z']+)+", sentence)
    words = sentence.split()
    assert 3 <= len(words) <= 16
    # "my number begins with two two six" says a digit twice; nothing else may stutter.
    digits = set(grammar.slots["digit"])
    assert not any(a == b for a, b in pairwise(words) if a not in digits)


def test_the_grammar_has_a_few_hundred_words_and_tens_of_thousands_of_sentences() -> None:
    grammar = read_grammar()
    texts = [t for texts in (*grammar.topics.values(), *grammar.slots.values()) for t in texts]
    words = {word for text in texts for word in SLOT.sub(" ", text).split()}
    assert 200 <= len(words) <= 450
    assert grammar.size() > 50_000


def test_every_slot_is_there_and_used() -> None:
    grammar = read_grammar()
    parts = grammar.topics, grammar.drills, grammar.slots
    texts = [t for part in parts for texts in part.values() for t in texts]
    assert set(SLOT.findall(" ".join(texts))) == set(grammar.slots)
    assert len(set(grammar.templates())) == len(grammar.templates())


def test_drawn_sentences_are_distinct_and_the_same_for_a_stream() -> None:
    grammar = read_grammar()
    drawn = draw_sentences(grammar, 200, np.random.default_rng(3))
    assert len({sentence.text for sentence in drawn}) == 200
    assert drawn == draw_sentences(grammar, 200, np.random.default_rng(3))
    assert drawn != draw_sentences(grammar, 200, np.random.default_rng(4))
    assert {sentence.domain for sentence in drawn} == set(grammar.topics)


def test_more_sentences_than_can_be_told_apart_are_refused() -> None:
    with pytest.raises(SynthesisError, match=r"expected 0 to \d+ sentences a speaker, found 10000"):
        draw_sentences(read_grammar(), 10_000, np.random.default_rng(0))


def test_each_speaker_says_sentences_of_his_own_whoever_else_speaks() -> None:
    few, many = (CorpusPlan((), speakers, 7, sentences_per_speaker=30) for speakers in (4, 9))
    assert [few.texts(n) for n in range(4)] == [many.texts(n) for n in range(4)]
    assert few.texts(0) != few.texts(1)
    assert few.texts(0) == tuple(sorted(few.texts(0)))
    assert few.recordings == 120
    assert few.key() != CorpusPlan((), 4, 7, sentences_per_speaker=31).key()


def test_sentences_of_test_speakers_are_mostly_new() -> None:
    plan = CorpusPlan((), 24, 0, sentences_per_speaker=100)
    said: dict[str, Counter[str]] = {"train": Counter(), "val": Counter(), "test": Counter()}
    for speaker, split in enumerate(assign_splits(24, 0)):
        said[split].update(phrase.text for phrase in plan.texts(speaker))
    known = sum(count for text, count in said["test"].items() if text in said["train"])
    assert known / said["test"].total() < 0.1
    # Yet hardly a word of theirs is new: what is measured is recognition, not spelling.
    heard = {word for text in said["train"] for word in text.split()}
    spoken = [word for text in said["test"] for word in text.split()]
    assert sum(word not in heard for word in spoken) / len(spoken) < 0.01


def test_phrases_and_sentences_go_together_and_nothing_is_said_twice() -> None:
    own = CorpusPlan((), 2, 0, sentences_per_speaker=3).texts(0)
    plan = CorpusPlan(own[:1], 2, 0, sentences_per_speaker=3)
    for speaker in (0, 1):
        texts = plan.texts(speaker)
        assert own[0] in texts
        assert len({phrase.text for phrase in texts}) == len(texts) == 4
    assert plan.recordings == 8


def test_sentences_can_be_about_some_topics_alone() -> None:
    orders = CorpusPlan((), 4, 0, sentences_per_speaker=20, topics=("orders",))
    assert len({word for n in range(4) for p in orders.texts(n) for word in p.text.split()}) < 40
    plan = CorpusPlan((), 4, 0, sentences_per_speaker=20, topics=("home", "music"))
    assert {phrase.domain for n in range(4) for phrase in plan.texts(n)} == {"home", "music"}
    assert plan.key() != CorpusPlan((), 4, 0, sentences_per_speaker=20).key()
    assert read_grammar().about(()) == read_grammar()
    with pytest.raises(SynthesisError, match=r"expected topics of time, .*, found gardening"):
        CorpusPlan((), 4, 0, sentences_per_speaker=20, topics=("home", "gardening"))


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_a_corpus_of_nothing_or_of_too_much_is_refused(count: int) -> None:
    with pytest.raises(SynthesisError, match="expected"):
        CorpusPlan((), 4, 0, sentences_per_speaker=count)


@needs_engine
def test_a_corpus_of_sentences_is_the_same_whatever_the_workers(tmp_path) -> None:
    plan = CorpusPlan((), 3, 1, sentences_per_speaker=4)
    digests = {write_corpus(tmp_path / str(n), plan, workers=n) for n in (1, 2)}
    assert len(digests) == 1
    one, two = (Corpus.read(tmp_path / str(n)) for n in (1, 2))
    assert one.digest() == two.digest()
    assert len(one.utterances) == 12
    assert len(one.phrases()) > 8

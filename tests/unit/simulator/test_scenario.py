from fractions import Fraction
from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.scenario import EvolveBy, Scenario, Variant
from simulator.scenario_file import builtin_names, find_scenario, parse_scenario
from speech.corpus import Corpus, Utterance

GOOD = """
name = "small"
description = "a test"
evolve_by = "text"
generations = [["a", "b"], ["c"]]
seeds = [0, 1]
budget = "1/40"
model = "tiny"
batch_size = 32
variants = ["bl", "sparse"]
[steps]
dense = 10
compressed = 10
sparse = 10
hash = 10
[corpus]
kind = "given"
"""


def parse(text: str) -> Scenario:
    return parse_scenario(text.encode(), "x.toml")


def corpus_of(*rows: tuple[str, str, str]) -> Corpus:
    utterances = (
        Utterance(Path(f"/c/{i}.wav"), "s", text, 1.0, split, domain)
        for i, (text, split, domain) in enumerate(rows)
    )
    return Corpus(Path("/c"), tuple(utterances), is_real=True)


def test_a_scenario_file_is_read_whole():
    scenario = parse(GOOD)
    assert scenario.generations == (("a", "b"), ("c",))
    assert scenario.labels(0) == ("a", "b")
    assert scenario.labels(1) == ("a", "b", "c")
    assert scenario.budget_ratio == Fraction(1, 40)
    assert scenario.variants == (Variant.BL, Variant.SPARSE)
    assert scenario.speech is None


@pytest.mark.parametrize("name", builtin_names())
def test_every_builtin_scenario_reads_under_its_own_name(name):
    assert find_scenario(name).name == name


def test_the_builtin_scenarios_are_the_three_of_the_main_job():
    assert builtin_names() == ("commands", "digits", "quickstart")
    assert find_scenario("quickstart").speech is not None


@pytest.mark.parametrize(
    ("found", "replacement", "message"),
    [
        ('name = "small"', "", "x.toml: name: missing key"),
        ('name = "small"', 'name = "small"\nnmae = 1', "x.toml: nmae: unknown key"),
        ('name = "small"', "name = 3", "name: expected a text, found 3"),
        ('"text"', '"speaker"', "evolve_by: expected text or domain, found 'speaker'"),
        ('[["a", "b"], ["c"]]', '["a", "b"]', "generations: expected a list of texts, found 'a'"),
        ('[["a", "b"], ["c"]]', '[["a"], ["a"]]', "expected every label once, found 'a' twice"),
        ('[["a", "b"], ["c"]]', "[]", "at least one label in each generation"),
        ("[0, 1]", "[-1]", "seeds: expected a whole number of 0 or more, found -1"),
        ("[0, 1]", "[true]", "seeds: expected a whole number of 0 or more, found True"),
        ("[0, 1]", "[]", "seeds: expected at least one seed"),
        ('"1/40"', '"40"', "budget: expected a ratio such as '1/40', found '40'"),
        ('"1/40"', '"1/0"', "budget: expected a ratio such as '1/40', found '1/0'"),
        ('"1/40"', "0.1", "budget: expected a text, found 0.1"),
        (
            '["bl", "sparse"]',
            '["best"]',
            "variants: expected bl or blc or bl_inf or sparse or hash",
        ),
        ("dense = 10", "dense = 0", "steps.dense: expected a whole number of 1 or more, found 0"),
        ("dense = 10", "", "steps.dense: missing key"),
        ("dense = 10", "dense = 10\nwide = 1", "steps.wide: unknown key"),
        ('kind = "given"', 'kind = "made"', "corpus.kind: expected synthetic or given"),
        ('kind = "given"', 'kind = "given"\nseed = 1', "corpus.seed: unknown key"),
        ('kind = "given"', 'kind = "synthetic"\nseed = 1', "corpus.speakers: missing key"),
        ("[steps]", "[steps", "expected TOML"),
    ],
)
def test_a_broken_scenario_names_the_key_and_what_was_expected(found, replacement, message):
    assert found in GOOD
    with pytest.raises(ScenarioError) as refusal:
        parse(GOOD.replace(found, replacement))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ScenarioError, match=r"commands, digits, quickstart.*found 'dgits'"):
        find_scenario("dgits")


def test_a_missing_file_is_named():
    with pytest.raises(ScenarioError, match=r"nowhere.toml: no such scenario file"):
        find_scenario("nowhere.toml")


class TestEvolution:
    def test_options_replace_it(self):
        scenario = parse(GOOD).evolving("domain", "x, y; z")
        assert scenario.evolve_by is EvolveBy.DOMAIN
        assert scenario.generations == (("x", "y"), ("z",))

    @pytest.mark.parametrize(("by", "lists"), [("word", None), (None, "a;;b"), (None, "a;a")])
    def test_options_are_checked_as_the_file_is(self, by, lists):
        with pytest.raises(ScenarioError):
            parse(GOOD).evolving(by, lists)

    def test_a_generation_holds_its_own_labels_and_all_earlier_ones(self):
        corpus = corpus_of(*[(t, s, "") for t in "abcd" for s in ("train", "test")])
        assert parse(GOOD).restrict(corpus, 0).phrases() == ("a", "b")
        assert parse(GOOD).restrict(corpus, 1).phrases() == ("a", "b", "c")

    def test_by_domain(self):
        corpus = corpus_of(*[(t, s, t.upper()) for t in "abcd" for s in ("train", "test")])
        scenario = parse(GOOD).evolving("domain", "A;C,D")
        assert scenario.restrict(corpus, 1).phrases() == ("a", "c", "d")

    def test_a_corpus_without_a_label_is_refused_by_name_and_with_a_way_out(self):
        corpus = corpus_of(*[(t, s, "") for t in "012" for s in ("train", "test")])
        with pytest.raises(ScenarioError, match=r"expected the text 'a', 'b', found '0'.*--gener"):
            parse(GOOD).restrict(corpus, 0)

    def test_a_label_that_is_only_in_training_is_refused(self):
        corpus = corpus_of(("a", "train", ""), ("b", "train", ""), ("a", "test", ""))
        with pytest.raises(ScenarioError, match="expected test recordings of text 'b', found none"):
            parse(GOOD).restrict(corpus, 0)

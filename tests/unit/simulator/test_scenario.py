from fractions import Fraction
from pathlib import Path

import pytest

from simulator.errors import ScenarioError
from simulator.evolution import EvolveBy, Labels, Shares
from simulator.lines import Line, Size, Variant
from simulator.overrides import with_overrides
from simulator.scenario import Scenario, SyntheticSpeech
from simulator.scenario_file import builtin_names, find_scenario, parse_scenario
from simulator.scores import TaskName
from speech.corpus import Corpus, Utterance

GOOD = """
name = "small"
description = "a test"
task = "slu"
evolve_by = "text"
generations = [["a", "b"], ["c"]]
seeds = [0, 1]
model = "tiny"
batch_size = 32
variants = ["bl", "sparse"]
sizes = ["1/40", "20x"]
[steps]
default = 10
dense = 20
[targets]
"1/40" = 2.5
"sparse 20x" = 1
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
    assert scenario.task is TaskName.SLU
    assert scenario.evolution == Labels(EvolveBy.TEXT, (("a", "b"), ("c",)))
    assert scenario.variants == (Variant.BL, Variant.SPARSE)
    assert scenario.sizes == (Size.parse("1/40"), Size.parse("20x"))
    assert (scenario.steps.of("dense"), scenario.steps.of("sparse")) == (20, 10)
    assert scenario.speech is None


def test_every_sized_variant_has_a_line_at_every_size_that_it_can_have():
    lines = [
        str(line) for line in parse(GOOD.replace('"sparse"]', '"sparse", "paper_sparse"]')).lines
    ]
    assert lines == ["bl", "paper_sparse 20x", "paper_sparse 1/40", "sparse 1/40"]


def test_a_target_by_size_is_for_diffs_of_ours_and_one_by_line_for_that_line():
    targets = parse(GOOD.replace('"sparse"]', '"sparse", "lora"]'))
    assert targets.target(Line.named("sparse", "1/40")) == 2.5
    assert targets.target(Line.named("sparse", "20x")) == 1
    assert targets.target(Line.named("lora", "1/40")) is None
    assert targets.target(Line.named("bl", None)) is None


def test_recognisers_of_sentences_have_no_lines_in_int8():
    text = GOOD.replace('"sparse"]', '"int8"]').replace('"sparse 20x" = 1', "")
    assert [str(line) for line in parse(text).lines] == ["bl", "int8 1/40"]
    with pytest.raises(ScenarioError, match="int8 for task slu alone"):
        parse(text.replace('"slu"', '"rnnt"'))


def test_a_corpus_of_sentences():
    text = GOOD.replace(
        'kind = "given"', 'kind = "synthetic"\nspeakers = 4\nseed = 1\nsentences_per_speaker = 3'
    )
    assert parse(text).speech == SyntheticSpeech(4, 1, None, 3)
    about = text.replace(
        "sentences_per_speaker = 3", 'sentences_per_speaker = 3\ntopics = ["home"]'
    )
    assert parse(about).speech == SyntheticSpeech(4, 1, None, 3, ("home",))


@pytest.mark.parametrize("name", builtin_names())
def test_every_builtin_scenario_reads_under_its_own_name(name):
    assert find_scenario(name).name == name


def test_the_papers_table_has_every_line_of_the_papers_table():
    for name in ("table1", "table1-small"):
        methods = [f"{v}_{m}" for m in ("sparse", "hash") for v in ("blc", "paper")]
        wanted = {f"{method} {size}" for method in methods for size in ("20x", "40x")}
        assert {str(line) for line in find_scenario(name).lines} == wanted | {"bl", "bl_inf"}
    assert find_scenario("table1").model == "paper"


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("digits", {"1/100": 0.3, "1/300": 1.0, "1/600": 2.5}),
        ("commands", {"1/100": 0.5, "1/300": 2.5, "1/600": 5.0}),
    ],
)
def test_real_speech_has_three_seeds_three_updates_and_targets(name, targets):
    scenario = find_scenario(name)
    assert (len(scenario.seeds), scenario.generations) == (3, 4)
    for size, points in targets.items():
        assert scenario.target(Line.named("auto", size)) == points


@pytest.mark.parametrize(
    ("found", "replacement", "message"),
    [
        ('name = "small"', "", "x.toml: name: missing key"),
        ('name = "small"', 'name = "small"\nnmae = 1', "x.toml: nmae: unknown key"),
        ('name = "small"', "name = 3", "name: expected a text, found 3"),
        ('"text"', '"speaker"', "evolve_by: expected text or domain or share, found 'speaker'"),
        ('[["a", "b"], ["c"]]', '["a", "b"]', "generations: expected a list of texts, found 'a'"),
        ('[["a", "b"], ["c"]]', '[["a"], ["a"]]', "expected every label once, found 'a' twice"),
        ('[["a", "b"], ["c"]]', "[]", "at least one label in each generation"),
        ('"slu"', '"asr"', "task: expected slu or rnnt, found 'asr'"),
        ("[0, 1]", "[-1]", "seeds: expected a whole number of 0 or more, found -1"),
        ("[0, 1]", "[true]", "seeds: expected a whole number of 0 or more, found True"),
        ("[0, 1]", "[]", "seeds: expected at least one, each once"),
        ('["1/40",', '["40",', "sizes: expected sizes such as '1/100' or '40x', found '40'"),
        ('["1/40",', '["1/0",', "sizes: expected sizes such as '1/100' or '40x', found '1/0'"),
        ('["1/40",', '["0.5x",', "sizes: expected sizes such as '1/100' or '40x', found '0.5x'"),
        ('["1/40",', "[0.1,", "sizes: expected sizes such as '1/100' or '40x', found 0.1"),
        ('["1/40",', '["20x",', "sizes: expected each size once"),
        (
            '["1/40", "20x"]',
            "[]",
            "sizes: expected a size in bytes such as '1/100' for sparse, found none",
        ),
        ('"sparse 20x" = 1', '"sparce 20x" = 1', "variants: expected bl or ft or"),
        ('"sparse 20x" = 1', '"sparse 20x" = "1"', "targets.sparse 20x: expected a number"),
        (
            '["bl", "sparse"]',
            '["best"]',
            "variants: expected bl or ft or bl_inf or blc_sparse or blc_hash or paper_sparse",
        ),
        ("dense = 20", "dense = 0", "steps.dense: expected a whole number of 1 or more, found 0"),
        ("default = 10", "", "steps.default: missing key"),
        ("dense = 20", "wide = 20", "steps: expected default or dense or finetune or"),
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
    with pytest.raises(ScenarioError, match=r"commands, digits, .*quickstart.*found 'dgits'"):
        find_scenario("dgits")


def test_a_missing_file_is_named():
    with pytest.raises(ScenarioError, match=r"nowhere.toml: no such scenario file"):
        find_scenario("nowhere.toml")


class TestEvolution:
    def test_a_generation_holds_its_own_labels_and_all_earlier_ones(self):
        corpus = corpus_of(*[(t, s, "") for t in "abcd" for s in ("train", "test")])
        assert parse(GOOD).restrict(corpus, 0).phrases() == ("a", "b")
        assert parse(GOOD).restrict(corpus, 1).phrases() == ("a", "b", "c")

    def test_by_domain(self):
        corpus = corpus_of(*[(t, s, t.upper()) for t in "abcd" for s in ("train", "test")])
        scenario = with_overrides(parse(GOOD), by="domain", generations="A;C,D")
        assert scenario.restrict(corpus, 1).phrases() == ("a", "c", "d")

    def test_a_corpus_without_a_label_is_refused_by_name_and_with_a_way_out(self):
        corpus = corpus_of(*[(t, s, "") for t in "012" for s in ("train", "test")])
        with pytest.raises(ScenarioError, match=r"expected the text 'a', 'b', found '0'.*--gener"):
            parse(GOOD).restrict(corpus, 0)

    def test_a_single_phrase_is_refused_and_the_generation_named(self):
        corpus = corpus_of(("a", "train", "x"), ("a", "test", "x"))
        scenario = with_overrides(parse(GOOD), generations="a")
        with pytest.raises(ScenarioError, match=r"generation 0: .*two phrases .*found \['a'\]"):
            scenario.restrict(corpus, 0)

    def test_a_label_that_is_only_in_training_is_refused(self):
        corpus = corpus_of(("a", "train", ""), ("b", "train", ""), ("a", "test", ""))
        with pytest.raises(ScenarioError, match="expected test recordings of text 'b', found none"):
            parse(GOOD).restrict(corpus, 0)


class TestShares:
    SHARES = GOOD.replace('evolve_by = "text"', 'evolve_by = "share"').replace(
        '[["a", "b"], ["c"]]', "[0.5, 0.1, 0.4]"
    )

    def test_the_training_recordings_grow_and_the_test_stays(self):
        rows = [(t, s, "") for t in "ab" for s in ["train"] * 50 + ["test"] * 5]
        corpus, scenario = corpus_of(*rows), parse(self.SHARES)
        parts = [scenario.restrict(corpus, generation) for generation in range(3)]
        trained = [{u.path for u in part.split("train").utterances} for part in parts]
        assert trained[0] < trained[1] < trained[2]
        assert [len(paths) for paths in trained] == [50, 60, 100]
        assert {part.split("test").utterances for part in parts} == {
            corpus.split("test").utterances
        }

    def test_they_are_told_as_shares(self):
        evolution = parse(self.SHARES).evolution
        assert [evolution.known(generation) for generation in range(3)] == ["50 %", "60 %", "100 %"]
        assert evolution.added(1) == ("+10 %",)

    @pytest.mark.parametrize("shares", ["[0.5, 0.6]", "[0]", "[0.5, -0.1]", "[]"])
    def test_shares_that_are_none_are_refused(self, shares):
        with pytest.raises(ScenarioError, match="expected shares above 0 that are at most 1"):
            parse(self.SHARES.replace("[0.5, 0.1, 0.4]", shares))


class TestOverrides:
    def test_the_evolution(self):
        scenario = with_overrides(parse(GOOD), by="domain", generations="x, y; z")
        assert scenario.evolution == Labels(EvolveBy.DOMAIN, (("x", "y"), ("z",)))
        scenario = with_overrides(parse(GOOD), by="share", generations="0.5;0.1")
        assert scenario.evolution == Shares((Fraction(1, 2), Fraction(1, 10)))

    def test_seeds_variants_and_sizes(self):
        scenario = with_overrides(parse(GOOD), seeds=[7], variants="hash, bl", sizes="1/600,40x")
        assert scenario.seeds == (7,)
        assert [str(line) for line in scenario.lines] == ["bl", "hash 40x", "hash 1/600"]

    @pytest.mark.parametrize(
        ("steps", "dense", "sparse"),
        [("50", 50, 50), ("50,dense=80", 80, 50), ("dense=80", 80, 10), ("sparse=30", 20, 30)],
    )
    def test_steps(self, steps, dense, sparse):
        changed = with_overrides(parse(GOOD), steps=steps).steps
        assert (changed.of("dense"), changed.of("sparse")) == (dense, sparse)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"by": "word"}, "--by: expected text, domain or share, found 'word'"),
            ({"by": "share"}, "--generations: expected shares such as"),
            ({"generations": "a;;b"}, "at least one label in each generation"),
            ({"generations": "a;a"}, "expected every label once"),
            ({"variants": "bl,best"}, "--variants: expected some of bl, .*found 'best'"),
            ({"sizes": "40"}, "expected sizes such as"),
            ({"steps": "fast"}, "--steps: expected whole numbers .*found 'fast'"),
            ({"steps": "0"}, "--steps: expected whole numbers"),
            ({"steps": "wide=3"}, "steps: expected default or dense or"),
        ],
    )
    def test_they_are_checked_as_the_file_is(self, options, message):
        with pytest.raises(ScenarioError, match=message):
            with_overrides(parse(GOOD), **options)


@pytest.mark.parametrize("text", ["1/100", "40x", "1/7", "2.5x"])
def test_a_size_reads_as_it_is_written(text):
    assert str(Size.parse(text)) == text


def test_a_size_in_bytes_limits_bytes_and_a_nominal_one_values():
    assert Size.parse("1/100").budget_bytes(4_000) == 40
    assert Size.parse("1/100").nominal_ratio is None
    assert Size.parse("40x").budget_bytes(4_000) is None
    assert Size.parse("40x").nominal_ratio == 40.0

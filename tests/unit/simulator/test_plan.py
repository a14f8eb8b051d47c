from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from simulator.corpora import synthetic_plan
from simulator.dry_run import intended_corpus
from simulator.errors import ScenarioError
from simulator.lines import Variant
from simulator.overrides import with_overrides
from simulator.plan import RunPlan, jobs_of, make_plan, size_of
from simulator.scenario import Scenario
from simulator.scenario_file import find_scenario
from simulator.scores import TaskName

FROM_SCRATCH = (Variant.BL, Variant.BLC_SPARSE, Variant.BLC_HASH)


@pytest.fixture
def scenario() -> Scenario:
    every = replace(find_scenario("quickstart"), model="tiny", variants=tuple(Variant))
    return with_overrides(every, sizes="1/40,20x")


def plan_of(scenario: Scenario) -> RunPlan:
    corpus = intended_corpus(Path("corpus"), synthetic_plan(scenario))
    return make_plan(scenario, corpus, is_made=False)


def keys_of(plan: RunPlan) -> set[str]:
    return {job.key for job in jobs_of(plan.lines)}


def test_every_variant_of_a_seed_begins_with_the_same_generation_0(scenario):
    plan = plan_of(replace(scenario, seeds=(0, 1)))
    lines = [line for line in plan.lines if not line.line.variant.traits.is_quantised]
    first = {line.jobs[0].key for line in lines if line.seed == 0}
    assert len(first) == 1
    assert {line.jobs[0].arguments.recipe for line in lines} == {"dense"}


def test_lines_in_int8_begin_with_bl_s_generation_0_quantised_once(scenario):
    plan = plan_of(with_overrides(scenario, variants="bl,int8", sizes="1/40,1/100"))
    bl, *in_int8 = plan.lines
    assert [str(line.line) for line in in_int8] == ["int8 1/40", "int8 1/100"]
    assert len({line.jobs[0].key for line in in_int8}) == 1
    first = in_int8[0].jobs[0]
    assert (first.arguments.recipe, first.after) == ("quantise", (bl.jobs[0].key,))
    models = {job.arguments.model for line in in_int8 for job in line.jobs}
    assert (bl.jobs[0].arguments.model, models) == ("tiny", {"tiny-int8"})
    # Sizes are relative to the float32 bytes of the model, as everywhere.
    assert in_int8[0].jobs[1].arguments.budget_bytes == plan.size.float32_bytes // 40


def test_diffs_build_on_their_own_line_and_baselines_on_nothing(scenario):
    for line in plan_of(scenario).lines:
        for before, job in zip(line.jobs, line.jobs[1:], strict=False):
            parent, teachers = job.arguments.parent, job.arguments.teachers
            assert parent == (None if line.line.variant in FROM_SCRATCH else before.key)
            assert job.after == (*([parent] if parent else []), *teachers)


def test_a_taught_diff_learns_from_bl_and_ft_of_its_generation(scenario):
    lines = plan_of(scenario).lines
    of = {str(line.line): line for line in lines if line.seed == lines[0].seed}
    for number in range(1, scenario.generations):
        expected = tuple(of[name].jobs[number].key for name in ("bl", "ft"))
        assert of["sparse_taught 1/40"].jobs[number].arguments.teachers == expected
        assert of["sparse 1/40"].jobs[number].arguments.teachers == ()


def test_the_device_that_is_never_updated_needs_no_training_of_its_own(scenario):
    lines = plan_of(scenario).lines
    static = next(line for line in lines if line.line.variant is Variant.BL_INF)
    assert len(static.jobs) == 1
    assert static.static is not None
    assert static.static.after == (static.jobs[0].key,)


def test_unlimited_jobs_do_not_depend_on_sizes_and_the_others_do(scenario):
    small, large = (plan_of(with_overrides(scenario, sizes=size)) for size in ("1/100", "1/20"))
    unlimited = keys_of(plan_of(with_overrides(scenario, variants="bl,ft,bl_inf")))
    quantised = {job.key for job in jobs_of(small.lines) if job.name.startswith("int8, ")}
    assert keys_of(small) & keys_of(large) == unlimited | quantised
    assert len(quantised) == 1


def test_a_line_asks_for_bytes_or_for_values(scenario):
    plan = plan_of(scenario)
    asked = {
        str(line.line): (
            line.jobs[-1].arguments.budget_bytes,
            line.jobs[-1].arguments.nominal_ratio,
        )
        for line in plan.lines
    }
    assert asked["sparse 1/40"] == (plan.size.float32_bytes // 40, None)
    assert asked["hash 20x"] == (None, 20.0)
    assert asked["ft"] == (None, None)


def test_scenarios_share_the_jobs_that_both_have(scenario):
    table = with_overrides(scenario, variants="bl,bl_inf,paper_sparse", sizes="20x,40x")
    shared = keys_of(plan_of(scenario)) & keys_of(plan_of(replace(table, name="other")))
    assert shared == keys_of(plan_of(with_overrides(table, sizes="20x")))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, seeds=(7,)),
        lambda s: replace(s, model="small"),
        lambda s: with_overrides(s, steps="dense=7"),
        lambda s: with_overrides(s, generations="Heat;Bring;Music"),
    ],
)
def test_whatever_a_result_depends_on_changes_its_key(scenario, change):
    only_bl = replace(scenario, variants=(Variant.BL,))
    assert keys_of(plan_of(only_bl)).isdisjoint(keys_of(plan_of(change(only_bl))))


def test_a_name_does_not_change_a_key(scenario):
    assert keys_of(plan_of(scenario)) == keys_of(plan_of(replace(scenario, name="other")))


def test_an_unknown_model_lists_the_known_ones(scenario):
    with pytest.raises(
        ScenarioError, match=r"model: expected .*tiny, small, paper, .*found 'huge'"
    ):
        plan_of(replace(scenario, model="huge"))
    with pytest.raises(ScenarioError, match=r"one in float32 .*, found 'tiny-int8'"):
        plan_of(replace(scenario, model="tiny-int8"))


def test_another_recording_is_another_job(scenario, tmp_path):
    def keys(loudness: int) -> set[str]:
        lines = ["path,speaker,text,seconds,split"]
        for name in (f"{text}-{split}" for text in "abc" for split in ("train", "test")):
            text, split = name.split("-")
            samples = np.zeros(100 * loudness, np.int16)
            soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
            lines.append(f"{name}.wav,s,{text},0.1,{split}")
        (tmp_path / "manifest.csv").write_text("\n".join(lines))
        from speech.corpus import Corpus

        evolved = with_overrides(scenario, by="text", generations="a,b;c")
        return keys_of(make_plan(evolved, Corpus.read(tmp_path)))

    assert keys(1) == keys(1)
    assert keys(1).isdisjoint(keys(2))


def test_a_scenario_of_sentences_makes_a_corpus_of_sentences():
    plan = synthetic_plan(find_scenario("asr"))
    assert plan.phrases == ()
    assert plan.sentences_per_speaker > 0


def test_recognisers_have_sizes_of_their_own():
    assert size_of(TaskName.RNNT, "paper").parameters > 60_000_000
    assert size_of(TaskName.SLU, "paper").parameters < 1_200_000

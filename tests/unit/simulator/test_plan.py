from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from simulator.dry_run import intended_corpus
from simulator.errors import ScenarioError
from simulator.plan import RunPlan, jobs_of, make_plan
from simulator.run import synthetic_plan
from simulator.scenario import Scenario, Variant
from simulator.scenario_file import find_scenario


@pytest.fixture
def scenario() -> Scenario:
    return replace(find_scenario("quickstart"), model="tiny")


def plan_of(scenario: Scenario) -> RunPlan:
    corpus = intended_corpus(Path("corpus"), synthetic_plan(scenario))
    return make_plan(scenario, corpus, is_made=False)


def keys_of(plan: RunPlan) -> set[str]:
    return {job.key for job in jobs_of(plan.lines)}


def test_every_variant_of_a_seed_begins_with_the_same_generation_0(scenario):
    plan = plan_of(replace(scenario, seeds=(0, 1)))
    first = {line.jobs[0].key for line in plan.lines if line.seed == 0}
    assert len(first) == 1
    assert {line.jobs[0].arguments.recipe for line in plan.lines} == {"dense"}


def test_diffs_build_on_their_own_line_and_baselines_on_nothing(scenario):
    for line in plan_of(scenario).lines:
        for before, job in zip(line.jobs, line.jobs[1:], strict=False):
            is_diff = line.variant in (Variant.SPARSE, Variant.HASH)
            assert job.after == ((before.key,) if is_diff else ())


def test_the_device_that_is_never_updated_needs_no_training_of_its_own(scenario):
    lines = plan_of(scenario).lines
    static = next(line for line in lines if line.variant is Variant.BL_INF)
    assert len(static.jobs) == 1
    assert static.static is not None
    assert static.static.after == (static.jobs[0].key,)


def test_dense_jobs_do_not_depend_on_the_budget_and_the_others_do(scenario):
    def keys(ratio: str) -> dict[str, str]:
        changed = replace(scenario, budget_ratio=type(scenario.budget_ratio)(ratio))
        return {job.name: job.key for job in jobs_of(plan_of(changed).lines)}

    small, large = keys("1/100"), keys("1/20")
    same = {name for name in small if small[name] == large[name]}
    assert same == {name for name in small if name.startswith(("dense", "generation 0"))}


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, seeds=(7,)),
        lambda s: replace(s, model="small"),
        lambda s: replace(s, steps=replace(s.steps, dense=7)),
        lambda s: replace(s, generations=(("Heat",), ("Bring",), ("Music",))),
    ],
)
def test_whatever_a_result_depends_on_changes_its_key(scenario, change):
    only_bl = replace(scenario, variants=(Variant.BL,))
    assert keys_of(plan_of(only_bl)).isdisjoint(keys_of(plan_of(change(only_bl))))


def test_a_name_does_not_change_a_key(scenario):
    assert keys_of(plan_of(scenario)) == keys_of(plan_of(replace(scenario, name="other")))


def test_the_budget_is_a_share_of_the_float32_bytes(scenario):
    plan = plan_of(scenario)
    assert plan.size.float32_bytes == 4 * plan.size.parameters
    assert plan.budget_bytes == plan.size.float32_bytes // 40


def test_an_unknown_model_lists_the_known_ones(scenario):
    with pytest.raises(ScenarioError, match="expected tiny or small or paper, found 'huge'"):
        plan_of(replace(scenario, model="huge"))


def test_another_recording_is_another_job(scenario, tmp_path):
    def keys(loudness: int) -> set[str]:
        lines = ["path,speaker,text,seconds,split"]
        for name in ("a-train", "a-test", "b-train", "b-test"):
            text, split = name.split("-")
            samples = np.zeros(100 * loudness, np.int16)
            soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
            lines.append(f"{name}.wav,s,{text},0.1,{split}")
        (tmp_path / "manifest.csv").write_text("\n".join(lines))
        from speech.corpus import Corpus

        evolved = scenario.evolving("text", "a;b")
        return keys_of(make_plan(evolved, Corpus.read(tmp_path)))

    assert keys(1) == keys(1)
    assert keys(1).isdisjoint(keys(2))

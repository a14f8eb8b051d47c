"""What is needed and what is deleted, as values."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diffcodec import Coder
from server.artifacts.store import StoredFile, name_of
from server.collecting.needs import CODERS, Stock, goals_of, kept_generations, needs_of
from server.collecting.verdict import UNFINISHED_AGE, verdict_on
from server.domain import Step
from server.planner import cheapest_route
from server.rollouts.rollout import LARGEST_POINT, Channel, OnFailure, Policy
from server.rollouts.states import State
from server.signing.records import ManifestRecord
from tests.unit.server.rollouts.values import at, rollout
from tests.unit.server.values import TIME, blob, generation, step

WEEK = timedelta(days=7)


def line(length: int, *extra: Step, **changes: object) -> Stock:
    """Generations in a row: a snapshot of each, a diff to each, a manifest that names both."""
    steps = [step(None, number, 1000) for number in range(length)]
    steps += [step(number - 1, number, 10) for number in range(1, length)]
    manifests = {
        number: ManifestRecord(
            "digits",
            number,
            blob(f"manifest {number}"),
            frozenset(s.diff.sha256 for s in steps if s.target == number),
        )
        for number in range(length)
    }
    values: dict[str, object] = {
        "model": "digits",
        "generations": tuple(
            generation(number, snapshot=steps[number].diff, graph=blob(f"graph {number // 5}"))
            for number in range(length)
        ),
        "steps": (*steps, *extra),
        "manifests": manifests,
    }
    return Stock(**{**values, **changes})  # type: ignore[arg-type]


def ends(steps: frozenset[Step]) -> set[tuple[int | None, int]]:
    return {(step.base, step.target) for step in steps}


def finished(target: int, **changes: object):
    made = rollout(target=target, state=State.FINISHED, **changes)
    return at(made, cutoff=LARGEST_POINT)


def test_the_newest_generations_stay_with_the_diffs_between_them() -> None:
    needs = needs_of(line(10), newest=3)
    assert set(needs.generations) == {7, 8, 9}
    assert ends(needs.steps) == {(None, 7), (None, 8), (None, 9), (7, 8), (8, 9)}


def test_a_device_far_behind_keeps_its_generation_and_its_way() -> None:
    stock = line(10, installed=frozenset({2}))
    needs = needs_of(stock, newest=1)
    assert set(needs.generations) == {2, 9}
    assert ends(needs.steps) == {(None, 2), (None, 9), *((n, n + 1) for n in range(2, 9))}
    assert {blob(f"manifest {n}").sha256 for n in range(2, 10)} <= needs.blobs
    assert stock.generations[5].snapshot.sha256 not in needs.blobs
    assert blob("graph 0").sha256 in needs.blobs


def test_one_step_over_all_of_them_takes_the_place_of_the_chain() -> None:
    stock = line(20, step(2, 19, 40), installed=frozenset({2}))
    needs = needs_of(stock, newest=1)
    assert ends(needs.steps) == {(None, 2), (None, 19), (2, 19)}
    assert blob("manifest 5").sha256 not in needs.blobs


def test_every_manifest_that_signed_metadata_lists_can_be_read() -> None:
    stock = line(20, revoked=frozenset({17}))
    kept = {n for n in range(20) if blob(f"manifest {n}").sha256 in needs_of(stock, 1).blobs}
    assert kept == {11, 12, 13, 14, 15, 16, 18, 19}


def test_what_was_rolled_up_goes_with_the_last_device_that_runs_its_base() -> None:
    rolled_up = step(2, 9, 40)
    assert rolled_up not in needs_of(line(10, rolled_up), newest=3).steps
    assert rolled_up in needs_of(line(10, rolled_up, installed=frozenset({2})), newest=3).steps


def test_the_newest_stays_though_it_was_revoked_and_so_does_what_is_offered_instead() -> None:
    stock = line(6, revoked=frozenset({4, 5}))
    assert set(kept_generations(stock, newest=1)) == {3, 5}
    assert {(None, 3)} <= ends(needs_of(stock, newest=1).steps)


@pytest.mark.parametrize("state", [state for state in State if not state.is_final])
def test_a_rollout_that_has_not_ended_keeps_target_base_and_start(state: State) -> None:
    made = rollout(target=4, base=1, only_from=2, state=state)
    kept = kept_generations(line(10, rollouts=(made,)), newest=1)
    assert set(kept) == {1, 2, 4, 9}


def test_a_failed_rollout_keeps_its_way_back() -> None:
    policy = replace(Policy(), on_failure=OnFailure.ROLLBACK)
    failed = rollout(target=8, base=3, policy=policy, state=State.PAUSED_THRESHOLD)
    stock = line(10, rollouts=(failed,))
    assert {3, 8} <= set(needs_of(stock, newest=1).generations)
    assert stock.generations[3].snapshot.sha256 in needs_of(stock, newest=1).blobs


def test_a_finished_rollout_is_a_goal_until_a_newer_one_gives_its_channel_something_else() -> None:
    older, newer = finished(3, base=None), finished(5, base=None)
    offered = range(8)
    assert goals_of([older], offered) == {3, 7}
    assert goals_of([older, newer], offered) == {5, 7}
    assert goals_of([older, replace(newer, channel=Channel.BETA)], offered) == {3, 5, 7}
    assert goals_of([older, replace(newer, groups=(("room", "hall"),))], offered) == {3, 5, 7}
    assert goals_of([older, replace(newer, only_from=2)], offered) == {3, 5, 7}
    assert goals_of([older, at(newer, cutoff=9)], offered) == {3, 5, 7}
    assert goals_of([older, newer], [0, 1, 2, 3, 4]) == {3, 4}  # 5 was revoked


def test_what_all_had_before_rollouts_stays_while_a_channel_has_nothing_newer() -> None:
    stable = finished(5, base=2)
    beta = replace(finished(5, base=2), channel=Channel.BETA)
    assert goals_of([stable], range(8)) == {2, 5, 7}
    assert goals_of([stable, beta], range(8)) == {5, 7}


def test_an_open_attempt_keeps_every_diff_that_its_plan_may_name() -> None:
    shortcut = step(1, 4, 5)
    stock = line(10, shortcut, attempts=frozenset({(1, 4)}))
    needs = needs_of(stock, newest=1)
    assert {(1, 4), (1, 2), (2, 3), (3, 4), (None, 4)} <= ends(needs.steps)
    assert {blob(f"manifest {n}").sha256 for n in (1, 2, 3, 4)} <= needs.blobs
    assert (None, 2) not in ends(needs.steps)


def test_an_attempt_from_nothing_keeps_a_snapshot_and_the_way_on_and_no_more() -> None:
    needs = needs_of(line(10, attempts=frozenset({(None, 4)})), newest=1)
    assert ends(needs.steps) == {(None, 4), (None, 9), *((n, n + 1) for n in range(4, 9))}


STEPS = st.lists(
    st.tuples(
        st.none() | st.integers(0, 8),
        st.integers(0, 9),
        st.integers(1, 60),
        st.sampled_from([*CODERS, frozenset({Coder.MAX})]),
    ).filter(lambda one: one[0] is None or one[0] < one[1]),
    max_size=25,
)


@settings(max_examples=200, deadline=None)
@given(STEPS, st.frozensets(st.integers(0, 9), max_size=4), st.integers(1, 4))
def test_no_way_of_a_device_gets_longer(made, installed, newest) -> None:
    extra = [step(base, to, length, coders=coders) for base, to, length, coders in made]
    stock = line(10, *extra, installed=installed)
    left = needs_of(stock, newest).steps
    for goal in goals_of((), stock.offered):
        for start in {None, *installed}:
            for coders in CODERS:
                before = cheapest_route(stock.steps, start, goal, coders)
                after = cheapest_route(left, start, goal, coders)
                assert length_of(after) == length_of(before)


def length_of(route: tuple[Step, ...]) -> int:
    return sum(step.diff.length for step in route)


# ---- what is deleted


def stored(*hashes: bytes, age: timedelta = 2 * WEEK) -> list[StoredFile]:
    return [StoredFile(name_of(sha256), 7, TIME - age) for sha256 in hashes]


def all_of(stock: Stock) -> set[bytes]:
    named = {s.diff.sha256 for s in stock.steps}
    named |= {m.blob.sha256 for m in stock.manifests.values()}
    for one in stock.generations:
        named |= {b.sha256 for b in (one.snapshot, one.graph, one.card) if b is not None}
    return named


def test_what_nobody_needs_is_deleted_with_what_it_was_and_why() -> None:
    stock = line(10)
    verdict = verdict_on([stock], all_of(stock), stored(*all_of(stock)), 8, TIME, WEEK)
    assert [(one.what, one.reason) for one in sorted(verdict.files, key=lambda one: one.what)] == [
        ("digits: diff 0 to 1", "on no device's way"),
        ("digits: diff 1 to 2", "on no device's way"),
        ("digits: manifest of 0", "no device, rollout or way needs it"),
        ("digits: manifest of 1", "no device, rollout or way needs it"),
        ("digits: snapshot of 0", "on no device's way"),
        ("digits: snapshot of 1", "on no device's way"),
    ]
    assert verdict.blobs == {one.file.sha256 for one in verdict.files}
    assert {(s.base, s.target) for _, s in verdict.steps} == {(None, 0), (None, 1), (0, 1), (1, 2)}
    assert (verdict.freed_bytes, verdict.kept_files) == (42, len(all_of(stock)) - 6)


def test_what_is_young_stays_with_its_step() -> None:
    stock = line(3)
    files = stored(*all_of(stock), age=timedelta(days=6))
    verdict = verdict_on([stock], all_of(stock), files, 1, TIME, WEEK)
    assert (verdict.files, verdict.steps, verdict.blobs) == ((), (), frozenset())


def test_a_blob_that_two_models_share_stays_while_one_needs_it() -> None:
    first = line(2)
    other = replace(line(1), model="words")
    named = all_of(first) | all_of(other)
    verdict = verdict_on([first, other], named, stored(*named), 1, TIME, WEEK)
    assert first.generations[0].snapshot.sha256 in {s.diff.sha256 for s in other.steps}
    assert first.generations[0].snapshot.sha256 not in verdict.blobs


def test_orphans_are_deleted_and_what_is_being_written_is_not() -> None:
    orphan = blob("orphan").sha256
    unfinished = [
        StoredFile("ab/.incoming-old", 5, TIME - UNFINISHED_AGE),
        StoredFile("ab/.incoming-new", 5, TIME - UNFINISHED_AGE / 2),
    ]
    files = [*stored(orphan), *unfinished]
    verdict = verdict_on([], [], files, 1, TIME, timedelta(0))
    assert {one.file.name: one.reason for one in verdict.files} == {
        name_of(orphan): "no generation names it",
        "ab/.incoming-old": "a crash left it",
    }

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffcodec import Coder
from server.domain import EVERY_DEVICE, Step
from server.errors import NoRouteError
from server.planner import cheapest_route, needed, plan_for
from tests.unit.server.values import blob, generation, step


def bytes_of(route: tuple[Step, ...]) -> int:
    return sum(s.diff.length for s in route)


def test_a_device_at_the_goal_needs_no_step() -> None:
    assert cheapest_route([step(None, 1, 10)], start=1, goal=1) == ()


def test_an_empty_device_takes_a_snapshot() -> None:
    snapshot = step(None, 0, 1000)
    assert cheapest_route([snapshot], start=None, goal=0) == (snapshot,)


def test_a_chain_is_taken_where_it_is_smaller_than_the_direct_diff() -> None:
    first, second, direct = step(0, 1, 40), step(1, 2, 40), step(0, 2, 81)
    assert cheapest_route([direct, first, second], start=0, goal=2) == (first, second)


def test_a_direct_diff_is_taken_where_it_is_smaller_than_the_chain() -> None:
    first, second, direct = step(0, 1, 40), step(1, 2, 40), step(0, 2, 79)
    assert cheapest_route([first, second, direct], start=0, goal=2) == (direct,)


def test_a_small_snapshot_beats_a_larger_diff_for_a_device_that_has_a_base() -> None:
    diff, snapshot = step(0, 1, 500), step(None, 1, 400)
    assert cheapest_route([diff, snapshot], start=0, goal=1) == (snapshot,)


def test_a_snapshot_of_an_older_generation_with_a_diff_after_it_is_a_route() -> None:
    snapshot, diff, large = step(None, 1, 100), step(1, 2, 10), step(None, 2, 1000)
    assert cheapest_route([large, diff, snapshot], start=0, goal=2) == (snapshot, diff)


def test_a_diff_from_a_generation_that_the_device_does_not_run_is_of_no_use() -> None:
    snapshot = step(None, 2, 1000)
    assert cheapest_route([step(0, 2, 1), snapshot], start=1, goal=2) == (snapshot,)


def test_of_equal_bytes_fewer_steps_win() -> None:
    first, second, direct = step(0, 1, 40), step(1, 2, 40), step(0, 2, 80)
    assert cheapest_route([first, second, direct], start=0, goal=2) == (direct,)


BOTH = frozenset(Coder)


def test_a_device_takes_the_smallest_file_of_those_that_it_decodes() -> None:
    by_fast, by_max = step(0, 1, 40), step(0, 1, 38, coders=frozenset({Coder.MAX}))
    assert cheapest_route([by_max, by_fast], start=0, goal=1) == (by_fast,)
    assert cheapest_route([by_fast, by_max], start=0, goal=1, coders=BOTH) == (by_max,)


def test_a_device_of_every_coder_takes_a_file_by_fast_where_that_is_smaller() -> None:
    by_fast, by_max = step(0, 1, 40), step(0, 1, 41, coders=BOTH)
    assert cheapest_route([by_max, by_fast], start=0, goal=1, coders=BOTH) == (by_fast,)


def test_a_chain_may_mix_coders() -> None:
    first, second = step(0, 1, 40), step(1, 2, 38, coders=BOTH)
    assert cheapest_route([first, second], start=0, goal=2, coders=BOTH) == (first, second)


def test_files_that_no_coder_of_the_device_decodes_are_no_route() -> None:
    with pytest.raises(NoRouteError):
        cheapest_route([step(0, 1, 38, coders=BOTH)], start=0, goal=1)


def test_a_diff_that_changes_nothing_needs_no_coder() -> None:
    empty = step(0, 1, 9, coders=frozenset())
    assert cheapest_route([empty], start=0, goal=1, coders=EVERY_DEVICE) == (empty,)


def test_a_plan_is_made_of_what_the_device_decodes() -> None:
    by_fast, by_max = step(0, 1, 40), step(0, 1, 38, coders=BOTH)
    for coders, expected in ((EVERY_DEVICE, by_fast), (BOTH, by_max)):
        plan = plan_for("a", generation(0), generation(1), [by_fast, by_max], frozenset(), coders)
        assert plan is not None
        assert plan.steps == (expected,)


def test_ties_do_not_depend_on_the_order_of_the_steps() -> None:
    steps = [step(0, 2, 80, name) for name in "abc"] + [step(None, 2, 80)]
    routes = {cheapest_route(order, start=0, goal=2) for order in permutations(steps)}
    assert len(routes) == 1


def test_an_unreachable_goal_is_an_error_that_names_it() -> None:
    with pytest.raises(NoRouteError, match="from generation 0 to generation 2, found none"):
        cheapest_route([step(0, 1, 1)], start=0, goal=2)
    with pytest.raises(NoRouteError, match="an empty device"):
        cheapest_route([step(0, 1, 1)], start=None, goal=1)


def every_route(steps: list[Step], node: int | None, goal: int, seen: frozenset[int | None]):
    if node == goal:
        yield ()
        return
    for s in steps:
        if s.base in (node, None) and s.target not in seen:
            for rest in every_route(steps, s.target, goal, seen | {s.target}):
                yield (s, *rest)


edges = st.tuples(
    st.none() | st.integers(0, 4), st.integers(0, 4), st.integers(1, 30), st.sampled_from("ab")
).filter(lambda e: e[0] != e[1])


@given(st.lists(edges, max_size=9), st.none() | st.integers(0, 4), st.integers(0, 4))
def test_no_route_has_fewer_bytes_than_the_one_found(drawn, start, goal) -> None:
    steps = [step(*edge) for edge in drawn]
    routes = list(every_route(steps, start, goal, frozenset({start})))
    if not routes:
        with pytest.raises(NoRouteError):
            cheapest_route(steps, start, goal)
        return
    found = cheapest_route(steps, start, goal)
    assert found in routes
    assert (bytes_of(found), len(found)) == min((bytes_of(r), len(r)) for r in routes)


def test_an_up_to_date_device_gets_no_plan() -> None:
    head = generation(1)
    assert plan_for("a", head, head, [step(0, 1, 1)], frozenset()) is None


def test_a_plan_names_graph_and_card_for_an_empty_device() -> None:
    head = generation(0)
    plan = plan_for("a", None, head, [step(None, 0, 9)], frozenset())
    assert plan is not None
    assert (plan.attempt_id, plan.target, plan.graph, plan.card) == (
        "a",
        head,
        head.graph,
        head.card,
    )


def test_a_plan_leaves_out_the_graph_that_the_device_runs_and_names_the_card_that_changed() -> None:
    old, head = generation(0), generation(1, card=blob("new card"))
    held = frozenset({old.graph.sha256, old.card.sha256})
    plan = plan_for("a", old, head, [step(0, 1, 9)], held)
    assert plan is not None
    assert plan.graph is None
    assert plan.card == blob("new card")


def test_a_graph_is_named_where_the_device_does_not_say_that_it_has_it() -> None:
    assert needed(blob("g"), installed=blob("g"), held=frozenset()) == blob("g")


def test_a_graph_that_only_the_other_slot_has_is_named() -> None:
    held = frozenset({blob("old").sha256, blob("new").sha256})
    assert needed(blob("old"), installed=blob("new"), held=held) == blob("old")


def test_a_model_without_a_graph_names_none() -> None:
    assert needed(None, installed=None, held=frozenset()) is None

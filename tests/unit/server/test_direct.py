from dataclasses import replace

import pytest

from diffcodec import Coder, LayoutError, ParameterSet, apply, decode, encode, read_header
from server.direct import chain_between, direct_diff
from tests.unit.server.models import exact, sparse, uneven, weights
from tests.unit.server.values import step

OLD = weights(1)


def after(base: ParameterSet, file: bytes) -> ParameterSet:
    return apply(base, decode(file, base.layout))


def test_a_chain_is_made_of_diffs_that_every_device_decodes() -> None:
    first, second = step(0, 1, 40), step(1, 2, 40)
    others = [step(None, 2, 1), step(1, 2, 30, coders=frozenset(Coder))]
    assert chain_between([*others, second, first], 0, 2) == (first, second)


def test_where_a_snapshot_stands_between_there_is_no_chain() -> None:
    assert chain_between([step(0, 1, 40), step(None, 2, 40)], 0, 2) == ()


def test_small_changes_in_a_row_become_one_file_that_is_smaller_than_all() -> None:
    first = uneven(OLD, 1)
    middle = after(OLD, first)
    second = uneven(middle, 2)
    new = after(middle, second)
    file = direct_diff(OLD, new, [first, second])
    assert file is not None
    assert len(file) < len(first) + len(second) < len(exact(OLD, new))
    assert after(OLD, file) == new


def test_a_long_way_that_ends_near_its_start_becomes_a_lossless_diff() -> None:
    far = weights(2)
    new = after(OLD, sparse(OLD, 3))
    file = direct_diff(OLD, new, [exact(OLD, far), exact(far, new)])
    assert file == exact(OLD, new)


def test_one_diff_is_as_small_as_itself() -> None:
    diff = uneven(OLD)
    assert direct_diff(OLD, after(OLD, diff), [diff]) is None


def test_without_a_chain_the_diff_is_lossless() -> None:
    assert direct_diff(OLD, weights(2), []) == exact(OLD, weights(2))


def test_the_chains_graph_is_left_to_the_plan() -> None:
    decoded = decode(uneven(OLD, 1), OLD.layout)
    first = encode(replace(decoded.diff, graph=b"graph"), OLD)
    middle = after(OLD, first)
    second = uneven(middle, 2)
    file = direct_diff(OLD, after(middle, second), [first, second])
    assert file is not None
    assert read_header(file).graph is None


def test_a_tensor_that_shrinks_is_refused() -> None:
    with pytest.raises(LayoutError, match="may grow but not shrink"):
        direct_diff(OLD, weights(1, columns=299), [])

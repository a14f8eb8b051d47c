from dataclasses import replace

import numpy as np
import pytest

from diffcodec import (
    Coder,
    Diff,
    Layout,
    ParameterSet,
    decode,
    encode,
    lossless_diff,
    read_header,
)
from server import recoding
from server.domain import EVERY_DEVICE
from server.recoding import recoded
from tests.unit.server.models import snapshot, sparse, uneven, weights

BASE = weights(1)
BOTH = frozenset(Coder)


def again(file: bytes, layout: Layout | None = BASE.layout) -> bytes | None:
    return recoded(file, decode(file, layout), layout)


def nearby() -> dict[str, np.ndarray]:
    """Only low bits are others: `max` makes a lossless diff smaller than `fast` does."""
    return {name: array * np.float32(1 + 1e-6) for name, array in BASE.arrays.items()}


def test_a_file_by_fast_says_the_same_in_fewer_bytes_by_max() -> None:
    given = uneven(BASE)
    found = again(given)
    assert found is not None
    assert len(found) < len(given)
    assert Coder.MAX in read_header(found).coders
    assert decode(found, BASE.layout) == decode(given, BASE.layout)


def test_a_file_by_max_says_the_same_to_devices_that_lack_it() -> None:
    given = uneven(BASE, coders=BOTH)
    found = again(given)
    assert found == uneven(BASE)
    assert read_header(found).coders == EVERY_DEVICE


def test_there_is_no_second_file_where_max_makes_it_no_smaller() -> None:
    assert again(sparse(BASE, *range(0, 5000, 7))) is None
    assert again(snapshot(BASE), None) is None


def test_a_diff_that_changes_nothing_is_one_file() -> None:
    assert again(encode(Diff.of(BASE.layout, BASE.digest(), {}), BASE)) is None


def test_layout_and_graph_are_said_again() -> None:
    grown = ParameterSet.from_arrays({**nearby(), "gate": np.ones(7, np.float32)})
    diff = replace(lossless_diff(BASE, grown), graph=b"graph")
    found = again(encode(diff, BASE))
    assert found is not None
    assert decode(found, BASE.layout).diff == diff


def test_max_is_not_tried_on_more_raw_bytes_than_it_codes_in_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = encode(lossless_diff(BASE, ParameterSet.from_arrays(nearby())), BASE)
    assert again(given) is not None
    monkeypatch.setattr(recoding, "MOST_LOSSLESS_BYTES", 4 * BASE.layout.parameter_count - 1)
    assert again(given) is None
    assert again(uneven(BASE)) is not None


def test_a_machine_without_max_offers_fast_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recoding, "available_coders", lambda: EVERY_DEVICE)
    assert again(uneven(BASE)) is None

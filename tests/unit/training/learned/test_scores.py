"""The exact threshold of the largest scores, found without sorting them all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from server.training.learned.scores import threshold

SCORES = st.lists(
    st.one_of(
        st.floats(0, 2.0**90, width=32), st.sampled_from([0.0, 1.0, 1.0, 2.0, 1e-40, 3.0000002])
    ),
    min_size=1,
    max_size=60,
)


@given(SCORES, st.integers(0, 70), st.integers(1, 4))
def test_as_many_as_asked_for_are_above_it_but_for_ties(
    scores: list[float], keep: int, parts: int
) -> None:
    flat = torch.tensor(scores, dtype=torch.float32)
    limit = threshold(lambda: iter(flat.chunk(parts)), keep)
    ordered = np.sort(flat.numpy())[::-1]
    expected = ordered[keep] if keep < len(ordered) else 0.0
    assert limit == expected
    assert int((flat > limit).sum()) <= keep


def test_it_reads_whole_tensors_of_any_shape() -> None:
    scores = torch.rand(40, 25, generator=torch.Generator().manual_seed(0))
    limit = threshold(lambda: [scores], 100)
    assert int((scores > limit).sum()) == 100
    assert limit == pytest.approx(float(scores.flatten().sort().values[-101]))

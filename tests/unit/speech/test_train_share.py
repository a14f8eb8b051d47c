"""Setting 1 of the neural diff paper: the data grow, D_1 in D_2 in ..."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from speech.corpus import Corpus, Utterance
from speech.errors import CorpusError

# A device has no hypothesis, and draws no shares.
pytest.importorskip("hypothesis")
from hypothesis import given
from hypothesis import strategies as st


def made_corpus(train: int) -> Corpus:
    """Utterances without files: a test and a val row among many to train on."""
    splits = ["test", *["train"] * train, "val"]
    utterances = (
        Utterance(Path(f"c/{n}.wav"), str(n), "word", 1.0, split) for n, split in enumerate(splits)
    )
    return Corpus(Path("c"), tuple(utterances), is_real=True)


@given(
    st.integers(1, 60),
    st.lists(st.floats(0.0, 1.0, exclude_min=True), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_shares_are_nested_deterministic_and_within_one_utterance(count, shares, random):
    corpus = made_corpus(count)
    parts = []
    for share in sorted(shares):
        if round(share * count) == 0:
            with pytest.raises(CorpusError, match="at least one train recording"):
                corpus.train_share(share)
            continue
        part = corpus.train_share(share)
        assert part == corpus.train_share(share)
        assert abs(len(part.split("train").utterances) - share * count) < 1
        assert part.split("test") == corpus.split("test")
        assert part.split("val") == corpus.split("val")
        parts.append(set(part.utterances))
        shuffled = list(corpus.utterances)
        random.shuffle(shuffled)
        again = replace(corpus, utterances=tuple(shuffled)).train_share(share)
        assert set(again.utterances) == parts[-1]
    assert all(small <= large for small, large in pairwise(parts))


def test_the_whole_share_is_the_corpus() -> None:
    assert made_corpus(9).train_share(1.0) == made_corpus(9)


def test_a_share_is_drawn_across_the_manifest() -> None:
    half = made_corpus(1000).train_share(0.5).split("train").utterances
    assert 200 < sum(int(u.speaker) < 500 for u in half) < 300


def test_rows_of_one_recording_count_singly() -> None:
    corpus = made_corpus(10)
    same = tuple(replace(u, path=Path("c/same.wav")) for u in corpus.utterances)
    share = replace(corpus, utterances=same).train_share(0.5)
    assert len(share.split("train").utterances) == 5


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(CorpusError, match="a share above 0 and up to 1"):
        made_corpus(9).train_share(share)

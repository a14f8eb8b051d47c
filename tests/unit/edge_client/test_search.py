"""Greedy and beam search on tables of probabilities, beside the sum over every path there is."""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest

from edge_client.inference.search import BLANK, Hypothesis, search_of_width

Ids = tuple[int, ...]
Table = Callable[[int, Ids], Sequence[float]]
"""Log-probabilities of the blank and the pieces, by frame and pieces so far."""

FRAMES, VOCABULARY, MOST = 3, 3, 2
UNLIMITED = 1_000


class TableNetworks:
    """Networks that look their answers up. A prediction is the pieces so far."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.joined: list[int] = []
        self.predicted: list[Ids] = []
        self.predictions = 0

    def begin(self) -> Ids:
        return ()

    def predict(self, previous: Sequence[Ids], pieces: Sequence[int]) -> list[Ids]:
        after = [(*ids, piece) for ids, piece in zip(previous, pieces, strict=True)]
        self.predicted += after
        self.predictions += 1
        return after

    def log_probs(self, frame: np.ndarray, predictions: Sequence[Ids]) -> np.ndarray:
        self.joined.append(len(predictions))
        rows = [self.table(int(frame[0]), ids) for ids in predictions]
        return np.array(rows, np.float32)


def random_table(seed: int, vocabulary: int = VOCABULARY, scale: float = 2.0) -> Table:
    """Every history has probabilities of its own."""

    def table(frame: int, ids: Ids) -> Sequence[float]:
        logits = np.random.default_rng([seed, frame, *ids]).normal(0, scale, vocabulary)
        return np.float32(logits - np.log(np.exp(logits).sum())).tolist()

    return table


def of_probabilities(table: Callable[[int, Ids], Sequence[float]]) -> Table:
    return lambda frame, ids: np.log(table(frame, ids)).tolist()


def searched(networks: TableNetworks, width: int, frames: int = FRAMES, most: int = MOST):
    search = search_of_width(networks, width, most)
    for frame in range(frames):
        search.advance(np.array([frame], np.float32))
    return search.best


def paths_to(ids: Ids) -> Iterator[list[int]]:
    """Every way to spread pieces over the frames: how many fall into each."""
    for counts in product(range(MOST + 1), repeat=FRAMES):
        if sum(counts) == len(ids):
            yield list(counts)


def log_probability_of(table: Table, ids: Ids) -> float:
    """The sum over every path to these pieces, by the definition."""
    total = -np.inf
    for counts in paths_to(ids):
        score, said = 0.0, 0
        for frame, count in enumerate(counts):
            for _ in range(count):
                score += table(frame, ids[:said])[ids[said]]
                said += 1
            score += table(frame, ids[:said])[BLANK]
        total = np.logaddexp(total, score)
    return float(total)


def every_answer() -> Iterator[Ids]:
    for length in range(FRAMES * MOST + 1):
        yield from product(range(1, VOCABULARY), repeat=length)


@pytest.mark.parametrize("seed", range(5))
def test_without_a_limit_the_best_of_all_answers_is_found(seed: int) -> None:
    table = random_table(seed)
    exact = {ids: log_probability_of(table, ids) for ids in every_answer()}
    best = max(exact, key=exact.__getitem__)
    found = searched(TableNetworks(table), UNLIMITED)
    assert found.ids == best
    assert found.log_probability == pytest.approx(exact[best], abs=1e-9)


@pytest.mark.parametrize("width", [1, 2, 3, 8])
def test_no_beam_claims_more_than_the_sum_over_all_paths(width: int) -> None:
    for seed in range(8):
        table = random_table(seed)
        found = searched(TableNetworks(table), width)
        assert found.log_probability <= log_probability_of(table, found.ids) + 1e-9


def test_a_beam_of_one_takes_the_likeliest_piece_each_time() -> None:
    for seed in range(8):
        table = random_table(seed)
        ids: Ids = ()
        score = 0.0
        for frame in range(FRAMES):
            for count in range(MOST + 1):
                log_probs = table(frame, ids)
                piece = int(np.argmax(log_probs)) if count < MOST else BLANK
                score += log_probs[piece]
                if piece == BLANK:
                    break
                ids = (*ids, piece)
        found = searched(TableNetworks(table), 1)
        assert found.ids == ids
        assert found.log_probability == pytest.approx(score, abs=1e-9)


def two_ways(frame: int, ids: Ids) -> Sequence[float]:
    """One piece, said in the first frame or in the second; silence is likelier than either."""
    return [0.6, 0.4] if not ids else [1 - 1e-9, 1e-9]


def test_paths_to_the_same_words_add_up() -> None:
    table = of_probabilities(two_ways)
    greedy = searched(TableNetworks(table), 1, frames=2)
    assert greedy.ids == ()
    assert greedy.log_probability == pytest.approx(np.log(0.36), abs=1e-6)
    beam = searched(TableNetworks(table), 2, frames=2)
    assert beam.ids == (1,)
    assert beam.log_probability == pytest.approx(np.log(0.4 + 0.6 * 0.4), abs=1e-6)


def test_a_beam_comes_back_from_a_likely_beginning_that_leads_nowhere() -> None:
    def table(frame: int, ids: Ids) -> Sequence[float]:
        if not ids:
            return [0.1, 0.5, 0.4] if frame == 0 else [0.98, 0.01, 0.01]
        if ids[0] == 1:
            return [0.9, 0.05, 0.05] if frame == 0 else [0.34, 0.33, 0.33]
        return [0.98, 0.01, 0.01]

    networks = TableNetworks(of_probabilities(table))
    assert searched(networks, 1).ids[0] == 1
    assert searched(networks, 4).ids == (2,)


@pytest.mark.parametrize("width", [1, 2, 16])
def test_a_frame_ends_after_some_pieces_however_unlikely_the_blank(width: int) -> None:
    networks = TableNetworks(of_probabilities(lambda frame, ids: [1e-6, 0.9, 0.1 - 1e-6]))
    found = searched(networks, width, frames=2, most=3)
    assert len(found.ids) <= 2 * 3
    if width == 1:
        assert found.ids == (1,) * 6


def test_the_networks_run_once_a_step_for_all_hypotheses() -> None:
    networks = TableNetworks(random_table(0, vocabulary=50))
    searched(networks, 16, frames=5, most=2)
    assert len(networks.joined) <= 5 * 3
    assert max(networks.joined) == 16
    assert networks.predictions <= 5 * 2


def test_nothing_is_predicted_twice() -> None:
    networks = TableNetworks(random_table(0))
    searched(networks, 8)
    assert len(networks.predicted) == len(set(networks.predicted))


def test_a_long_recording_forgets_old_predictions_and_goes_on() -> None:
    frames = 60
    table = random_table(3, vocabulary=8)
    networks = TableNetworks(table)
    search = search_of_width(networks, 2, most_per_frame=2)
    for frame in range(frames):
        search.advance(np.array([frame], np.float32))
    assert len(networks.predicted) > 64
    assert len(search._predictions._known) <= 64


def test_before_the_first_frame_nothing_was_said() -> None:
    for width in (1, 16):
        assert search_of_width(TableNetworks(random_table(0)), width).best == Hypothesis((), 0.0)


@pytest.mark.parametrize("width", [0, -1])
def test_a_beam_without_hypotheses_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match="1 or more"):
        search_of_width(TableNetworks(random_table(0)), width)

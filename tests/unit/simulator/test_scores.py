import numpy as np
import pytest

from diffcodec import Diff, ParameterSet, lossless_diff, sparse_diff
from simulator.paper_bytes import paper_bytes
from simulator.scores import Metric, TaskName


def test_each_task_has_its_metric():
    assert (Metric.of(TaskName.SLU), Metric.of(TaskName.RNNT)) == (Metric.ACCURACY, Metric.WER)


def test_accuracy_is_the_share_of_whole_texts():
    assert Metric.ACCURACY.score(["turn it on", "off"], ["turn it", "off"]) == 0.5


def test_the_word_error_rate_is_over_all_words_together():
    assert Metric.WER.score(["turn it on", "off"], ["turn it", "off please"]) == 2 / 4


@pytest.mark.parametrize(("metric", "below"), [(Metric.ACCURACY, -2), (Metric.WER, 2)])
def test_points_below_are_positive_where_it_is_worse(metric, below):
    assert metric.points_below(0.08, 0.10) == pytest.approx(below)


def test_the_paper_counts_values_and_indices():
    assert paper_bytes("paper_sparse", 100, _a_diff()) == 800
    assert paper_bytes("paper_hash", 100, _a_diff()) == 400
    assert paper_bytes("lora", 100, _a_diff()) == 200


def test_what_mixes_methods_is_counted_by_what_travels():
    assert paper_bytes("auto", 0, _a_diff()) == 8 * 1
    whole = ParameterSet.from_arrays({"w": np.ones((2, 3), np.float32)})
    assert paper_bytes("finetune", 6, lossless_diff(None, whole)) == 4 * 6


def _a_diff() -> Diff:
    base = ParameterSet.from_arrays({"w": np.zeros((2, 3), np.float32)})
    delta = np.zeros((2, 3), np.float32)
    delta[1, 1] = 0.5
    return sparse_diff(base, {"w": delta}, levels=3)

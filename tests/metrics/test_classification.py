import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertgrid_tf.metrics.classification import directions, evaluate

LABELS = ("a", "b", "c")


def certain(predicted: list[int]) -> np.ndarray:
    return np.eye(len(LABELS), dtype=np.float32)[predicted]


def test_scores_of_a_small_case_worked_by_hand():
    scores = evaluate(np.array([0, 0, 0, 1]), certain([0, 0, 1, 1]), LABELS)
    assert scores["accuracy"] == 0.75
    assert (scores["precision_a"], scores["recall_a"]) == (1.0, pytest.approx(2 / 3))
    assert (scores["precision_b"], scores["recall_b"]) == (0.5, 1.0)
    assert scores["f1_a"] == pytest.approx(0.8)
    assert scores["f1_b"] == pytest.approx(2 / 3)
    # The class that is neither there nor predicted counts 0 in the plain mean and nothing in the weighted one.
    assert scores["f1_c"] == 0
    assert scores["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 3)
    assert scores["weighted_f1"] == pytest.approx(0.75 * 0.8 + 0.25 * 2 / 3)


def test_the_loss_is_the_mean_cross_entropy():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32)
    loss = evaluate(np.array([0, 2]), probabilities, LABELS)["loss"]
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.1)) / 2, rel=1e-6)


def test_a_certain_mistake_costs_much_but_not_infinitely_much():
    assert 80 < evaluate(np.array([0]), certain([1]), LABELS)["loss"] < 100


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=50))
def test_shares_lie_between_0_and_1_and_every_metric_has_a_direction(pairs):
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    scores = evaluate(truth, certain(list(predicted)), LABELS)
    assert scores.keys() == directions(LABELS).keys()
    assert all(0 <= value <= 1 for name, value in scores.items() if name != "loss")
    assert directions(LABELS)["loss"] == "min"

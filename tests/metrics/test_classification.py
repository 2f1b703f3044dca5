from collections.abc import Callable, Sequence

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from bertgrid_tf.metrics.classification import directions, evaluate, unit

LABELS = ("a", "b", "c")
GRADES = ("1", "2", "10")


@st.composite
def labels_and_scores(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Class ids, perhaps all the same, and probabilities of three classes, many of them equal."""
    n = draw(st.integers(1, 12))
    truth = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    odds = draw(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=n, max_size=n))
    return truth, np.array(odds) / np.sum(odds, axis=1, keepdims=True)


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
    assert all(0 <= value <= 1 for name, value in scores.items() if unit(name) == "%")
    assert all(-1 <= value <= 1 for name, value in scores.items() if unit(name) == "")
    assert directions(LABELS)["loss"] == "min"


@settings(max_examples=25)
@given(labels_and_scores())
@pytest.mark.filterwarnings("ignore::UserWarning:sklearn")
@pytest.mark.filterwarnings("ignore::RuntimeWarning:sklearn")
def test_every_metric_is_scikit_learns(drawn):
    truth, probabilities = drawn
    predicted, ids = probabilities.argmax(axis=1), range(len(GRADES))
    named = ("micro_f1:1,10", "roc_auc:10", "average_precision:2,10")
    ours = evaluate(truth, probabilities, GRADES, [*directions(GRADES), *named])

    def f1(average: str, of: Sequence[int] = ids) -> float:
        return sklearn.metrics.f1_score(truth, predicted, labels=list(of), average=average, zero_division=0)

    def ranking(score: Callable[..., float], classes: Sequence[int], undefined: float) -> float:
        # One class against the rest, where there are both; the average precision is defined without a rest.
        without_rest = score is sklearn.metrics.average_precision_score
        defined = [id_ for id_ in classes if (truth == id_).any() and (without_rest or (truth != id_).any())]
        of_class = [score(truth == id_, probabilities[:, id_]) for id_ in defined]
        return np.mean(of_class) if of_class else undefined

    def kappa(weights: str | None) -> float:
        return np.nan_to_num(sklearn.metrics.cohen_kappa_score(truth, predicted, labels=list(ids), weights=weights))

    theirs = {
        "accuracy": sklearn.metrics.accuracy_score(truth, predicted),
        "macro_f1": f1("macro"),
        "weighted_f1": f1("weighted"),
        "micro_f1:1,10": f1("micro", (0, 2)),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(truth, predicted),
        "mcc": sklearn.metrics.matthews_corrcoef(truth, predicted),
        "cohen_kappa": kappa(None),
        "quadratic_kappa": kappa("quadratic"),
        "roc_auc": ranking(sklearn.metrics.roc_auc_score, ids, 0.5),
        "roc_auc:10": ranking(sklearn.metrics.roc_auc_score, [2], 0.5),
        "average_precision": ranking(sklearn.metrics.average_precision_score, ids, 0),
        "average_precision:2,10": ranking(sklearn.metrics.average_precision_score, [1, 2], 0),
        "recall_10": sklearn.metrics.recall_score(truth, predicted, labels=[2], average="macro", zero_division=0),
    }
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs)
    if len(set(truth)) == len(GRADES):
        whole = sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr")
        assert ours["roc_auc"] == pytest.approx(whole)


def test_the_quadratic_kappa_is_that_of_classes_with_an_order_alone():
    assert "quadratic_kappa" in directions(("-1", "0", "10"))
    assert "quadratic_kappa" not in directions(("1", "2", "many"))


def test_only_the_metrics_asked_for_are_computed():
    assert evaluate(np.array([0, 1]), certain([0, 2]), LABELS, ["micro_f1:a,b"]) == {"micro_f1:a,b": 2 / 3}

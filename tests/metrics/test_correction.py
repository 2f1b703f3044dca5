import numpy as np
import pytest
from gaussian_texts import PRIORS, draw_dialogues, posterior
from scipy.special import softmax

from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.metrics.correction import detect_shift, fit

LABELS = ("a", "b", "c", "d", "e")
EVENLY = np.full(5, 0.2)


def world(priors=PRIORS, seed=0, dialogues=120, separation=1.5):
    truth, likelihoods, numbers = draw_dialogues(priors, dialogues, 12, seed, separation)
    return truth, likelihoods, numbers


def test_a_study_decided_by_accuracy_gets_a_temperature_and_no_adjustment():
    truth, likelihoods, dialogues = world()
    sure = softmax(2 * (likelihoods + np.log(PRIORS)), axis=1)
    correction = fit(truth, sure, dialogues, PRIORS, LABELS, "accuracy").correction
    assert correction.strength == 0
    assert correction.temperature == pytest.approx(2, rel=0.2)
    np.testing.assert_array_equal(correction.apply(sure).argmax(axis=1), sure.argmax(axis=1))
    assert evaluate(truth, correction.apply(sure), LABELS)["loss"] < evaluate(truth, sure, LABELS)["loss"]


def test_a_study_decided_by_macro_f1_is_adjusted_and_the_sum_of_probabilities_stays_one():
    truth, likelihoods, dialogues = world(separation=1.0)
    probabilities = posterior(likelihoods, PRIORS)
    correction = fit(truth, probabilities, dialogues, PRIORS, LABELS, "macro_f1").correction
    corrected = correction.apply(probabilities)
    assert correction.strength > 0
    assert evaluate(truth, corrected, LABELS)["macro_f1"] > evaluate(truth, probabilities, LABELS)["macro_f1"]
    np.testing.assert_allclose(corrected.sum(axis=1), 1)


def test_probabilities_that_are_right_as_they_are_are_left_alone():
    truth, likelihoods, dialogues = world(seed=3)
    correction = fit(truth, posterior(likelihoods, PRIORS), dialogues, PRIORS, LABELS, "accuracy").correction
    assert correction.temperature == pytest.approx(1, abs=0.1)


def test_a_shift_is_found_and_allowed_for_and_no_shift_is_not():
    truth, likelihoods, dialogues = world()
    dev = posterior(likelihoods, PRIORS)
    new_truth, new_likelihoods, new_dialogues = world(EVENLY, seed=1)
    new = posterior(new_likelihoods, PRIORS)
    shift = detect_shift(truth, dev, new, dialogues, new_dialogues)
    assert shift.detected
    assert shift.correctable
    np.testing.assert_allclose(shift.priors, np.bincount(new_truth) / len(new_truth), atol=0.06)
    right, before = ((one.argmax(axis=1) == new_truth).mean() for one in (shift.probabilities, new))
    assert right > before + 0.03
    _, same, same_dialogues = world(seed=2)
    assert not detect_shift(truth, dev, posterior(same, PRIORS), dialogues, same_dialogues).detected


def test_shares_that_leave_a_class_without_a_text_are_no_finding():
    truth, likelihoods, dialogues = world()
    without = np.array([0.7, 0.3, 0, 0, 0])
    _, new, new_dialogues = world(without + 1e-9, seed=1, dialogues=10)
    shift = detect_shift(truth, posterior(likelihoods, PRIORS), posterior(new, PRIORS), dialogues, new_dialogues)
    assert shift.detected
    assert not shift.correctable


@pytest.mark.parametrize("metric", ["weighted_f1", "loss", "roc_auc", "average_precision:c,d"])
def test_a_study_decided_by_probabilities_or_by_the_frequent_classes_reports_macro_f1_and_is_not_adjusted(metric):
    truth, likelihoods, dialogues = world(separation=1.0, dialogues=40)
    fitted = fit(truth, posterior(likelihoods, PRIORS), dialogues, PRIORS, LABELS, metric)
    assert (fitted.metric, fitted.correction.strength) == ("macro_f1", 0)
    of_class = fit(truth, posterior(likelihoods, PRIORS), dialogues, PRIORS, LABELS, "f1_c")
    assert of_class.metric == "f1_c"

import numpy as np
import pytest
from gaussian_texts import PRIORS, draw_dialogues, posterior
from scipy.special import softmax

from bertgrid_tf.score.correction import fit, shifted
from bertgrid_tf.score.metrics import evaluate

LABELS = ("a", "b", "c", "d", "e")
EVENLY = np.full(5, 0.2)


def world(priors=PRIORS, seed=0, dialogues=120, separation=1.5):
    truth, likelihoods, numbers = draw_dialogues(priors, dialogues, 12, seed, separation)
    return truth, likelihoods, numbers


def test_a_study_decided_by_accuracy_gets_a_temperature_and_no_adjustment():
    truth, likelihoods, dialogues = world()
    sure = softmax(2 * (likelihoods + np.log(PRIORS)), axis=1)
    found = fit(truth, sure, dialogues, PRIORS, LABELS, "accuracy").correction
    assert found.strength == 0
    assert found.temperature == pytest.approx(2, rel=0.2)
    np.testing.assert_array_equal(found.of(sure).argmax(axis=1), sure.argmax(axis=1))
    assert evaluate(truth, found.of(sure), LABELS)["loss"] < evaluate(truth, sure, LABELS)["loss"]


def test_a_study_decided_by_macro_f1_is_adjusted_and_the_sum_of_probabilities_stays_one():
    truth, likelihoods, dialogues = world(separation=1.0)
    probabilities = posterior(likelihoods, PRIORS)
    found = fit(truth, probabilities, dialogues, PRIORS, LABELS, "macro_f1").correction
    corrected = found.of(probabilities)
    assert found.strength > 0
    assert evaluate(truth, corrected, LABELS)["macro_f1"] > evaluate(truth, probabilities, LABELS)["macro_f1"]
    np.testing.assert_allclose(corrected.sum(axis=1), 1)


def test_probabilities_that_are_right_as_they_are_are_left_alone():
    truth, likelihoods, dialogues = world(seed=3)
    found = fit(truth, posterior(likelihoods, PRIORS), dialogues, PRIORS, LABELS, "accuracy").correction
    assert found.temperature == pytest.approx(1, abs=0.1)


def test_a_shift_is_found_and_allowed_for_and_no_shift_is_not():
    truth, likelihoods, dialogues = world()
    dev = posterior(likelihoods, PRIORS)
    new_truth, new_likelihoods, new_dialogues = world(EVENLY, seed=1)
    new = posterior(new_likelihoods, PRIORS)
    found = shifted(truth, dev, new, dialogues, new_dialogues)
    assert found.found
    assert found.correctable
    np.testing.assert_allclose(found.priors, np.bincount(new_truth) / len(new_truth), atol=0.06)
    right, before = ((one.argmax(axis=1) == new_truth).mean() for one in (found.probabilities, new))
    assert right > before + 0.03
    _, same, same_dialogues = world(seed=2)
    assert not shifted(truth, dev, posterior(same, PRIORS), dialogues, same_dialogues).found


def test_shares_that_leave_a_class_without_a_text_are_no_finding():
    truth, likelihoods, dialogues = world()
    without = np.array([0.7, 0.3, 0, 0, 0])
    _, new, new_dialogues = world(without + 1e-9, seed=1, dialogues=10)
    found = shifted(truth, posterior(likelihoods, PRIORS), posterior(new, PRIORS), dialogues, new_dialogues)
    assert found.found
    assert not found.correctable

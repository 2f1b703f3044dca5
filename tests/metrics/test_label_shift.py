import numpy as np
import pytest
from gaussian_texts import PRIORS, draw, draw_dialogues, posterior
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax
from scipy.stats import chi2_contingency

from bertgrid_tf.metrics.calibration import apply_bcts, apply_temperature, fit_bcts
from bertgrid_tf.metrics.label_shift import correct_priors, estimate_priors, shift_test

SHIFTED = np.array([0.15, 0.2, 0.15, 0.1, 0.4])
LOGITS = arrays.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(5)), elements=st.floats(-10, 10, width=32))
SHARES = arrays.arrays(np.float64, 5, elements=st.floats(0.01, 1)).map(lambda weights: weights / weights.sum())


def accuracy(truth: np.ndarray, probabilities: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == truth).mean())


@given(LOGITS, SHARES, SHARES)
def test_priors_that_stay_change_nothing_and_a_correction_can_be_taken_back(logits, old, new):
    probabilities = softmax(logits, axis=1)
    assert correct_priors(probabilities, old, old) == pytest.approx(probabilities, rel=1e-5)
    there_and_back = correct_priors(correct_priors(probabilities, old, new), new, old)
    assert there_and_back == pytest.approx(probabilities, rel=1e-5)


def test_shifted_shares_are_found_without_labels_and_bring_the_accuracy_of_the_bayes_rule():
    truth, likelihoods = draw(SHIFTED, 5000)
    probabilities, bayes = posterior(likelihoods, PRIORS), posterior(likelihoods, SHIFTED)
    found = estimate_priors(probabilities, PRIORS)
    assert found == pytest.approx(SHIFTED, abs=0.03)
    corrected = correct_priors(probabilities, PRIORS, found)
    assert accuracy(truth, corrected) > accuracy(truth, probabilities) + 0.1
    assert accuracy(truth, corrected) == pytest.approx(accuracy(truth, bayes), abs=0.005)


def test_shares_that_did_not_shift_are_found_as_they_are():
    _, likelihoods = draw(PRIORS, 5000)
    assert estimate_priors(posterior(likelihoods, PRIORS), PRIORS) == pytest.approx(PRIORS, abs=0.03)


def test_calibration_on_dev_mends_the_shares_that_an_overconfident_model_gets_wrong():
    dev_truth, dev_likelihoods = draw(PRIORS, 3000, seed=1)
    dev = apply_temperature(posterior(dev_likelihoods, PRIORS), 1 / 3)
    _, likelihoods = draw(SHIFTED, 3000, seed=2)
    new = apply_temperature(posterior(likelihoods, PRIORS), 1 / 3)
    scaling = fit_bcts(dev_truth, dev)
    calibrated = estimate_priors(apply_bcts(new, scaling), apply_bcts(dev, scaling).mean(axis=0))
    assert np.abs(calibrated - SHIFTED).max() < 0.03 < np.abs(estimate_priors(new, PRIORS) - SHIFTED).max()


def test_a_class_that_the_new_texts_lack_gets_next_to_no_share():
    lacking = np.array([0.5, 0.3, 0.2, 0, 0])
    _, likelihoods = draw(lacking, 3000, separation=3)
    assert estimate_priors(posterior(likelihoods, PRIORS), PRIORS) == pytest.approx(lacking, abs=0.02)


def p_without_shift(seed: int, *, told: bool) -> float:
    """Of dev and new texts of one population, in dialogues whose texts resemble each other."""
    _, dev, dev_dialogues = draw_dialogues(PRIORS, 60, 10, seed=2 * seed)
    _, new, new_dialogues = draw_dialogues(PRIORS, 30, 10, seed=2 * seed + 1)
    numbers = (dev_dialogues, new_dialogues) if told else (None, None)
    return shift_test(posterior(dev, PRIORS), posterior(new, PRIORS), *numbers).p


def test_no_shift_is_found_in_one_of_twenty_where_there_is_none():
    p = np.array([p_without_shift(seed, told=True) for seed in range(200)])
    assert 0.02 < (p < 0.05).mean() < 0.09
    assert 0.4 < (p < 0.5).mean() < 0.6


def test_texts_taken_as_independent_against_the_truth_show_shifts_that_are_none():
    p = np.array([p_without_shift(seed, told=False) for seed in range(40)])
    assert (p < 0.05).mean() > 0.12


@pytest.mark.parametrize("confidence", [1, 3], ids=["calibrated", "overconfident"])
def test_a_shift_is_found(confidence):
    _, dev, dev_dialogues = draw_dialogues(PRIORS, 100, 12, seed=1)
    _, new, new_dialogues = draw_dialogues(SHIFTED, 80, 12, seed=2)
    said = [apply_temperature(posterior(likelihoods, PRIORS), 1 / confidence) for likelihoods in (dev, new)]
    assert shift_test(*said, dev_dialogues, new_dialogues).p < 0.01


@pytest.mark.slow
def test_probabilities_show_more_shifts_than_predicted_classes_do():
    shifted = np.array([0.4, 0.25, 0.18, 0.1, 0.07])
    found = []
    for seed in range(200):
        _, dev, dev_dialogues = draw_dialogues(PRIORS, 100, 12, seed=2 * seed)
        _, new, new_dialogues = draw_dialogues(shifted, 80, 12, seed=2 * seed + 1)
        soft = posterior(dev, PRIORS), posterior(new, PRIORS)
        hard = [np.eye(5)[probabilities.argmax(axis=1)] for probabilities in soft]
        found.append([shift_test(*said, dev_dialogues, new_dialogues).p < 0.05 for said in (soft, hard)])
    assert np.mean(found, axis=0) == pytest.approx([0.57, 0.44], abs=0.03)


def test_of_single_texts_with_certain_predictions_it_is_chi_square():
    dev, new = np.eye(3)[np.repeat([0, 1, 2], [50, 30, 20])], np.eye(3)[np.repeat([0, 1, 2], [20, 25, 15])]
    expected = chi2_contingency([dev.sum(axis=0), new.sum(axis=0)])
    found = shift_test(dev, new)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue, abs=0.05)


def test_certain_probabilities_of_one_class_and_fewer_texts_than_classes_show_no_shift():
    certain = np.eye(5, dtype=np.float32)[[0, 0, 0]]
    assert shift_test(certain, certain[:1]).p == 1
    assert estimate_priors(certain, PRIORS) == pytest.approx([1, 0, 0, 0, 0])


def test_a_model_that_says_the_same_of_every_text_shows_no_shift():
    same = np.tile(np.float32([0.1, 0.2, 0.7]), (120, 1))
    assert shift_test(same, same[:100], np.arange(120) // 7, np.arange(100) // 3).p == 1


def test_one_new_dialogue_alone_is_no_evidence_of_a_shift():
    _, dev, dev_dialogues = draw_dialogues(PRIORS, 10, 12, seed=1)
    _, new, new_dialogues = draw_dialogues(np.array([0, 0, 0, 0, 1.0]), 1, 12, seed=2)
    said = posterior(dev, PRIORS), posterior(new, PRIORS)
    assert shift_test(*said, dev_dialogues, new_dialogues).p > 0.05

import numpy as np
import pytest
from gaussian_texts import PRIORS, draw, posterior
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax

from bertgrid_tf.metrics.calibration import (
    BiasCorrectedTemperature,
    apply_bcts,
    apply_temperature,
    calibrate,
    cross_fitted,
    expected_calibration_error,
    fit_bcts,
    fit_temperature,
    reliability,
)
from bertgrid_tf.metrics.classification import evaluate

LABELS = ("a", "b", "c", "d", "e")
LOGITS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(2, 8)), elements=st.floats(-30, 30, width=32)
)


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    """Truth and perfectly calibrated probabilities."""
    truth, likelihoods = draw(PRIORS, 6000)
    return truth, posterior(likelihoods, PRIORS)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoilt_the_probabilities_is_found_again(known, temperature):
    truth, calibrated = known
    assert fit_temperature(truth, apply_temperature(calibrated, 1 / temperature)) == pytest.approx(
        temperature, rel=0.05
    )


@given(LOGITS, st.floats(0.1, 10))
def test_a_temperature_keeps_the_likeliest_class_and_probabilities_of_sum_1(logits, temperature):
    probabilities = softmax(logits, axis=1)
    scaled = apply_temperature(probabilities, temperature)
    assert scaled.sum(axis=1) == pytest.approx(1)
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()


def test_calibrated_probabilities_have_little_error_and_overconfident_ones_much(known):
    truth, calibrated = known
    assert expected_calibration_error(truth, calibrated) < 0.02
    assert expected_calibration_error(truth, apply_temperature(calibrated, 1 / 3)) > 0.1


def test_chance_alone_gives_calibrated_probabilities_of_few_texts_an_error():
    drawn = [draw(PRIORS, 1178, seed) for seed in range(50)]
    errors = [expected_calibration_error(truth, posterior(likelihoods, PRIORS)) for truth, likelihoods in drawn]
    assert np.mean(errors) == pytest.approx(0.035, abs=0.003)


def test_the_error_of_two_bins_worked_by_hand():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.6, 0.4], [0.2, 0.8]])
    found = reliability(np.array([0, 1, 1, 1]), probabilities, bins=2)
    assert found.confidence == pytest.approx([0.6, 0.85])
    assert found.accuracy == pytest.approx([0.5, 1])
    assert found.share == pytest.approx([0.5, 0.5])
    assert found.error == pytest.approx((0.1 + 0.15) / 2)


def test_bins_hold_equally_many_texts():
    confidence = np.linspace(0.51, 0.99, 12)
    found = reliability(np.zeros(12, int), np.stack([confidence, 1 - confidence], axis=1), bins=4)
    assert found.share == pytest.approx([0.25] * 4)
    assert found.confidence == pytest.approx(confidence.reshape(4, 3).mean(axis=1))
    texts = np.linspace(0.51, 0.99, 60)
    assert reliability(np.zeros(60, int), np.stack([texts, 1 - texts], axis=1)).share == pytest.approx([1 / 15] * 15)
    many = reliability(np.zeros(12, int), np.stack([confidence, 1 - confidence], axis=1))
    assert many.share == pytest.approx([1 / 12] * 12)


def test_equally_confident_texts_share_a_bin_whatever_their_order():
    undecided = np.full((100, 2), 0.5)
    assert expected_calibration_error(np.arange(100) // 50, undecided) == 0


def test_calibration_reports_what_the_temperature_gains_on_other_dialogues(known):
    truth, calibrated = known
    spoilt = apply_temperature(calibrated, 1 / 2)
    found = calibrate(truth, spoilt, np.arange(len(truth)) // 10)
    assert found.temperature == pytest.approx(2, rel=0.05)
    assert found.after.error < 0.02 < found.before.error
    assert found.loss_before == pytest.approx(evaluate(truth, spoilt, LABELS)["loss"])
    assert found.loss_after == pytest.approx(evaluate(truth, calibrated, LABELS)["loss"], abs=1e-3)


def test_a_temperature_fitted_to_the_noise_of_a_few_texts_is_not_reported_as_a_gain():
    losses = []
    for seed in range(20):
        truth, likelihoods = draw(PRIORS, 40, seed)
        found = calibrate(truth, posterior(likelihoods, PRIORS), np.arange(40))
        losses.append(found.loss_after - found.loss_before)
    assert np.mean(losses) > 0


def test_every_text_is_corrected_once_by_what_was_fitted_on_other_dialogues():
    dialogues = np.repeat(np.arange(7), [5, 1, 3, 8, 2, 2, 4])
    visited = np.zeros(len(dialogues), int)

    def correct(fit: np.ndarray, held: np.ndarray) -> np.ndarray:
        assert not set(dialogues[fit]) & set(dialogues[held])
        visited[held] += 1
        return np.tile([0.25, 0.75], (len(held), 1))

    corrected = cross_fitted(np.full((len(dialogues), 2), 0.5), dialogues, correct)
    assert (visited == 1).all()
    assert (corrected == [0.25, 0.75]).all()


def test_one_dialogue_leaves_nothing_to_fit_on_and_no_gain(known):
    truth, calibrated = known
    found = calibrate(truth, apply_temperature(calibrated, 1 / 2), np.zeros(len(truth), int))
    assert (found.after.error, found.loss_after) == pytest.approx((found.before.error, found.loss_before))


def test_the_temperature_and_biases_that_spoilt_the_probabilities_are_found_again(known):
    truth, calibrated = known
    biases = np.array([0.5, -0.5, 1.0, -1.0, 0.0])
    found = fit_bcts(truth, softmax(2 * (np.log(calibrated) - biases), axis=1))
    assert found.temperature == pytest.approx(2, rel=0.05)
    assert found.biases - found.biases.mean() == pytest.approx(biases, abs=0.15)


def test_biases_bring_the_mean_probability_of_every_class_to_its_share(known):
    truth, calibrated = known
    spoilt = apply_temperature(calibrated, 1 / 3)
    shares = np.bincount(truth) / len(truth)
    assert np.abs(apply_temperature(spoilt, fit_temperature(truth, spoilt)).mean(axis=0) - shares).max() > 1e-3
    assert apply_bcts(spoilt, fit_bcts(truth, spoilt)).mean(axis=0) == pytest.approx(shares, abs=1e-3)


def test_without_bias_it_is_a_temperature(known):
    _, calibrated = known
    scaling = BiasCorrectedTemperature(2.0, np.zeros(5))
    assert apply_bcts(calibrated, scaling) == pytest.approx(apply_temperature(calibrated, 2.0))


@pytest.mark.parametrize("truth", [[0, 1, 2], [1, 1, 0], [0, 0, 0]], ids=["right", "a class absent", "one class"])
def test_certain_probabilities_of_fewer_texts_than_classes_stay_finite(truth):
    certain = np.eye(5, dtype=np.float32)[[0, 1, 2]]
    ids = np.array(truth)
    found = calibrate(ids, certain, np.arange(3))
    scaled = apply_bcts(certain, fit_bcts(ids, certain))
    assert 0.1 <= found.temperature <= 10
    assert np.isfinite([found.before.error, found.after.error, found.loss_before, found.loss_after]).all()
    assert scaled.sum(axis=1) == pytest.approx(1)


def test_a_class_absent_from_dev_becomes_less_probable_but_not_impossible(known):
    truth, calibrated = known
    seen = truth != 4
    scaling = fit_bcts(truth[seen], calibrated[seen])
    assert scaling.biases[4] > -6
    assert apply_bcts(calibrated, scaling)[:, 4].mean() < calibrated[:, 4].mean() / 5

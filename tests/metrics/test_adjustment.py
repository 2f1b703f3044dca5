import numpy as np
import pytest
from gaussian_texts import PRIORS, draw, draw_dialogues, posterior
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.special import softmax

from bertgrid_tf.metrics.adjustment import adjust, choose_strength
from bertgrid_tf.metrics.classification import evaluate

LABELS = ("a", "b", "c", "d", "e")
LOGITS = arrays.arrays(np.float32, st.tuples(st.integers(1, 20), st.just(5)), elements=st.floats(-30, 30, width=32))


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, np.ndarray]:
    """Truth and perfectly calibrated probabilities of classes of which one has half of the texts."""
    truth, likelihoods = draw(PRIORS, 3000, separation=1.0)
    return truth, posterior(likelihoods, PRIORS)


def macro_recall(truth: np.ndarray, probabilities: np.ndarray) -> float:
    scores = evaluate(truth, probabilities, LABELS)
    return float(np.mean([scores[f"recall_{label}"] for label in LABELS]))


@given(LOGITS)
def test_strength_0_leaves_the_probabilities_as_they_are(logits):
    probabilities = softmax(logits, axis=1)
    assert adjust(probabilities, PRIORS, 0) == pytest.approx(probabilities, rel=1e-5)


def test_strength_1_gives_the_classifier_of_balanced_classes():
    truth, likelihoods = draw(PRIORS, 3000, separation=1.0)
    probabilities = posterior(likelihoods, PRIORS)
    adjusted = adjust(probabilities, PRIORS, 1)
    assert adjusted == pytest.approx(posterior(likelihoods, np.full(5, 0.2)), abs=1e-5)
    assert macro_recall(truth, adjusted) > macro_recall(truth, probabilities) + 0.05


def test_a_strength_that_helps_macro_f1_is_found_and_its_gain_is_that_of_held_out_dialogues(known):
    truth, probabilities = known
    dialogues = np.arange(len(truth)) // 10
    found = choose_strength(truth, probabilities, dialogues, PRIORS, LABELS)
    assert found.strength > 0
    assert found.unadjusted == evaluate(truth, probabilities, LABELS)["macro_f1"]
    assert found.cross_validated == evaluate(truth, found.probabilities, LABELS)["macro_f1"]
    assert found.cross_validated > found.unadjusted + 0.005


def test_a_texts_own_dialogue_has_no_say_in_its_strength(known):
    truth, probabilities = (part[:300] for part in known)
    dialogues = np.arange(300) // 60
    lied = truth.copy()
    lied[:60] = probabilities[:60].argmin(axis=1)
    honest, misled = (
        choose_strength(ids, probabilities, dialogues, PRIORS, LABELS).probabilities for ids in (truth, lied)
    )
    assert (honest[:60] == misled[:60]).all()
    assert (honest[60:] != misled[60:]).any()


def test_nothing_is_adjusted_where_nothing_is_gained(known):
    truth, probabilities = known
    found = choose_strength(truth, probabilities, np.arange(len(truth)), PRIORS, LABELS, metric="loss")
    assert found.strength == 0
    assert found.cross_validated == pytest.approx(found.unadjusted)


def test_a_loss_is_made_as_small_as_it_can_be(known):
    truth, probabilities = known
    twice_counted = adjust(probabilities, PRIORS, -1)
    found = choose_strength(truth, twice_counted, np.arange(len(truth)), PRIORS, LABELS, metric="loss")
    assert found.strength == 1
    assert found.cross_validated < found.unadjusted


def test_no_strength_beyond_2_is_chosen(known):
    truth, probabilities = (part[:300] for part in known)
    thrice_counted = adjust(probabilities, PRIORS, -3)
    found = choose_strength(truth, thrice_counted, np.arange(300) // 60, PRIORS, LABELS, metric="loss")
    assert found.strength == 2


def test_of_equally_good_strengths_the_weakest_is_chosen():
    probabilities = np.tile([0.55, 0.45], (10, 1))
    found = choose_strength(
        np.ones(10, int), probabilities, np.arange(10), np.array([0.8, 0.2]), ("a", "b"), "accuracy"
    )
    assert (found.strength, found.cross_validated) == (0.25, 1)


def test_one_dialogue_cannot_show_a_gain(known):
    truth, probabilities = known
    found = choose_strength(truth, probabilities, np.zeros(len(truth), int), PRIORS, LABELS)
    assert (found.strength, found.cross_validated) == (0, found.unadjusted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "separation", "share"),
    [("macro_f1", 1.0, 0.97), ("macro_f1", 1.5, 0.69), ("accuracy", 1.0, 0.06), ("accuracy", 2.5, 0.21)],
)
def test_the_more_there_is_to_gain_the_more_often_a_strength_is_kept(metric, separation, share):
    kept = []
    for seed in range(100):
        truth, likelihoods, dialogues = draw_dialogues(PRIORS, 100, 12, seed, separation)
        found = choose_strength(truth, posterior(likelihoods, PRIORS), dialogues, PRIORS, LABELS, metric)
        kept.append(found.strength > 0)
    assert np.mean(kept) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize(
    ("truth", "predicted"), [([0, 1, 2], [0, 1, 2]), ([0, 0, 1], [3, 3, 3])], ids=["certain", "one class predicted"]
)
def test_certain_probabilities_of_fewer_texts_than_classes_stay_as_they_are(truth, predicted):
    certain = np.eye(5, dtype=np.float32)[predicted]
    found = choose_strength(np.array(truth), certain, np.arange(3), PRIORS, LABELS)
    assert found.strength == 0
    assert (found.probabilities == certain).all()

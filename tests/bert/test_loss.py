"""The loss of a text against its formula, and where floats end."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bertgrid_tf.bert.loss import per_example_loss

CLASSES = 3
LOGITS = arrays(np.float32, (4, CLASSES), elements=st.floats(-8, 8, width=32))
TARGETS = arrays(np.float32, (4, CLASSES), elements=st.floats(0, 3, width=32))
GAMMA = st.sampled_from([0.0, 0.3, 1.0, 2.0, 5.0])


def losses_and_slopes(logits: np.ndarray, targets: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """The losses [texts] and their derivatives by the logits [texts, classes]."""
    given = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(given)
        losses = per_example_loss(given, tf.constant(targets), tf.constant(gamma))
    return losses.numpy(), tape.gradient(losses, given).numpy()


def by_formula(logits: np.ndarray, targets: np.ndarray, gamma: float) -> np.ndarray:
    """In float64, from the probabilities."""
    powers = np.exp(logits.astype(np.float64))
    p = powers / powers.sum(axis=1, keepdims=True)
    return -(targets * (1 - p) ** gamma * np.log(p)).sum(axis=1)


@given(LOGITS, TARGETS, GAMMA)
def test_it_is_the_focal_loss_of_every_class_times_its_target(logits, targets, gamma):
    losses, slopes = losses_and_slopes(logits, targets, gamma)
    np.testing.assert_allclose(losses, by_formula(logits, targets, gamma), rtol=1e-4, atol=1e-4)
    for column, step in enumerate(1e-4 * np.eye(CLASSES)):
        above, below = (by_formula(logits + sign * step, targets, gamma) for sign in (1, -1))
        np.testing.assert_allclose(slopes[:, column], (above - below) / 2e-4, rtol=1e-3, atol=1e-3)


@given(LOGITS, arrays(np.int32, 4, elements=st.integers(0, CLASSES - 1)), GAMMA)
def test_label_ids_are_one_target_each_and_plain_whatever_gamma_is(logits, labels, gamma):
    plain = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    np.testing.assert_array_equal(per_example_loss(tf.constant(logits), tf.constant(labels), tf.constant(gamma)), plain)
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
    losses, slopes = losses_and_slopes(logits, one_hot, 0.0)
    np.testing.assert_allclose(losses, plain, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(slopes, tf.nn.softmax(logits) - one_hot, atol=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 0.5, 1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [0.0, 5.0, 15.0, 17.0, 90.0, 1e4, 1e30])
def test_a_text_that_is_quite_sure_or_quite_wrong_has_a_finite_loss_and_slope(size, gamma):
    logits = np.array([[size, 0, 0], [0, size, 0]], np.float32)
    losses, slopes = losses_and_slopes(logits, np.eye(CLASSES, dtype=np.float32)[[0, 0]], gamma)
    assert np.isfinite(losses).all() and np.isfinite(slopes).all()
    assert losses[1] == pytest.approx(by_formula(logits, np.eye(3)[[0, 0]], gamma)[1] if size < 90 else size, rel=1e-4)
    # The sure one is left alone; the wrong one is pulled as by cross-entropy.
    if size >= 17:
        np.testing.assert_allclose(slopes, [[0, 0, 0], [-1, 1, 0]], atol=1e-5)


def test_the_greater_gamma_is_the_less_counts_what_is_known_already():
    logits, targets = np.array([[3, 0, 0], [0, 3, 0]], np.float32), np.eye(CLASSES, dtype=np.float32)[[0, 0]]
    sure, wrong = zip(*(losses_and_slopes(logits, targets, gamma)[0] for gamma in (0.0, 1.0, 2.0)), strict=True)
    assert sure[0] > 5 * sure[1] > 25 * sure[2]
    assert wrong[2] > 0.8 * wrong[0]

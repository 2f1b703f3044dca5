import numpy as np
import tensorflow as tf
import tf_keras

from bertgrid_tf.bert.dropout import DropoutKey


def masks(seed: int, step: int) -> list[np.ndarray]:
    """What two dropout layers do to ones."""
    model = tf_keras.Sequential([tf_keras.layers.Dropout(0.5), tf_keras.layers.Dropout(0.5)])
    key = DropoutKey(model)
    key.seed(seed)
    key.set_step(tf.constant(step))
    return [layer(tf.ones([8, 50]), training=True).numpy() for layer in model.layers]


def test_masks_are_a_function_of_seed_step_and_layer():
    np.testing.assert_array_equal(masks(1, 5), masks(1, 5))
    one, other_layer = masks(1, 5)
    assert (one != other_layer).any()
    assert (one != masks(1, 6)[0]).any()
    assert (one != masks(2, 5)[0]).any()


def test_the_kept_share_is_the_rate_s_and_is_scaled():
    one = masks(3, 0)[0]
    assert set(np.unique(one)) == {0.0, 2.0}
    assert 0.4 < (one > 0).mean() < 0.6


def test_nothing_is_dropped_outside_training():
    model = tf_keras.Sequential([tf_keras.layers.Dropout(0.5)])
    DropoutKey(model)
    assert (model(tf.ones([2, 3]), training=False).numpy() == 1).all()

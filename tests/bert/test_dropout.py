import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from families import RELATIVES, Family
from tiny_bert import LABELS, without_dropout

from bertgrid_tf.bert.checkpoint import load
from bertgrid_tf.bert.dropout import DropoutKey
from bertgrid_tf.bert.families import FAMILIES


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


@pytest.mark.parametrize("family", RELATIVES, ids=lambda family: family.name)
def test_the_layers_of_a_place_have_the_rate_of_the_run_and_the_others_their_own(family: Family):
    model = family.classifier(num_hidden_layers=2)
    key = DropoutKey(model)
    parts = FAMILIES[model.config.model_type]
    attention = [
        parts.layer.of(layer).weights_dropout for layer in parts.layers(getattr(model, model.base_model_prefix))
    ]
    classifier = parts.head.of(model).dropout

    def dropped() -> dict[str, set[float]]:
        key.set_step(tf.constant(1))
        shares: dict[str, set[float]] = {"hidden": set(), "attention": set(), "classifier": set()}
        for layer in key._layers:
            place = "classifier" if layer is classifier else "attention" if layer in attention else "hidden"
            shares[place].add(float(tf.reduce_mean(tf.cast(layer(tf.ones([64, 64]), training=True) == 0, tf.float32))))
        return shares

    before = dropped()
    key.set_rates({"hidden": 0.5, "attention": 0.3})
    assert all(abs(share - 0.5) < 0.05 for share in dropped()["hidden"])
    assert all(abs(share - 0.3) < 0.05 for share in dropped()["attention"])
    assert dropped()["classifier"] == before["classifier"]
    key.set_rates({"classifier": 0.7})
    assert all(abs(share - 0.7) < 0.05 for share in dropped()["classifier"])
    assert dropped() == before | {"classifier": dropped()["classifier"]}
    key.set_rates({})
    assert dropped() == before


def test_a_layer_that_keras_leaves_out_drops_once_the_traces_are_made_anew(texts):
    model = without_dropout(load("scratch:1x32", LABELS, texts=texts)).model
    key = DropoutKey(model)
    ones = tf.ones([8, 50])
    assert not key.set_rates({"hidden": 0.0})
    assert key.set_rates({"hidden": 0.5})
    assert (model.bert.embeddings.dropout(ones, training=True).numpy() == 0).any()
    assert not key.set_rates({"hidden": 0.4})
    assert not key.set_rates({})
    # Another key of the same model knows the checkpoint's rate all the same.
    DropoutKey(model)
    assert (model.bert.embeddings.dropout(ones, training=True).numpy() == 1).all()

"""Dropout as a function of seed, step, layer, call and replica alone, at rates that differ from run to run.

Keras draws masks from a global generator: two runs in one process differ, reseeding retraces every function, and a
resumed run continues with other masks. Stateless masks keyed by the step have none of these faults. Each replica draws
masks for its own texts, so that another number of replicas is another draw, as another seed is.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from transformers.models.deberta.modeling_tf_deberta import TFDebertaStableDropout
from transformers.models.deberta_v2.modeling_tf_deberta_v2 import TFDebertaV2StableDropout

from bertgrid_tf.bert.families import FAMILIES

# DeBERTa's layers draw from the global generator in a method of their own.
_KINDS = (tf_keras.layers.Dropout, TFDebertaStableDropout, TFDebertaV2StableDropout)


class DropoutKey:
    """The seed and step from which the Dropout layers of a model draw their masks, and their rates."""

    def __init__(self, model: Any) -> None:
        self._key = tf.Variable([0, 0], dtype=tf.int32, trainable=False)
        self._layers = [layer for layer in model._flatten_layers() if isinstance(layer, _KINDS)]
        self._places = _places(model, self._layers)
        self._masks = [_KeyedMasks(self._key, index, len(self._layers)) for index in range(len(self._layers))]
        for layer, masks in zip(self._layers, self._masks, strict=True):
            masks.set_rate(_own_rate(layer))
            if isinstance(layer, tf_keras.layers.Dropout):
                layer._random_generator = masks
            else:
                layer.xdropout = masks.dropout

    def seed(self, seed: int) -> None:
        """Start a run; near seeds give unrelated masks."""
        self._key.assign([_spread(seed), 0])

    def set_rates(self, rates: Mapping[str, float]) -> bool:
        """Set the rates of a run.

        Args:
            rates: Rates of the "hidden", "attention" and "classifier" layers of one of the `families`; others keep the
                checkpoint's.

        Returns:
            Whether a layer drops now that Keras has left out of every trace, as it does where the checkpoint's rate is
            0, so that these traces have to be made anew.
        """
        left_out = False
        for layer, place, masks in zip(self._layers, self._places, self._masks, strict=True):
            masks.set_rate(rate := rates.get(place, _own_rate(layer)))
            if rate and getattr(layer, "rate", rate) == 0:
                layer.rate, left_out = None, True
        return left_out

    def set_step(self, step: tf.Tensor, micro_batch: tf.Tensor | int = 0) -> None:
        """Choose the masks of a step and micro-batch, int32 scalars; traced functions may call this."""
        # The sign bit and the next ten are free: no run has 2^20 steps.
        self._key.assign(tf.stack([self._key[0], step + micro_batch * 2**20]))
        for masks in self._masks:
            masks.calls.clear()


def _places(model: Any, layers: Sequence[Any]) -> list[str]:
    """Return where each Dropout layer stands: "hidden", "attention" or "classifier"; "" in no family's model."""
    config = getattr(model, "config", None)
    if config is None or config.model_type not in FAMILIES:
        return [""] * len(layers)
    family = FAMILIES[config.model_type]
    places = {id(family.head.of(model).dropout): "classifier"}
    for layer in family.layers(getattr(model, model.base_model_prefix)):
        places[id(family.layer.of(layer).weights_dropout)] = "attention"
    return [places.get(id(layer), "hidden") for layer in layers]


def _own_rate(layer: Any) -> float:
    """Return the rate that the checkpoint has for a Dropout layer; None stands for 0 there (`DropoutKey.set_rates`)."""
    return (layer.rate if isinstance(layer, tf_keras.layers.Dropout) else layer.drop_prob) or 0.0


class _KeyedMasks:
    """A replacement for the random generator of one Keras Dropout layer.

    Attributes:
        calls: Calls of each replica since the step was chosen: ALBERT's shared layers have many in a forward pass.
    """

    def __init__(self, key: tf.Variable, layer: int, layers: int) -> None:
        self._key = key
        self._layer = layer
        self._layers = layers
        # Variables, so that one trace serves every rate; of float32, which a GPU can hold.
        self._least_kept, self._factor = (tf.Variable(0.0, trainable=False) for _ in range(2))
        self.calls = Counter[int]()

    def set_rate(self, rate: float) -> None:
        """Set the share of places that are dropped, to the nearest of 2^16 steps."""
        dropped = min(round(rate * 2**16), 2**16 - 1)
        self._least_kept.assign(dropped - 2**15)
        self._factor.assign(2**16 / (2**16 - dropped))

    def _maybe_init(self) -> None:
        """Do nothing where Keras would build the generator's state."""

    def dropout(self, inputs: tf.Tensor, rate: float | None = None, noise_shape: Any = None) -> tf.Tensor:
        """Drop places at the rate that was set, whatever Keras's own is."""
        replica = int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))
        # Layers are numbered through all replicas, so that no two share a mask. The key has no copy on each device.
        number, call = replica * self._layers + self._layer, self.calls[replica]
        self.calls[replica] += 1
        seed = self._key.read_value() + tf.constant([_spread(number, call), 0])
        shape = tf.shape(inputs) if noise_shape is None else tf.convert_to_tensor(noise_shape)
        return inputs * _mask(seed, shape, self._least_kept.read_value(), self._factor.read_value(), inputs.dtype)


def _mask(seed: tf.Tensor, shape: tf.Tensor, least_kept: tf.Tensor, factor: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Draw a mask: `factor` where 16 random bits, as a signed number, are at least `least_kept`, elsewhere 0.

    16 random bits a place are half of TensorFlow's own, and take half the time.
    """
    count = tf.reduce_prod(shape)
    pairs = tf.random.stateless_uniform([(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32)
    bits = tf.reshape(tf.bitcast(pairs, tf.int16), [-1])[:count]
    kept = tf.cast(bits >= tf.cast(least_kept, tf.int16), dtype)
    return tf.reshape(kept, shape) * tf.cast(factor, dtype)


def _spread(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 2)

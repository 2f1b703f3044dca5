"""Dropout as a function of seed, step, layer, call and replica alone.

Keras draws masks from a global generator: two runs in one process differ, reseeding retraces every function, and a
resumed run continues with other masks. Stateless masks keyed by the step have none of these faults. Each replica draws
masks for its own texts, so that another number of replicas is another draw, as another seed is.
"""

from collections import Counter
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from transformers.models.deberta.modeling_tf_deberta import TFDebertaStableDropout
from transformers.models.deberta_v2.modeling_tf_deberta_v2 import TFDebertaV2StableDropout

# DeBERTa's layers draw from the global generator in a method of their own.
_KINDS = (tf_keras.layers.Dropout, TFDebertaStableDropout, TFDebertaV2StableDropout)


class DropoutKey:
    """The seed and step from which the Dropout layers of a model draw their masks."""

    def __init__(self, model: Any) -> None:
        self._key = tf.Variable([0, 0], dtype=tf.int32, trainable=False)
        layers = [layer for layer in model._flatten_layers() if isinstance(layer, _KINDS)]
        self._masks = [_KeyedMasks(self._key, index, len(layers)) for index in range(len(layers))]
        for layer, masks in zip(layers, self._masks, strict=True):
            if isinstance(layer, tf_keras.layers.Dropout):
                layer._random_generator = masks
            else:
                layer.xdropout = partial(masks.dropout, rate=layer.drop_prob)

    def seed(self, seed: int) -> None:
        """Start a run; near seeds give unrelated masks."""
        self._key.assign([_spread(seed), 0])

    def set_step(self, step: tf.Tensor, micro_batch: tf.Tensor | int = 0) -> None:
        """Choose the masks of a step and micro-batch, int32 scalars; traced functions may call this."""
        # The sign bit and the next ten are free: no run has 2^20 steps.
        self._key.assign(tf.stack([self._key[0], step + micro_batch * 2**20]))
        for masks in self._masks:
            masks.calls.clear()


class _KeyedMasks:
    """A replacement for the random generator of one Keras Dropout layer.

    Attributes:
        calls: Calls of each replica since the step was chosen: ALBERT's shared layers have many in a forward pass.
    """

    def __init__(self, key: tf.Variable, layer: int, layers: int) -> None:
        self._key = key
        self._layer = layer
        self._layers = layers
        self.calls = Counter[int]()

    def _maybe_init(self) -> None:
        """Do nothing where Keras would build the generator's state."""

    def dropout(self, inputs: tf.Tensor, rate: float, noise_shape: Any = None) -> tf.Tensor:
        replica = int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))
        # Layers are numbered through all replicas, so that no two share a mask. The key has no copy on each device.
        number, call = replica * self._layers + self._layer, self.calls[replica]
        self.calls[replica] += 1
        seed = self._key.read_value() + tf.constant([_spread(number, call), 0])
        shape = tf.shape(inputs) if noise_shape is None else tf.convert_to_tensor(noise_shape)
        return inputs * _mask(seed, shape, rate, inputs.dtype)


def _mask(seed: tf.Tensor, shape: tf.Tensor, rate: float, dtype: tf.DType) -> tf.Tensor:
    """Draw a mask: 0 at a share `rate` of all places, to the nearest of 2^16 steps; elsewhere a factor with mean 1.

    16 random bits a place are half of TensorFlow's own, and take half the time.
    """
    count = tf.reduce_prod(shape)
    pairs = tf.random.stateless_uniform([(count + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32)
    bits = tf.reshape(tf.bitcast(pairs, tf.int16), [-1])[:count]
    dropped = min(round(rate * 2**16), 2**16 - 1)
    kept = tf.cast(bits >= tf.constant(dropped - 2**15, tf.int16), dtype)
    return tf.reshape(kept, shape) * tf.constant(2**16 / (2**16 - dropped), dtype)


def _spread(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 2)

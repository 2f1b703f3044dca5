"""Encoded texts ▶ a tf.data pipeline of padded batches with their masks."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.encode import Encoded

# As many batches are sorted together, as in transformers' LengthGroupedSampler.
GROUPED_BATCHES = 50


class Batch(NamedTuple):
    """One padded batch; every tensor is int32.

    Attributes:
        ids: token ids [batch, length], where length is that of the batch's longest text.
        types: token types [batch, length].
        mask: 1 on tokens, 0 on padding [batch, length].
        labels: label ids [batch].
    """

    ids: tf.Tensor
    types: tf.Tensor
    mask: tf.Tensor
    labels: tf.Tensor


def training_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, grouped: bool) -> np.ndarray:
    """The order in which one epoch visits its texts: a permutation, int64 [n], decided by seed and epoch alone.

    `grouped` sorts every 50 batches' worth of shuffled texts by length and shuffles the batches again: less
    padding, but a batch is no longer a uniform draw.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths))
    if not grouped:
        return order
    span = GROUPED_BATCHES * batch_size
    spans = [order[start : start + span] for start in range(0, len(order), span)]
    order = np.concatenate([part[np.argsort(-lengths[part], kind="stable")] for part in spans])
    full = len(order) // batch_size * batch_size
    batches = order[:full].reshape(-1, batch_size)
    return np.concatenate([random.permutation(batches).ravel(), order[full:]])


def pipeline(encoded: Encoded, labels: np.ndarray, order: np.ndarray, batch_size: int) -> tf.data.Dataset:
    """The texts at `order`, `batch_size` at a time, each batch padded to its own longest text.

    Args:
        encoded: n texts.
        labels: label ids, int32 [n].
        order: indices into the texts, int64 [m].
        batch_size: the last batch may be smaller.

    Returns:
        a dataset of `Batch`.
    """
    ids = tf.RaggedTensor.from_row_splits(encoded.ids, encoded.starts, validate=False)
    types = tf.RaggedTensor.from_row_splits(encoded.types, encoded.starts, validate=False)
    targets = tf.constant(labels, tf.int32)

    def padded(rows: tf.Tensor) -> Batch:
        tokens = tf.gather(ids, rows)
        return Batch(
            ids=tokens.to_tensor(encoded.pad_id),
            types=tf.gather(types, rows).to_tensor(0),
            mask=tf.sequence_mask(tokens.row_lengths(), dtype=tf.int32),
            labels=tf.gather(targets, rows),
        )

    return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).map(padded).prefetch(tf.data.AUTOTUNE)

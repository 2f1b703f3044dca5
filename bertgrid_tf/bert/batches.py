"""Encoded texts ▶ a tf.data pipeline of padded batches with their masks, one for each replica."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.encode import EncodedTexts

# As many batches are sorted together, as in transformers' LengthGroupedSampler.
GROUPED_BATCHES = 50


class Batch(NamedTuple):
    """The padded texts that one replica gets of a batch; all of the batch where there is one replica.

    Attributes:
        ids: token ids, int32 [texts, length], where length is that of the longest of these texts.
        types: token types, int32 [texts, length].
        mask: 1 on tokens, 0 on padding, int32 [texts, length].
        labels: label ids, int32 [texts], or targets, float32 [texts, classes] (`bert.loss`).
        share: these texts' share in all of the batch's, float32 scalar; 0 where none was left for this replica, so
            that the batch's last text stands in.
    """

    ids: tf.Tensor
    types: tf.Tensor
    mask: tf.Tensor
    labels: tf.Tensor
    share: tf.Tensor


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


class ReplicaShares(NamedTuple):
    """Which of its batch's texts each replica gets, for every step of an epoch.

    Attributes:
        starts: where in the order a replica's texts begin, int64 [steps, replicas].
        stops: where they end, int64 [steps, replicas].
        shares: their share in all of the batch's texts, float32 [steps, replicas].
    """

    starts: np.ndarray
    stops: np.ndarray
    shares: np.ndarray


def equal_sizes(texts: int, batch_size: int) -> np.ndarray:
    """The sizes of an epoch's batches, int64 [steps]; the last may be smaller."""
    return np.minimum(batch_size, texts - np.arange(0, texts, batch_size))


def sizes_within(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """The sizes of batches that hold at most `tokens` with their padding, or a single text, int64 [steps].

    Args:
        lengths: of the texts in their order, longest first, int64 [n].
        tokens: texts times the longest of them.
    """
    sizes: list[int] = []
    done = 0
    while done < len(lengths):
        sizes.append(min(max(tokens // int(lengths[done]), 1), len(lengths) - done))
        done += sizes[-1]
    return np.array(sizes, np.int64)


def divide(sizes: np.ndarray, replicas: int) -> ReplicaShares:
    """Divides every batch as evenly as can be, the first replicas having one text more where it does not come out even.

    A replica for which none is left gets the batch's last text with a share of 0: no text at all would leave the
    model's reshapes without a length to infer.
    """
    firsts = (np.cumsum(sizes) - sizes)[:, None]
    own = sizes[:, None] // replicas + (np.arange(replicas) < sizes[:, None] % replicas)
    stops = firsts + own.cumsum(axis=1)
    return ReplicaShares(stops - np.maximum(own, 1), stops, (own / sizes[:, None]).astype(np.float32))


def pipeline(
    encoded: EncodedTexts, labels: np.ndarray, order: np.ndarray, sizes: np.ndarray, replicas: int = 1
) -> tf.data.Dataset:
    """The texts at `order` in batches of `sizes`, each divided among the replicas in that order.

    Each replica's texts are padded to their own longest. Batches are prefetched to the host's memory and not to the
    device's, since a batch is token ids alone: some tens of kB.

    Args:
        encoded: n texts.
        labels: label ids, int32 [n], or targets, float32 [n, classes].
        order: indices into the texts, int64 [m].
        sizes: texts of every batch, for all replicas together, int64 [steps].
        replicas: how many share a batch.

    Returns:
        a dataset of tuples, a `Batch` for each replica.
    """
    ids = tf.RaggedTensor.from_row_splits(encoded.ids, encoded.starts, validate=False)
    types = tf.RaggedTensor.from_row_splits(encoded.types, encoded.starts, validate=False)
    targets = tf.constant(labels, tf.int32 if labels.ndim == 1 else tf.float32)
    places = tf.constant(order, tf.int64)

    def padded(rows: tf.Tensor, share: tf.Tensor) -> Batch:
        tokens = tf.gather(ids, rows)
        return Batch(
            ids=tokens.to_tensor(encoded.pad_id),
            types=tf.gather(types, rows).to_tensor(0),
            mask=tf.sequence_mask(tokens.row_lengths(), dtype=tf.int32),
            labels=tf.gather(targets, rows),
            share=share,
        )

    def divided(starts: tf.Tensor, stops: tf.Tensor, shares: tf.Tensor) -> tuple[Batch, ...]:
        return tuple(padded(places[starts[r] : stops[r]], shares[r]) for r in range(replicas))

    steps = tf.data.Dataset.from_tensor_slices(tuple(divide(sizes, replicas)))
    return steps.map(divided).prefetch(tf.data.AUTOTUNE)

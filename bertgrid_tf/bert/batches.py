"""Encoded texts ▶ a tf.data pipeline of padded batches with their masks, one for each replica."""

from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bertgrid_tf.bert.encode import EncodedTexts

# Batches that are sorted together, as in transformers' LengthGroupedSampler.
GROUPED_BATCHES = 50
# Token ids of a batch are some tens of kB, and are made in a hundredth of a step's time.
PREFETCHED = 2


class Batch(NamedTuple):
    """The padded texts of one replica's share of a batch.

    Attributes:
        ids: Token ids, int32 [texts, length], where length is that of the longest of these texts.
        types: Token types, int32 [texts, length].
        mask: 1 on tokens, 0 on padding, int32 [texts, length].
        labels: Label ids, int32 [texts], or targets, float32 [texts, classes] (`bert.loss`).
        share: Share of the batch's texts, float32 scalar; 0 for the copy of the batch's last text that fills an empty
            share.
    """

    ids: tf.Tensor
    types: tf.Tensor
    mask: tf.Tensor
    labels: tf.Tensor
    share: tf.Tensor


def training_order(lengths: np.ndarray, batch_size: int, seed: int, epoch: int, grouped: bool) -> np.ndarray:
    """Draw the order of the texts in one epoch: a permutation, int64 [n], decided by seed and epoch alone.

    `grouped` sorts every 50 batches' worth of shuffled texts by length and shuffles the resulting batches: less
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


def equal_sizes(texts: int, batch_size: int) -> np.ndarray:
    """Return the sizes of an epoch's batches, int64 [steps]; the last may be smaller."""
    return np.minimum(batch_size, texts - np.arange(0, texts, batch_size))


def sizes_within(lengths: np.ndarray, tokens: int) -> np.ndarray:
    """Return the sizes of batches of at most `tokens`, padding included, or of a single text, int64 [steps].

    Args:
        lengths: Lengths of the texts in tokens, longest first, int64 [n].
        tokens: Largest product of a batch's texts and its longest length.

    Example:
        >>> sizes_within(np.array([9, 6, 3, 3]), tokens=10).tolist()
        [1, 1, 2]
    """
    sizes: list[int] = []
    done = 0
    while done < len(lengths):
        sizes.append(min(max(tokens // int(lengths[done]), 1), len(lengths) - done))
        done += sizes[-1]
    return np.array(sizes, np.int64)


def divide(sizes: np.ndarray, replicas: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Divide every batch among the replicas, whose numbers of texts differ by at most 1.

    An empty share is filled with the batch's last text: the model's reshapes cannot infer the length of no text.

    Args:
        sizes: Texts of every batch, int64 [steps].
        replicas: Number of replicas.

    Returns:
        Indices of a share's first text and after its last one, int64 [steps, replicas] each, and the share of the
        batch's texts, float32 [steps, replicas], which is 0 where the share was empty.
    """
    firsts = (np.cumsum(sizes) - sizes)[:, None]
    own = sizes[:, None] // replicas + (np.arange(replicas) < sizes[:, None] % replicas)
    stops = firsts + own.cumsum(axis=1)
    return stops - np.maximum(own, 1), stops, (own / sizes[:, None]).astype(np.float32)


def pipeline(
    encoded: EncodedTexts, labels: np.ndarray, order: np.ndarray, sizes: np.ndarray, replicas: int = 1
) -> Iterator[tuple[Batch, ...]]:
    """Make padded batches of texts, each divided among the replicas (`divide`), while others are computed.

    Each replica's texts are padded to their own longest. Of texts on disk, those of a batch alone are read. Batches are
    prefetched to the host's memory alone: token ids are some tens of kB.

    Args:
        encoded: The texts.
        labels: Label ids, int32 [n], or targets, float32 [n, classes].
        order: Indices of the texts in their order, int64 [m].
        sizes: Texts of every batch, for all replicas together, int64 [steps].
        replicas: Number of replicas.

    Yields:
        A tuple with a `Batch` for each replica.
    """
    targets = labels.astype(np.int32 if labels.ndim == 1 else np.float32, copy=False)
    dataset = _dataset(targets.dtype, targets.shape[1:], replicas)
    with dataset.lock:
        dataset.source.append(padded_batches(encoded, targets, order, sizes, replicas))
        batches = iter(dataset.batches)
        try:
            first = next(batches, None)  # with which it takes the source
        finally:
            dataset.source.clear()  # lest a pass that was interrupted here leave it to the next
    if first is not None:
        yield first
        yield from batches


class _Dataset(NamedTuple):
    """A dataset of batches, and where each pass over it finds the batches that it reads."""

    batches: tf.data.Dataset
    source: list[Iterator[tuple[Batch, ...]]]
    lock: Lock


@cache
def _dataset(dtype: np.dtype, shape: tuple[int, ...], replicas: int) -> _Dataset:
    """Trace a dataset once for all passes, each of which would take 20 ms for that, twice an epoch."""
    source: list[Iterator[tuple[Batch, ...]]] = []
    tokens, own = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None, *shape], dtype)
    signature = (Batch(tokens, tokens, tokens, own, tf.TensorSpec([], tf.float32)),) * replicas
    options = tf.data.Options()
    # TensorFlow's autotuner wakes after 10 ms, 20 ms, 40 ms, …, and the end of one pass in three waits for it (2.20).
    options.autotune.enabled = False
    dataset = tf.data.Dataset.from_generator(source.pop, output_signature=signature)
    return _Dataset(dataset.prefetch(PREFETCHED).with_options(options), source, Lock())


def padded_batches(
    encoded: EncodedTexts, labels: np.ndarray, order: np.ndarray, sizes: np.ndarray, replicas: int = 1
) -> Iterator[tuple[Batch, ...]]:
    """Yield the batches of `pipeline` as NumPy's arrays, of labels int32 or targets float32."""
    for firsts, stops, shares in zip(*divide(sizes, replicas), strict=True):
        yield tuple(
            _padded(encoded, labels, order[first:stop], share)
            for first, stop, share in zip(firsts, stops, shares, strict=True)
        )


def _padded(encoded: EncodedTexts, targets: np.ndarray, rows: np.ndarray, share: np.float32) -> Batch:
    taken = encoded.take(rows)
    mask = np.arange(taken.lengths.max()) < taken.lengths[:, None]
    ids, types = np.full(mask.shape, encoded.pad_id, np.int32), np.zeros(mask.shape, np.int32)
    ids[mask], types[mask] = taken.ids, taken.types
    return Batch(ids, types, mask.astype(np.int32), targets[rows], share)

"""Texts that a BERT of one layer can learn, trials of it, and the dimensions of bert-base-cased."""

import numpy as np
import tf_keras

from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.encode import EncodedDataset, encode
from bertgrid_tf.hyperparameters import Hyperparameters, Value
from bertgrid_tf.trial_config import TrialConfig

BASE = Dimensions(
    layers=12, width=768, heads=12, intermediate=3072, vocabulary=28996, positions=512, types=2, classes=8
)
LABELS = ("bad", "good")
WORDS = {"bad": ["awful", "boring", "sad"], "good": ["great", "lovely", "fun"]}


def sentences(count: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Sentences of 3 to 12 words with one that gives the class away; label ids int32 [count]."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count).astype(np.int32)
    texts = []
    for label in labels:
        words = list(random.choice(["the", "film", "was", "a", "story", "of", "it"], random.integers(2, 12)))
        words.insert(int(random.integers(0, len(words))), str(random.choice(WORDS[LABELS[label]])))
        texts.append(" ".join(words))
    return texts, labels


def labelled(checkpoint: Checkpoint, count: int, seed: int) -> EncodedDataset:
    texts, labels = sentences(count, seed)
    return EncodedDataset(encode(checkpoint.tokenizer, [((text,), 0) for text in texts], 16), labels)


def trial(epochs: int = 3, stop_epoch: int | None = None, seed: int = 5, **hyperparameters: Value) -> TrialConfig:
    """The configuration of a trial that trains `epochs`, or stops at `stop_epoch` of them, in batches of 8 texts."""
    values = {"learning_rate": 1e-3, "batch_size": 8} | hyperparameters
    return TrialConfig(Hyperparameters.model_validate(values), epochs, stop_epoch or epochs, seed)


OTHER = trial(1, learning_rate=1e-2, seed=9)
"""A trial that leaves other weights in the model."""
UNLIKE = trial(
    2,
    seed=3,
    learning_rate=1e-2,
    batch_size=5,
    warmup_ratio=0.5,
    lr_schedule="constant",
    weight_decay=0.1,
    layer_decay=0.7,
    hidden_dropout=0.3,
    attention_dropout=0.2,
    classifier_dropout=0.0,
    max_grad_norm=2.0,
    group_by_length="always",
)
"""A trial that differs in every hyperparameter of the training step."""


def without_dropout(checkpoint: Checkpoint) -> Checkpoint:
    """Turn off dropout, whose draw depends on replicas and micro-batches."""
    for layer in checkpoint.model._flatten_layers():
        if isinstance(layer, tf_keras.layers.Dropout):
            layer.rate = 0.0
    return checkpoint

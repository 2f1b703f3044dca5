"""Texts that a BERT of one layer can learn; and how large bert-base-cased is."""

import numpy as np

from bertgrid_tf.bert.checkpoint import Checkpoint
from bertgrid_tf.bert.dimensions import Dimensions
from bertgrid_tf.bert.encode import encode
from bertgrid_tf.bert.trainer import EncodedDataset

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

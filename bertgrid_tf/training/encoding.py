"""Dialogues ▶ encoded inputs, in the layout that the hyperparameters ask for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from bertgrid_tf.bert.encode import EncodedDataset, EncodedTexts, Segmented, encode, full_lengths, joined
from bertgrid_tf.bert.tokenizer import load_tokenizer
from bertgrid_tf.corpus import (
    NONE_MARKER,
    SAYS_MARKER,
    Corpus,
    Dialogue,
    Layout,
    format_inputs,
    speaker_counts,
    texts_of,
    utterances,
)
from bertgrid_tf.corpus.balance import class_weights
from bertgrid_tf.corpus.votes import vote_shares
from bertgrid_tf.hyperparameters import Hyperparameters
from bertgrid_tf.training.resampling import training_indices
from bertgrid_tf.trial_config import TrialConfig

SAMPLED_UTTERANCES = 2_000
"""Utterances of a sample, in whole dialogues; its mean length is within 2 % of the whole split's."""
LAYOUT = ("model", "markers", "context", "speaker_format", "min_speaker_count", "max_length", "truncation")
"""The hyperparameters that an input's token ids depend on."""
BUILT_BY = ("model", "markers", "precision", "frozen_layers", "pooling")
"""The hyperparameters that a trainer is built for; it serves all values of the others."""


def encode_dialogues(
    tokenizer: Any,
    dialogues: Sequence[Dialogue],
    hyperparameters: Hyperparameters,
    speakers: Mapping[str, int],
    pieces: Mapping[str, list[int]] | None = None,
) -> EncodedTexts:
    """Encode every utterance in the layout of the hyperparameters.

    Args:
        tokenizer: The tokenizer of the checkpoint.
        dialogues: Dialogues of any split, labelled or not.
        hyperparameters: The hyperparameters, of which `LAYOUT` counts.
        speakers: The training split's `corpus.speaker_counts`.
        pieces: The ids of texts that have been tokenised already.
    """
    inputs = _inputs(dialogues, hyperparameters, speakers)
    return encode(tokenizer, inputs, hyperparameters.max_length, pieces, hyperparameters.truncation)


def _inputs(
    dialogues: Sequence[Dialogue], hyperparameters: Hyperparameters, speakers: Mapping[str, int]
) -> Iterator[Segmented]:
    layout = Layout(hyperparameters.context, hyperparameters.speaker_format, hyperparameters.min_speaker_count)
    for dialogue in dialogues:  # One at a time, since the inputs of a corpus take more memory than it does.
        for example in format_inputs([dialogue], layout, speakers):
            yield example.segments, example.focus


def marker_tokens(hyperparameters: Hyperparameters) -> tuple[str, ...]:
    """Return the markers that are added tokens."""
    return (NONE_MARKER, SAYS_MARKER) if hyperparameters.markers == "tokens" else ()


def training_texts(corpus: Corpus) -> Iterable[str]:
    """Yield the texts on which the vocabulary of a `scratch` model is trained."""
    return texts_of(corpus.splits["train"])


def token_lengths(corpus: Corpus, hyperparameters: Hyperparameters) -> dict[str, np.ndarray]:
    """Count the tokens of every input before truncation: int64 [utterances], by split."""
    tokenizer = load_tokenizer(hyperparameters.model, training_texts(corpus), marker_tokens(hyperparameters))
    speakers = speaker_counts(corpus.splits["train"])
    return {
        split: full_lengths(tokenizer, _inputs(dialogues, hyperparameters, speakers))
        for split, dialogues in corpus.splits.items()
    }


class CorpusEncoder:
    """Encodes the splits of one corpus, once for each layout, and keeps the latest."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self._speakers = speaker_counts(corpus.splits["train"])
        self._encoded = lru_cache(maxsize=4)(self._encode_split)
        self._tokenizer = lru_cache(maxsize=None)(self._load_tokenizer)

    def split(self, hyperparameters: Hyperparameters, split: str) -> EncodedDataset:
        """Encode a split."""
        # The layout alone is the key, so that trials of other sweeps share the encoded split.
        return self._encoded(split, tuple((name, getattr(hyperparameters, name)) for name in LAYOUT))

    def training_set(self, config: TrialConfig) -> EncodedDataset:
        """Encode the texts that a trial trains on, resampled, with the targets that their labels become.

        Votes are mixed in first, the result is smoothed (Szegedy et al. 2016, arXiv 1512.00567, section 7), and then
        weighted by class; the focal loss applies to each class of the result. The windows of a text share its weight.
        """
        hyperparameters, indices = config.hyperparameters, training_indices(self.corpus, config)
        splits = [self.split(hyperparameters, split) for split in ("train", *(["dev"] if config.with_dev else []))]
        texts = joined(split.texts for split in splits).select(indices)
        labels = np.concatenate([split.labels for split in splits])[indices]
        votes, smoothing = hyperparameters.soft_label_weight, hyperparameters.label_smoothing
        if hyperparameters.class_weights == "none" and not (votes or smoothing) and texts.windows is None:
            return EncodedDataset(texts, labels)
        targets = np.eye(len(self.corpus.labels), dtype=np.float32)[labels]
        if votes:
            targets = (1 - votes) * targets + votes * vote_shares(self.corpus, config.with_dev)[indices]
        if smoothing:
            targets = (1 - smoothing) * targets + smoothing / targets.shape[1]
        weights = class_weights(labels, hyperparameters.class_weights)
        if texts.windows is not None:  # with mean 1, as the classes' weights have
            weights = weights * (len(texts) / len(labels) / texts.windows)
            labels, targets, weights = (np.repeat(one, texts.windows, 0) for one in (labels, targets, weights))
        return EncodedDataset(texts, labels, targets * weights[:, None])

    def sample(self, hyperparameters: Hyperparameters, split: str) -> tuple[tuple[Dialogue, ...], EncodedTexts]:
        """Return a sample of a split's dialogues, and their utterances encoded."""
        dialogues = self.corpus.splits[split]
        total = sum(1 for _ in utterances(dialogues))
        sample = dialogues[:: -(-total // SAMPLED_UTTERANCES)]
        tokenizer = self._tokenizer(hyperparameters.model, marker_tokens(hyperparameters))
        return sample, encode_dialogues(tokenizer, sample, hyperparameters, self._speakers)

    def sampled_lengths(self, hyperparameters: Hyperparameters, split: str) -> pd.Series:
        """Count the tokens of a sample of a split's inputs: int64 [inputs], indexed by class and number of the text."""
        sample, encoded = self.sample(hyperparameters, split)
        classes = np.array([utterance.label or "" for utterance in utterances(sample)])
        texts = np.repeat(np.arange(len(classes)), 1 if encoded.windows is None else encoded.windows)
        return pd.Series(encoded.lengths, [classes[texts], texts])

    def _load_tokenizer(self, model: str, markers: tuple[str, ...]) -> Any:
        return load_tokenizer(model, training_texts(self.corpus), markers)

    def _encode_split(self, split: str, layout: tuple[tuple[str, Any], ...]) -> EncodedDataset:
        dialogues = self.corpus.splits[split]
        hyperparameters = Hyperparameters(**dict(layout))
        ids = {label: i for i, label in enumerate(self.corpus.labels)}
        labels = np.array([ids[utterance.label or ""] for utterance in utterances(dialogues)], np.int32)
        tokenizer = self._tokenizer(hyperparameters.model, marker_tokens(hyperparameters))
        return EncodedDataset(encode_dialogues(tokenizer, dialogues, hyperparameters, self._speakers), labels)

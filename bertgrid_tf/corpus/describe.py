"""Descriptive statistics of a corpus: classes, lengths of dialogues, lengths in tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, label_counts, utterances
from bertgrid_tf.corpus.layout import speaker_counts


@dataclass(frozen=True, slots=True)
class DialogueLengths:
    """The number of utterances per dialogue.

    Attributes:
        min: The fewest utterances.
        mean: The mean number of utterances.
        median: The median number of utterances.
        max: The most utterances.
    """

    min: int
    mean: float
    median: float
    max: int


@dataclass(frozen=True, slots=True)
class SplitDescription:
    """Descriptive statistics of one split.

    Attributes:
        dialogues: The number of dialogues; each text that stands alone is a dialogue.
        utterances: The number of utterances.
        speakers: The number of different speakers.
        empty: The number of utterances without text, or without one of a pair's.
        classes: The number of utterances of each class of the corpus, in the order of the corpus's labels.
        unlabelled: The number of utterances without a label.
        lengths: The number of utterances per dialogue.
    """

    dialogues: int
    utterances: int
    speakers: int
    empty: int
    classes: Mapping[str, int]
    unlabelled: int
    lengths: DialogueLengths


@dataclass(frozen=True, slots=True)
class TokenLengths:
    """The number of tokens per example, including special tokens, before truncation.

    Attributes:
        mean: The mean length in tokens.
        median: The median length in tokens.
        p99: The 99th percentile of the lengths in tokens.
        max: The longest length in tokens.
        max_length: The limit in tokens to which `over` refers.
        over: The share of examples longer than `max_length`, a fraction of 1.
    """

    mean: float
    median: float
    p99: float
    max: int
    max_length: int
    over: float


def describe(corpus: Corpus) -> dict[str, SplitDescription]:
    """Describe every split of a corpus."""
    return {split: _describe_split(corpus.labels, dialogues) for split, dialogues in corpus.splits.items()}


def describe_tokens(lengths: np.ndarray, max_length: int) -> TokenLengths:
    """Describe the lengths of the examples of one split.

    Args:
        lengths: The number of tokens of each example, int [examples], for at least one example.
        max_length: The limit of the model in tokens.

    Returns:
        The statistics of the lengths.
    """
    return TokenLengths(
        mean=float(np.mean(lengths)),
        median=float(np.median(lengths)),
        p99=float(np.percentile(lengths, 99)),
        max=int(np.max(lengths)),
        max_length=max_length,
        over=float(np.mean(np.asarray(lengths) > max_length)),
    )


def _describe_split(labels: tuple[str, ...], dialogues: tuple[Dialogue, ...]) -> SplitDescription:
    counts = label_counts(dialogues)
    lengths = [len(dialogue.utterances) for dialogue in dialogues]
    return SplitDescription(
        dialogues=len(dialogues),
        utterances=sum(lengths),
        speakers=len(speaker_counts(dialogues)),
        empty=sum("" in utterance.texts for utterance in utterances(dialogues)),
        classes={label: counts[label] for label in labels},
        unlabelled=counts[None],
        lengths=DialogueLengths(min(lengths), float(np.mean(lengths)), float(np.median(lengths)), max(lengths)),
    )

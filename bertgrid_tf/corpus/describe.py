"""A corpus in numbers: classes, lengths of dialogues, lengths in tokens."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, label_counts, utterances
from bertgrid_tf.corpus.layout import speaker_counts


@dataclass(frozen=True, slots=True)
class DialogueLengths:
    """Utterances per dialogue."""

    min: int
    mean: float
    median: float
    max: int


@dataclass(frozen=True, slots=True)
class SplitDescription:
    """One split in numbers.

    Attributes:
        dialogues: The number of dialogues; texts that stand alone count as one each.
        utterances: The number of utterances.
        speakers: The number of different speakers.
        empty: The number of utterances without text.
        classes: The number of utterances of each class of the corpus, in the order of its labels; 0 where the
            split has none.
        unlabelled: The number of utterances without a label.
        lengths: Utterances per dialogue.
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
    """Tokens per example, special tokens included, before any truncation.

    Attributes:
        mean: In tokens.
        median: In tokens.
        p99: The 99th percentile, in tokens.
        max: In tokens.
        max_length: The length, in tokens, that `over` compares with.
        over: The share of examples, from 0 to 1, that are longer than `max_length`.
    """

    mean: float
    median: float
    p99: float
    max: int
    max_length: int
    over: float


def describe(corpus: Corpus) -> dict[str, SplitDescription]:
    """Every split of `corpus` in numbers, in the corpus's order of splits."""
    return {split: _describe_split(corpus.labels, dialogues) for split, dialogues in corpus.splits.items()}


def describe_tokens(lengths: np.ndarray, max_length: int) -> TokenLengths:
    """Sums up the lengths of one split's examples.

    Args:
        lengths: Tokens per example, int `[examples]`, at least one example.
        max_length: In tokens.
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
        empty=sum(not utterance.text for utterance in utterances(dialogues)),
        classes={label: counts[label] for label in labels},
        unlabelled=counts[None],
        lengths=DialogueLengths(min(lengths), float(np.mean(lengths)), float(np.median(lengths)), max(lengths)),
    )

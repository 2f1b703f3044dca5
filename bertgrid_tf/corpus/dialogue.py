"""The types of a corpus: utterance, dialogue, and corpus with its splits."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bertgrid_tf.corpus.labels import label_key, spelling
from bertgrid_tf.errors import UserError

if TYPE_CHECKING:
    from bertgrid_tf.corpus.findings import Finding


@dataclass(frozen=True, slots=True)
class Utterance:
    """A text to classify: a line of a dialogue, or a text that stands alone.

    Attributes:
        text: The text; it may be empty (NSMC has empty reviews).
        label: The name of the class, or None for an unlabelled utterance.
        speaker: The name of the speaker, or None where the source names no speaker.
        votes: The raters' votes for each class, in the source's order of the classes.
        key: The source's id of the utterance, for submitting predictions.
        text_pair: The second text of a pair to classify, or None where there is one text.
    """

    text: str
    label: str | None = None
    speaker: str | None = None
    votes: tuple[int, ...] | None = None
    key: str | None = None
    text_pair: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The text, or both texts of a pair."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A sequence of utterances; a text that stands alone is a dialogue of one utterance.

    Attributes:
        utterances: The utterances, in conversational order.
    """

    utterances: tuple[Utterance, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the utterances, of a pair both."""
        return tuple([text for utterance in self.utterances for text in utterance.texts])

    @property
    def labels(self) -> tuple[str | None, ...]:
        """The labels of the utterances."""
        return tuple([utterance.label for utterance in self.utterances])


@dataclass(frozen=True)
class Corpus:
    """Labelled dialogues in splits.

    Attributes:
        name: The name of the corpus, for messages.
        labels: The class names of the training split, in the order of `sorted_labels`; the id of a class is its index.
        splits: The dialogues of "train", "dev" and, if there is one, "test", whose utterances may be unlabelled.
        findings: The findings of reading the corpus; `corpus.check_corpus` adds those about its content.

    Raises:
        UserError: On construction: train or dev is missing, a split is empty, an utterance of train or dev has no
            label, train has fewer than two classes, or another split has a label that train lacks.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Dialogue, ...]]
    findings: tuple["Finding", ...] = ()

    def __post_init__(self) -> None:
        """Check that the splits make a corpus to train and select on."""
        counts = {split: label_counts(self.splits.get(split, ())) for split in ("train", "dev", *self.splits)}
        for split, of_split in counts.items():
            if not of_split:
                raise UserError(f"{self.name}: the {split} split has no utterances; give it at least one.")
            if None in of_split and split != "test":
                raise UserError(
                    f"{self.name}: {of_split[None]} utterances of the {split} split have no label; "
                    "label them or take them out."
                )
        trained = {label for label in counts["train"] if label is not None}
        if len(trained) < 2:
            raise UserError(
                f"{self.name}: every utterance of the train split is labelled {min(trained)!r}; "
                "a classifier needs at least two classes."
            )
        if self.labels != sorted_labels(trained):
            raise ValueError(f"labels {self.labels} are not the train split's, sorted: {sorted_labels(trained)}")
        for split, of_split in counts.items():
            if unknown := sorted({label for label in of_split if label is not None} - trained):
                raise UserError(f"{self.name}: the {split} split has the label {self._not_in_train(unknown[0])}.")

    def _not_in_train(self, label: str) -> str:
        """Return a label that train lacks, with the class that it is probably meant to be."""
        meant = next((known for known in self.labels if label_key(known) == label_key(label)), None)
        if meant is not None:
            return (
                f"{spelling(label)}, which the train split spells {spelling(meant)}; give --normalize-labels, "
                "or correct one of the two"
            )
        return (
            f"{label!r}, which the train split lacks (it has {', '.join(self.labels)}); add training examples of it or "
            "take it out"
        )

    @classmethod
    def from_splits(
        cls, name: str, splits: Mapping[str, Iterable[Dialogue]], findings: Iterable["Finding"] = ()
    ) -> "Corpus":
        """Make a corpus with the labels of its training split.

        Raises:
            UserError: The splits make no corpus; see `Corpus`.

        Example:
            >>> from bertgrid_tf.corpus import Corpus, Dialogue, Utterance
            >>> train = [Dialogue((Utterance("Oh no!", "sadness"), Utterance("Great!", "joy")))]
            >>> dev = [Dialogue((Utterance("Hooray!", "joy"),))]
            >>> Corpus.from_splits("tiny", {"train": train, "dev": dev}).labels
            ('joy', 'sadness')
        """
        dialogues = {split: tuple(members) for split, members in splits.items()}
        labels = {label for label in label_counts(dialogues.get("train", ())) if label is not None}
        return cls(name, sorted_labels(labels), dialogues, tuple(findings))

    def fingerprint(self) -> str:
        """Return a hash of all texts, labels, speakers, votes, keys and splits, 16 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for split in sorted(self.splits):
            digest.update(json.dumps(split).encode())
            # Dialogue by dialogue, since the JSON of a whole split takes more memory than the split.
            for number, dialogue in enumerate(self.splits[split]):
                lines = [(*line.texts, line.label, line.speaker, line.votes, line.key) for line in dialogue.utterances]
                digest.update(f"{', ' if number else '['}{json.dumps(lines)}".encode())
            digest.update(b"]")
        return digest.hexdigest()[:16]


def sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Sort class names by their letters, or by their value where all are whole numbers.

    Example:
        >>> from bertgrid_tf.corpus.dialogue import sorted_labels
        >>> sorted_labels(["10", "9", "-1"]), sorted_labels(["10", "9", "low"])
        (('-1', '9', '10'), ('10', '9', 'low'))
    """
    names = sorted(labels)
    numbers = all(re.fullmatch(r"[+-]?\d+", name) for name in names)
    return tuple(sorted(names, key=int) if numbers else names)


def utterances(dialogues: Iterable[Dialogue]) -> Iterator[Utterance]:
    """Yield every utterance, dialogue by dialogue."""
    for dialogue in dialogues:
        yield from dialogue.utterances


def texts_of(dialogues: Iterable[Dialogue]) -> Iterator[str]:
    """Yield every text, of a pair both."""
    for dialogue in dialogues:
        yield from dialogue.texts


def dialogue_numbers(dialogues: Iterable[Dialogue]) -> np.ndarray:
    """Number the dialogue of every utterance, from 0: int64 [utterances].

    Example:
        >>> from bertgrid_tf.corpus import Dialogue, Utterance, dialogue_numbers
        >>> dialogue_numbers([Dialogue((Utterance("Hi."), Utterance("Hello."))), Dialogue((Utterance("Bye."),))])
        array([0, 0, 1])
    """
    sizes = [len(dialogue.utterances) for dialogue in dialogues]
    return np.repeat(np.arange(len(sizes)), sizes)


def label_counts(dialogues: Iterable[Dialogue]) -> Counter[str | None]:
    """Count the utterances of each class; the key None counts the unlabelled ones."""
    return Counter(utterance.label for utterance in utterances(dialogues))

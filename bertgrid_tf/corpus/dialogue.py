"""The types of a corpus: utterance, dialogue, and corpus with its splits."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from bertgrid_tf.errors import UserError


@dataclass(frozen=True, slots=True)
class Utterance:
    """A text to classify: a line of a dialogue, or a text that stands alone.

    Attributes:
        text: The text; it may be empty (NSMC has empty reviews).
        label: The name of the class, or None for an unlabelled utterance.
        speaker: The name of the speaker, or None where the source names no speaker.
        votes: The raters' votes for each class, in the source's order of the classes.
        key: The source's id of the utterance, for submitting predictions.
    """

    text: str
    label: str | None = None
    speaker: str | None = None
    votes: tuple[int, ...] | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A sequence of utterances; a text that stands alone is a dialogue of one utterance.

    Attributes:
        utterances: The utterances, in conversational order.
    """

    utterances: tuple[Utterance, ...]


@dataclass(frozen=True)
class Corpus:
    """Labelled dialogues in splits.

    Attributes:
        name: The name of the corpus, for messages.
        labels: The class names of the training split, sorted; the id of a class is its index.
        splits: The dialogues of "train", "dev" and, if there is one, "test", whose utterances may be unlabelled.
        remarks: Sentences on how the tables were read.

    Raises:
        UserError: On construction: train or dev is missing, a split is empty, an utterance of train or dev has no
            label, train has fewer than two classes, or another split has a label that train lacks.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Dialogue, ...]]
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check that the splits make a corpus to train and select on."""
        for split in ("train", "dev", *self.splits):
            counts = label_counts(self.splits.get(split, ()))
            if not counts:
                raise UserError(f"{self.name}: the {split} split has no utterances; give it at least one.")
            if None in counts and split != "test":
                raise UserError(
                    f"{self.name}: {counts[None]} utterances of the {split} split have no label; "
                    "label them or take them out."
                )
        trained = {label for label in label_counts(self.splits["train"]) if label is not None}
        if len(trained) < 2:
            raise UserError(
                f"{self.name}: every utterance of the train split is labelled {min(trained)!r}; "
                "a classifier needs at least two classes."
            )
        if list(self.labels) != sorted(trained):
            raise ValueError(f"labels {self.labels} are not the train split's, sorted: {sorted(trained)}")
        for split, dialogues in self.splits.items():
            unknown = sorted({label for label in label_counts(dialogues) if label is not None} - trained)
            if unknown:
                raise UserError(
                    f"{self.name}: the {split} split has the label {unknown[0]!r}, which the train split "
                    f"lacks (it has {', '.join(self.labels)}); add training examples of it or take it out."
                )

    @classmethod
    def from_splits(cls, name: str, splits: Mapping[str, Iterable[Dialogue]]) -> "Corpus":
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
        return cls(name, tuple(sorted(labels)), dialogues)

    def fingerprint(self) -> str:
        """Return a hash of all texts, labels, speakers, votes, keys and splits, 16 hexadecimal digits."""
        digest = hashlib.sha256(json.dumps(self.labels).encode())
        for split in sorted(self.splits):
            digest.update(json.dumps(split).encode())
            content = [
                [(line.text, line.label, line.speaker, line.votes, line.key) for line in dialogue.utterances]
                for dialogue in self.splits[split]
            ]
            digest.update(json.dumps(content).encode())
        return digest.hexdigest()[:16]


def utterances(dialogues: Iterable[Dialogue]) -> Iterator[Utterance]:
    """Yield every utterance, dialogue by dialogue."""
    for dialogue in dialogues:
        yield from dialogue.utterances


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

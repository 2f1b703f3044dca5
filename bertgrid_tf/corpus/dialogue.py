"""The words of a corpus: utterance, dialogue, split."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from bertgrid_tf.errors import UserError


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text to classify: a line of a dialogue, or a text that stands alone.

    Attributes:
        text: What is said; may be empty (NSMC has empty reviews).
        label: The name of its class, or None where it is unlabelled.
        speaker: Who says it, or None where the source names nobody.
        votes: The raters' votes per class, in the source's own order of the classes.
        key: The source's own id of this line, by which a prediction is handed in.
    """

    text: str
    label: str | None = None
    speaker: str | None = None
    votes: tuple[int, ...] | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Utterances in the order in which they were said; a text that stands alone is a dialogue of one."""

    utterances: tuple[Utterance, ...]


@dataclass(frozen=True)
class Corpus:
    """Labelled dialogues in splits.

    Attributes:
        name: What the corpus is called in messages.
        labels: The class names of the training split, sorted; a class's id is its index here.
        splits: "train", "dev" and, where there is one, "test" (which alone may be unlabelled).

    Raises:
        UserError: On construction, where train or dev is missing, a split is empty, an utterance of train or
            dev has no label, train has fewer than two classes, or another split has a label that train
            lacks.
    """

    name: str
    labels: tuple[str, ...]
    splits: Mapping[str, tuple[Dialogue, ...]]

    def __post_init__(self) -> None:
        for split in ("train", "dev", *self.splits):
            found = label_counts(self.splits.get(split, ()))
            if not found:
                raise UserError(f"{self.name}: the {split} split has no utterances; give it at least one.")
            if None in found and split != "test":
                raise UserError(
                    f"{self.name}: {found[None]} utterances of the {split} split have no label; "
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
        """A corpus whose labels are those of its training split; raises as the class does."""
        dialogues = {split: tuple(members) for split, members in splits.items()}
        labels = {label for label in label_counts(dialogues.get("train", ())) if label is not None}
        return cls(name, tuple(sorted(labels)), dialogues)

    def fingerprint(self) -> str:
        """16 hexadecimal digits that stay the same as long as no text, label, speaker, vote, key or split
        changes."""
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
    """Every utterance, dialogue by dialogue, in the order in which they were said."""
    for dialogue in dialogues:
        yield from dialogue.utterances


def dialogue_numbers(dialogues: Iterable[Dialogue]) -> np.ndarray:
    """The number of its dialogue, from 0, for every utterance: int64 [utterances]."""
    sizes = [len(dialogue.utterances) for dialogue in dialogues]
    return np.repeat(np.arange(len(sizes)), sizes)


def label_counts(dialogues: Iterable[Dialogue]) -> Counter[str | None]:
    """The number of utterances of each class; None counts the unlabelled ones."""
    return Counter(utterance.label for utterance in utterances(dialogues))

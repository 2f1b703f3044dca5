"""Findings: what in a corpus is probably not as it should be, with counts, examples and what to do."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, label_counts, utterances
from bertgrid_tf.corpus.labels import alike, spelling, stands_for_missing
from bertgrid_tf.errors import UserError

Severity = Literal["note", "warning", "error"]

WARNING_SHARE = 0.01
"""The share of a split's texts from which on a finding about them is a warning; below it is a note."""

LONG_TEXT = 40
"""The characters from which on an utterance hardly occurs twice by chance, in two dialogues."""

FEW_TEXTS = 5
"""The training texts below which a class can hardly be learned."""

MANY_VALUES = 20
"""The number of classes up to which numbers may be classes, as grades are, and distinct labels a small table."""

REPEATED_SHARE = 0.2
"""The share of the training texts from which on repeated ones are conspicuous."""

EXAMPLES, _EXAMPLE_LENGTH = 3, 60


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in the data that is probably not as it should be.

    Attributes:
        severity: "error" stops a study, "warning" stops it with `--strict`, "note" is to be known.
        sentence: The circumstance with its count, without a full stop.
        count: The number of texts, labels, classes or dialogues concerned.
        examples: The first few of them, quoted.
        advice: What to do, an imperative without a full stop; may be empty.

    Example:
        >>> Finding("note", "2 texts of train are empty", 2, (), "take them out").message
        'Note: 2 texts of train are empty: take them out.'
    """

    severity: Severity
    sentence: str
    count: int
    examples: tuple[str, ...] = ()
    advice: str = ""

    def __str__(self) -> str:
        examples = f", as {', '.join(self.examples)}" if self.examples else ""
        return f"{self.sentence}{examples}{': ' * bool(self.advice)}{self.advice}."

    @property
    def message(self) -> str:
        """The whole finding as one sentence after its severity."""
        return f"{self.severity.capitalize()}: {self}"


def plural(count: int, one: str, more: str = "") -> str:
    """Return a word in the form for a count."""
    return one if count == 1 else more or f"{one}s"


def notes_of(remarks: Iterable[str]) -> list[Finding]:
    """Make notes of the remarks on how a table was read (`files.RawTable`)."""
    return [Finding("note", remark.removesuffix("."), 1) for remark in remarks]


def check_corpus(corpus: Corpus) -> tuple[Finding, ...]:
    """Check a corpus: the findings of its reader, and those about its labels, texts and splits; the gravest first.

    A text that stands alone is a dialogue of one utterance. Between dialogues of several utterances, only whole
    dialogues and texts of at least `LONG_TEXT` characters are compared: a "Yeah." occurs in any of them.

    Example:
        >>> from bertgrid_tf.corpus import Corpus, Dialogue, Utterance
        >>> texts = [Dialogue((Utterance(f"text {n}", "ab"[n % 2]),)) for n in range(20)]
        >>> [finding] = check_corpus(Corpus.from_splits("tiny", {"train": texts, "dev": texts[:8]}))
        >>> finding.severity, finding.count
        ('warning', 8)
    """
    counts = {split: label_counts(dialogues) for split, dialogues in corpus.splits.items()}
    findings = [
        *corpus.findings,
        *_check_spellings(counts),
        *_check_classes(corpus.labels, counts),
        *_check_texts(corpus),
        *_check_repetitions(corpus),
    ]
    return tuple(sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity)))


def refuse_warnings(findings: Iterable[Finding]) -> None:
    """Refuse data with findings that are graver than a note.

    Raises:
        UserError: There is such a finding; the message has the sentences of all.
    """
    grave = [finding for finding in findings if finding.severity != "note"]
    if grave:
        sentences = "; ".join(str(finding).removesuffix(".") for finding in grave)
        raise UserError(f"--strict refuses the data ({len(grave)} {plural(len(grave), 'warning')}): {sentences}.")


def refuse_other_targets(where: str, counts: Mapping[str | None, int]) -> None:
    """Refuse labels that are no classes: numbers to predict, several labels in a cell, free text.

    Args:
        where: The table, for the message.
        counts: The training texts of every label.

    Raises:
        UserError: The labels look like another task's.

    Example:
        >>> refuse_other_targets("t.csv", {"joy": 5, "anger": 4, "joy|anger": 2})
        Traceback (most recent call last):
        ...
        bertgrid_tf.errors.UserError: t.csv: 2 of the 11 training texts have a label that looks like several labels ...
    """
    labels = [label for label in counts if label is not None]
    texts = sum(counts.values())
    otherwise = "or give --yes-these-are-classes"
    if several := _multi_labels(labels):
        concerned = sum(counts[label] for label in several)
        raise UserError(
            f"{where}: {concerned:,} of the {texts:,} training texts have a label that looks like several labels in "
            f"one cell (multi-label), as {_listed(map(spelling, several))}: a text has one class here, so give each "
            f"its most important label, {otherwise}."
        )
    numbers, fractions = _numbers(labels)
    many, once = len(labels) > MANY_VALUES, len(labels) > texts / 2
    if len(labels) > 2 and numbers and ((many and once) or (fractions and (many or once))):
        raise UserError(
            f"{where}: the {len(labels):,} different labels of {texts:,} training texts are numbers, as "
            f"{_listed(map(spelling, labels))}, which looks like regression: only classes can be predicted, so put the "
            f"numbers into ranges, {otherwise}."
        )
    if many and once:
        raise UserError(
            f"{where}: {texts:,} training texts have {len(labels):,} different labels, as "
            f"{_listed(map(spelling, labels))}: choose the column of the classes with --label-column, {otherwise}."
        )


def _numbers(labels: Iterable[str]) -> tuple[bool, bool]:
    """Return whether all labels are numbers, and whether one of them is no whole number."""
    try:
        values = [float(label) for label in labels if not stands_for_missing(label)]
    except ValueError:
        return False, False
    return bool(values), any(not value.is_integer() for value in values)


def _multi_labels(labels: Sequence[str]) -> list[str]:
    """Return the labels that hold several: lists, and parts between separators.

    A class may have a comma in its name ("Society, Culture"): its parts must be whole numbers, or labels elsewhere.
    """
    occurrences: Counter[str] = Counter()
    for label in labels:
        occurrences.update(set(_parts(label, ",")))
    several = []
    for label in labels:
        separated = any(len(_parts(label, separator)) > 1 for separator in "|;")
        parts = _parts(label, ",")
        listed = len(parts) > 1 and (
            all(part.isdecimal() for part in parts) or all(occurrences[part] > 1 for part in parts)
        )
        if separated or listed or _is_list(label):
            several.append(label)
    return several


def _parts(label: str, separator: str) -> list[str]:
    return [part.strip() for part in label.split(separator) if part.strip()]


def _is_list(label: str) -> bool:
    if not (label.startswith("[") and label.endswith("]")):
        return False
    try:
        return isinstance(json.loads(label.replace("'", '"')), list)
    except (ValueError, RecursionError):
        # As numpy prints an array: [0 1 0].
        return len(label[1:-1].split()) > 1 and all(part.isdecimal() for part in label[1:-1].split())


def _check_spellings(counts: Mapping[str, Counter[str | None]]) -> Iterable[Finding]:
    total: Counter[str] = Counter()
    for of_split in counts.values():
        total.update({label: count for label, count in of_split.items() if label is not None})
    if groups := alike(sorted(total)):
        examples = [" and ".join(f"{spelling(label)} ({total[label]:,} texts)" for label in group) for group in groups]
        yield Finding(
            "warning",
            f"{sum(map(len, groups))} classes differ only in case, blanks, invisible characters or encoding",
            sum(map(len, groups)),
            tuple(examples[:EXAMPLES]),
            "--normalize-labels reads them as one",
        )
    for label in sorted(total):
        if stands_for_missing(label):
            # "none" in small letters is a class of some data sets, and what no library writes for a missing value.
            yield Finding(
                "note" if label == "none" else "warning",
                f"{total[label]:,} {plural(total[label], 'text')} of the class {spelling(label)} may have no label",
                total[label],
                (),
                "take them out if this stands for a missing value",
            )


def _check_classes(labels: Sequence[str], counts: Mapping[str, Counter[str | None]]) -> Iterable[Finding]:
    train, dev = counts["train"], counts["dev"]
    if few := [label for label in labels if train[label] < FEW_TEXTS]:
        yield Finding(
            "warning",
            f"{len(few)} of the {len(labels)} classes {plural(len(few), 'has', 'have')} fewer than {FEW_TEXTS} "
            "training texts",
            len(few),
            tuple(f"{spelling(label)} ({train[label]})" for label in few[:EXAMPLES]),
            "add texts, or join or leave out such classes",
        )
    if absent := [label for label in labels if not dev[label]]:
        yield Finding(
            "warning",
            f"{len(absent)} of the {len(labels)} classes {plural(len(absent), 'has', 'have')} no text in dev",
            len(absent),
            tuple(spelling(label) for label in absent[:EXAMPLES]),
            "no score says how well they are learned; add such texts to dev, or hold out a larger --validation-split",
        )


def _check_texts(corpus: Corpus) -> Iterable[Finding]:
    for split, dialogues in corpus.splits.items():
        texts = Counter(utterance.texts for utterance in utterances(dialogues))
        total, empty = texts.total(), sum(texts.pop(both) for both in list(texts) if "" in both)
        if empty:
            half = "" if next(utterances(dialogues)).text_pair is None else "half "
            yield Finding(
                _severity(empty, total),
                f"{empty:,} of the {total:,} texts of {split} {plural(empty, 'is', 'are')} {half}empty",
                empty,
                (),
                "check the text column, or take such rows out",
            )
        repeated = texts.total() - len(texts)
        if split == "train" and _alone(dialogues) and repeated >= REPEATED_SHARE * total:
            yield Finding(
                "warning",
                f"{repeated:,} of the {total:,} training texts repeat another one",
                repeated,
                tuple(
                    f"{_quoted(' / '.join(both))} ({count:,} times)"
                    for both, count in texts.most_common(EXAMPLES)
                    if count > 1
                ),
                "check the text column, or keep one of each",
            )


def _check_repetitions(corpus: Corpus) -> Iterable[Finding]:
    train = corpus.splits["train"]
    whole = {dialogue.texts for dialogue in train}
    alone = all(map(_alone, corpus.splits.values()))
    long = set() if alone else {u.text for u in utterances(train) if len(u.text) >= LONG_TEXT}
    for split, dialogues in corpus.splits.items():
        if split == "train":
            continue
        repeated = [
            " / ".join(utterance.texts)
            for dialogue in dialogues
            for same in [dialogue.texts in whole]
            for utterance in dialogue.utterances
            if any(utterance.texts) and (same or utterance.text in long)
        ]
        if repeated:
            total = sum(len(dialogue.utterances) for dialogue in dialogues)
            yield Finding(
                _severity(len(repeated), total),
                f"{len(repeated):,} of the {total:,} texts of {split} ({100 * len(repeated) / total:.1f} %) "
                f"{plural(len(repeated), 'stands', 'stand')} in train too",
                len(repeated),
                tuple(map(_quoted, list(dict.fromkeys(repeated))[:EXAMPLES])),
                f"take them out of one of the two, since the scores on {split} are too good by them",
            )
    yield from _check_contradictions([*train, *corpus.splits["dev"]])


def _check_contradictions(dialogues: Sequence[Dialogue]) -> Iterable[Finding]:
    label_of: dict[tuple[str, ...], tuple[str | None, ...]] = {}
    contradicting = {
        dialogue.texts
        for dialogue in dialogues
        if any(dialogue.texts) and label_of.setdefault(dialogue.texts, dialogue.labels) != dialogue.labels
    }
    if not contradicting:
        return
    labels: dict[tuple[str, ...], Counter[str]] = {}
    for dialogue in dialogues:
        if dialogue.texts in contradicting:
            labels.setdefault(dialogue.texts, Counter())[" / ".join(map(str, dialogue.labels))] += 1
    texts = sum(len(dialogue.utterances) for dialogue in dialogues if dialogue.texts in contradicting)
    examples = [
        f"{_quoted(' / '.join(key))} ({', '.join(f'{label!r}: {count}' for label, count in counts.most_common())})"
        for key, counts in list(labels.items())[:EXAMPLES]
    ]
    what = plural(len(labels), "text") if _alone(dialogues) else plural(len(labels), "dialogue")
    yield Finding(
        _severity(texts, sum(len(dialogue.utterances) for dialogue in dialogues)),
        f"{len(labels):,} {what} of train and dev {plural(len(labels), 'occurs', 'occur')} with different labels",
        len(labels),
        tuple(examples),
        "decide for one label each",
    )


def _alone(dialogues: Iterable[Dialogue]) -> bool:
    """Return whether every text stands alone."""
    return all(len(dialogue.utterances) == 1 for dialogue in dialogues)


def _severity(count: int, total: int) -> Severity:
    return "warning" if count >= WARNING_SHARE * total else "note"


def _quoted(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= _EXAMPLE_LENGTH else text[: _EXAMPLE_LENGTH - 1] + "…"


def _listed(examples: Iterable[str]) -> str:
    return ", ".join(_cut(example) for example in list(examples)[:EXAMPLES])

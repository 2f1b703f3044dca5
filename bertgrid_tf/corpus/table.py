"""Corpora from the user's own tables: files and pandas DataFrames."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, Utterance, label_counts
from bertgrid_tf.corpus.files import SPLITS, RawTable, open_table
from bertgrid_tf.corpus.findings import Finding, refuse_other_targets
from bertgrid_tf.corpus.grouping import ID_JOINT, Grouping, Row, Window, cell_kind, looks_like_order
from bertgrid_tf.corpus.labels import normalized_labels
from bertgrid_tf.corpus.split import hold_out
from bertgrid_tf.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    TableSource = Path | pd.DataFrame | RawTable

BLANKS = " \t\r\n"
"""The characters to strip from cells; fewer than Unicode's spaces, since U+0085 may stand for an ellipsis."""


WINDOW = 16_384
"""The rows of a table that are read at a time where it can be read in parts."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of a table's columns.

    Attributes:
        text: The column of the texts to classify.
        label: The column of the class names; None for a table without labels.
        dialogue: The column of the dialogue ids, or several that make an id together, separated by commas or in a
            list; None if every row stands alone.
        speaker: The column of the speakers' names; None for a table without speakers.
        split: The column with train, dev (also: val, valid, validation) or test; None if files or a held-out share
            decide.
        key: The column of the row ids; None to number the rows from 1.
        order: The column that sorts the rows of a dialogue; None to keep the order of the rows.
        consecutive: Whether a dialogue ends where the id changes; otherwise an id that comes back goes on with its
            dialogue.
        text_pair: The column of the second text of every pair; None for single texts.

    Raises:
        UserError: On construction: pairs of texts are to have dialogues or speakers, or a column of its own is missing.
    """

    text: str
    label: str | None = None
    dialogue: str | Sequence[str] | None = None
    speaker: str | None = None
    split: str | None = None
    key: str | None = None
    order: str | None = None
    consecutive: bool = False
    text_pair: str | None = None

    def __post_init__(self) -> None:
        """Check the columns of pairs."""
        if self.text_pair is None:
            return
        if self.text_pair in (self.text, self.label):
            raise UserError(
                f"The column {self.text_pair!r} is named twice: --text-pair-column is the second text, in a column of "
                "its own."
            )
        if self.dialogue or self.speaker:
            raise UserError(
                "A pair of texts has neither context nor speakers: give --text-pair-column, or --dialogue-column and "
                "--speaker-column."
            )

    @property
    def dialogue_columns(self) -> tuple[str, ...]:
        """The columns that make a dialogue's id together."""
        names = self.dialogue.split(",") if isinstance(self.dialogue, str) else self.dialogue or ()
        return tuple(name.strip() for name in names)


def read_table(source: "TableSource", columns: Columns, findings: list[Finding] | None = None) -> tuple[Dialogue, ...]:
    """Read a table of any kind that `files.open_table` reads, regardless of a split column.

    A missing value of a DataFrame is an empty cell. The rows of a dialogue need not be adjacent.

    Args:
        source: The path of the table, or a DataFrame.
        columns: The names of its columns.
        findings: Receives the findings about the ids and the order of the dialogues.

    Raises:
        UserError: The table is invalid, or a label is empty although there is a label column; the message names the
            table, and its line, row (counted from 1) or column.

    Example:
        >>> import pandas as pd
        >>> from bertgrid_tf.corpus import Columns, read_table
        >>> frame = pd.DataFrame({"review": ["Good fun"], "sentiment": ["positive"]})
        >>> read_table(frame, Columns("review", "sentiment"))[0].utterances[0].label
        'positive'
    """
    return _dialogues(_Reader(source, columns), findings)


def read_windows(source: "TableSource", columns: Columns, findings: list[Finding] | None = None) -> Iterator[Window]:
    """Read a table as `read_table` does, in windows of whole dialogues.

    The rows of a window are at least 16,384, but for the last one. A table whose dialogues go on after others is one
    window, and so is a single dialogue. The arguments and errors are those of `read_table`.
    """
    reader = _Reader(source, columns)
    yield from reader.windows(reader.rows(), findings, streamed=True)


def read_split_table(
    source: "TableSource", columns: Columns, findings: list[Finding] | None = None
) -> dict[str, tuple[Dialogue, ...]]:
    """Read a table with a split column.

    The same dialogue id in two splits stands for two dialogues. Only the test split may have no labels. The arguments
    are those of `read_table`.

    Raises:
        UserError: The table is invalid, as for `read_table`, or a cell of the split column names no split.
        ValueError: There is no name of a split column.
    """
    if columns.split is None:
        raise ValueError("columns.split names no column")
    reader = _Reader(source, columns)
    rows = list(reader.rows())
    if findings is not None:
        findings += Grouping(reader.table.name, reader.table.unit).torn(rows)
    splits = {split: [row for row in rows if row.split == split] for split in ("train", "dev", "test")}
    return {split: _dialogues(reader, findings, split, members) for split, members in splits.items() if members}


def load_table(
    train: "TableSource",
    columns: Columns,
    *,
    dev: "TableSource | None" = None,
    test: "TableSource | None" = None,
    validation_split: float = 0.1,
    seed: int = 0,
    name: str | None = None,
    normalize_labels: bool = False,
    any_classes: bool = False,
) -> Corpus:
    """Load a corpus from the user's own tables.

    The splits come from the split column if `columns` names one, otherwise from the tables. Without a dev split, the
    share `validation_split` of the training split becomes the dev split: whole dialogues, stratified by class.

    Args:
        train: The table of the training split, or of all splits if there is a split column.
        columns: The names of the columns; `label` is required.
        dev: The table of the dev split, with the same columns.
        test: The table of the test split, with the same columns; all of its labels may be empty.
        validation_split: The share of training utterances for a dev split, between 0 and 1.
        seed: The seed that decides which dialogues are held out.
        name: The name of the corpus; None for the name of the file `train`.
        normalize_labels: Whether labels that differ in case, blanks or encoding alone are one class; see
            `labels.normalized_labels`.
        any_classes: Whether labels that look like another task's are classes all the same.

    Raises:
        UserError: A table is invalid, as for `read_table`; splits come from both a column and tables; the labels look
            like those of regression or multi-label classification; or the splits make no corpus.
    """
    stem, train = Path(train).stem if isinstance(train, Path) else None, open_table(train)
    where, findings = train.name, list[Finding]()
    if columns.label is None:
        raise UserError(f"{where}: name the column that holds the labels.")
    if columns.split is None:
        tables = {"train": train, "dev": dev, "test": test}
        splits = {
            split: _dialogues(_Reader(table, columns), findings, split)
            for split, table in tables.items()
            if table is not None
        }
    elif dev is not None or test is not None:
        raise UserError(
            f"The splits of {where} are given twice, by its column {columns.split!r} and by a dev or test table: "
            "choose one of the two."
        )
    else:
        splits = read_split_table(train, columns, findings)
        if "train" not in splits:
            raise UserError(f"{where} has no row whose column {columns.split!r} says train.")
    if normalize_labels:
        splits = _with_normalized_labels(splits)
    if not any_classes:
        refuse_other_targets(where, label_counts(splits["train"]))
    if "dev" not in splits:
        splits["train"], splits["dev"] = hold_out(splits["train"], validation_split, seed)
    return Corpus.from_splits(name or stem or "data", splits, findings)


def _dialogues(
    reader: "_Reader", findings: list[Finding] | None, split: str = "train", rows: Iterable[Row] | None = None
) -> tuple[Dialogue, ...]:
    """Make the dialogues of a split; all labels of the test split may be empty."""
    columns = reader.columns
    unlabelled, labelled, dialogues = None, False, list[Dialogue]()
    for window in reader.windows(reader.rows() if rows is None else rows, findings):
        dialogues += window.dialogues
        for row in window.rows if columns.label is not None else ():
            if row.utterance.label is not None:
                labelled = True
            elif unlabelled is None:
                unlabelled = row.number
    if unlabelled is not None and (split != "test" or labelled):
        raise reader.refusal(unlabelled, f"the column {columns.label!r} is empty; label the row or take it out")
    return tuple(dialogues)


class _Reader:
    """Reads a table's rows.

    Attributes:
        table: The table.
        columns: The names of its columns.
    """

    def __init__(self, source: "TableSource", columns: Columns) -> None:
        self.table, self.columns = open_table(source), columns
        names = {name: getattr(columns, name) for name in ("text", "text_pair", "label", "speaker", "split", "key")}
        self._names = {name: column for name, column in names.items() if column is not None}
        order = () if columns.order is None else (columns.order,)
        self.table.check([*self._names.values(), *columns.dialogue_columns, *order])
        self._like_order: tuple[str, ...] = ()
        if columns.dialogue_columns and columns.order is None:
            taken = (*self._names.values(), *columns.dialogue_columns)
            self._like_order = tuple(name for name in self.table.header if looks_like_order(name) and name not in taken)

    def windows(self, rows: Iterable[Row], findings: list[Finding] | None, streamed: bool = False) -> Iterator[Window]:
        """Group rows, in one window where dialogues may go on after others; with `streamed` the table is read for it.

        Args:
            rows: The rows of one split.
            findings: Receives the findings about the ids and the order of the dialogues.
            streamed: Whether memory is dearer than time.
        """
        columns, kind = self.columns, None
        parted = not columns.dialogue_columns or (columns.consecutive and columns.order is None)
        if streamed and not parted and (columns.consecutive or not self._returns()):
            parted = True
            if columns.order is not None:
                kind = cell_kind(
                    lambda: (cell.strip(BLANKS) for _, (cell,) in self.table.select([columns.order or ""]))
                )
        grouping = Grouping(self.table.name, self.table.unit, columns.order, self._like_order, kind)
        yield from grouping.windows(rows, WINDOW if parted else None)
        if findings is not None:
            findings += grouping.findings()

    def _returns(self) -> bool:
        """Return whether a dialogue goes on after another one has begun."""
        seen, previous = set[tuple[str, ...]](), None
        for _, cells in self.table.select(self.columns.dialogue_columns):
            dialogue = tuple([cell.strip(BLANKS) for cell in cells])
            if dialogue != previous and dialogue in seen:
                return True
            previous = dialogue
            seen.add(dialogue)
        return False

    def refusal(self, number: int, sentence: str) -> UserError:
        """Return an error about a row, whose sentence has no full stop."""
        return UserError(f"{self.table.name}, {self.table.unit} {number}: {sentence}.")

    def rows(self) -> Iterator[Row]:
        """Read the rows."""
        table, columns, names, parts = self.table, self.columns, self._names, self.columns.dialogue_columns
        unit = table.unit
        orders = (columns.order,) if columns.order else self._like_order
        number_of_key: dict[str, int] = {}
        labels: dict[str, str] = {}
        previous, began = tuple[str, ...](), 0
        for index, (number, cells) in enumerate(table.select([*names.values(), *parts, *orders]), start=1):
            contents = tuple([content.strip(BLANKS) for content in cells])
            cell = dict(zip(names, contents, strict=False))
            key, split = cell.get("key", str(index)), cell.get("split", "train")
            dialogue = contents[len(names) : len(names) + len(parts)]
            order = contents[len(names) + len(parts) :]
            if columns.key is not None and number_of_key.setdefault(key, number) != number:
                raise self.refusal(
                    number,
                    f"the id {key!r} in the column {columns.key!r} stands on {unit} {number_of_key[key]} already; ids "
                    "must differ",
                )
            if not all(dialogue):
                empty = parts[dialogue.index("")]
                raise self.refusal(number, f"the column {empty!r} is empty; name the row's dialogue")
            began, previous = (began if dialogue == previous else number), dialogue
            if columns.order and not order[0]:
                sentence = f"the column {columns.order!r} is empty; give the row's place in its dialogue"
                raise self.refusal(number, sentence)
            if split.lower() not in SPLITS:
                sentence = f"the column {columns.split!r} says {split!r}; it must be train, dev or test"
                raise self.refusal(number, sentence)
            # One string for all rows with the same label or speaker.
            label, speaker = (
                labels.setdefault(name, name) for name in (cell.get("label", ""), cell.get("speaker", ""))
            )
            utterance = Utterance(
                cell["text"], label or None, speaker or None, key=key, text_pair=cell.get("text_pair")
            )
            beginning = (f"{unit} {began}",) if columns.consecutive else ()
            named = ID_JOINT.join((*dialogue, *beginning)) if parts else key if columns.key is None else str(index)
            yield Row(number, SPLITS[split.lower()], named, utterance, order)
        table.refuse_joined_rows(columns.label, labels)


def _with_normalized_labels(splits: Mapping[str, Sequence[Dialogue]]) -> dict[str, tuple[Dialogue, ...]]:
    """Give every label the spelling that is most frequent in all splits; a blank one is no label."""
    counts = Counter(label for dialogues in splits.values() for d in dialogues for label in d.labels if label)
    chosen = normalized_labels(counts)
    return {
        split: tuple(
            Dialogue(tuple(replace(line, label=line.label and (chosen[line.label] or None)) for line in d.utterances))
            for d in dialogues
        )
        for split, dialogues in splits.items()
    }

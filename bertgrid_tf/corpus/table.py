"""Corpora from the user's own tables: files and pandas DataFrames."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, Utterance, label_counts
from bertgrid_tf.corpus.files import SPLITS, RawTable, open_table
from bertgrid_tf.corpus.findings import Finding, refuse_other_targets
from bertgrid_tf.corpus.grouping import ID_JOINT, Row, group, looks_like_order, torn_dialogues
from bertgrid_tf.corpus.labels import normalized_labels
from bertgrid_tf.corpus.split import hold_out
from bertgrid_tf.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    TableSource = Path | pd.DataFrame | RawTable

BLANKS = " \t\r\n"
"""The characters to strip from cells; fewer than Unicode's spaces, since U+0085 may stand for an ellipsis."""


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
    """

    text: str
    label: str | None = None
    dialogue: str | Sequence[str] | None = None
    speaker: str | None = None
    split: str | None = None
    key: str | None = None
    order: str | None = None
    consecutive: bool = False

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
    rows, like_order = _rows(source, columns)
    _refuse_unlabelled(columns, rows)
    return _grouped(columns, rows, like_order, findings)


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
    rows, like_order = _rows(source, columns)
    if findings is not None:
        findings += torn_dialogues(rows)
    splits = {split: [row for row in rows if row.split == split] for split in ("train", "dev", "test")}
    return {
        split: _labelled(columns, split, members, like_order, findings) for split, members in splits.items() if members
    }


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
            split: _labelled(columns, split, *_rows(table, columns), findings)
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


def _rows(source: "TableSource", columns: Columns) -> tuple[list[Row], tuple[str, ...]]:
    """Read the rows of a table, and the names of the columns that look like the order of a dialogue's utterances."""
    names = {name: getattr(columns, name) for name in ("text", "label", "speaker", "split", "key")}
    names = {name: column for name, column in names.items() if column is not None}
    table = open_table(source)
    parts, like_order = columns.dialogue_columns, tuple[str, ...]()
    if parts and columns.order is None:
        taken = (*names.values(), *parts)
        like_order = tuple(name for name in table.header if looks_like_order(name) and name not in taken)
    orders = (columns.order,) if columns.order else like_order
    wanted, unit = [*names.values(), *parts, *orders], table.unit
    rows: list[Row] = []
    number_of_key: dict[str, int] = {}
    previous, began = tuple[str, ...](), 0
    for index, (number, cells) in enumerate(table.select(wanted), start=1):
        place = f"{table.name}, {unit} {number}"
        contents = tuple([content.strip(BLANKS) for content in cells])
        cell = dict(zip(names, contents, strict=False))
        key = cell.get("key", str(index))
        if number_of_key.setdefault(key, number) != number:
            raise UserError(
                f"{place}: the id {key!r} in the column {columns.key!r} stands on {unit} {number_of_key[key]} already; "
                "ids must differ."
            )
        dialogue = contents[len(names) : len(names) + len(parts)]
        if not all(dialogue):
            raise UserError(f"{place}: the column {parts[dialogue.index('')]!r} is empty; name the row's dialogue.")
        began, previous = (began if dialogue == previous else number), dialogue
        order = contents[len(names) + len(parts) :]
        if columns.order and not order[0]:
            raise UserError(f"{place}: the column {columns.order!r} is empty; give the row's place in its dialogue.")
        split = cell.get("split", "train")
        if split.lower() not in SPLITS:
            raise UserError(f"{place}: the column {columns.split!r} says {split!r}; it must be train, dev or test.")
        utterance = Utterance(cell["text"], cell.get("label") or None, cell.get("speaker") or None, key=key)
        beginning = (f"{unit} {began}",) if columns.consecutive else ()
        named = ID_JOINT.join((*dialogue, *beginning)) if parts else str(index)
        rows.append(Row(place, SPLITS[split.lower()], named, utterance, order))
    table.keys = list(number_of_key)
    table.refuse_joined_rows(columns.label, (row.utterance.label for row in rows))
    return rows, like_order


def _labelled(
    columns: Columns,
    split: str,
    rows: Sequence[Row],
    like_order: Sequence[str],
    findings: list[Finding] | None,
) -> tuple[Dialogue, ...]:
    """Make the dialogues of a split; all labels of the test split may be empty."""
    if split != "test" or any(row.utterance.label for row in rows):
        _refuse_unlabelled(columns, rows)
    return _grouped(columns, rows, like_order, findings)


def _grouped(
    columns: Columns, rows: Sequence[Row], like_order: Sequence[str], findings: list[Finding] | None
) -> tuple[Dialogue, ...]:
    dialogues, about_them = group(rows, columns.order, like_order)
    if findings is not None:
        findings += about_them
    return dialogues


def _refuse_unlabelled(columns: Columns, rows: Sequence[Row]) -> None:
    empty = next((row for row in rows if columns.label is not None and row.utterance.label is None), None)
    if empty is not None:
        raise UserError(f"{empty.place}: the column {columns.label!r} is empty; label the row or take it out.")


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

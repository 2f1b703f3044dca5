"""Corpora from the user's own tables: files and pandas DataFrames."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, Utterance
from bertgrid_tf.corpus.files import SPLITS, RawTable, open_table
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
        dialogue: The column of the dialogue ids; None if every row stands alone.
        speaker: The column of the speakers' names; None for a table without speakers.
        split: The column with train, dev (also: val, valid, validation) or test; None if files or a held-out share
            decide.
        key: The column of the row ids; None to number the rows from 1.
    """

    text: str
    label: str | None = None
    dialogue: str | None = None
    speaker: str | None = None
    split: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    place: str
    split: str
    dialogue: str
    utterance: Utterance


def read_table(source: "TableSource", columns: Columns) -> tuple[Dialogue, ...]:
    """Read a table of any kind that `files.open_table` reads, regardless of a split column.

    A missing value of a DataFrame is an empty cell. The rows of a dialogue need not be adjacent.

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
    rows = _rows(source, columns)
    _refuse_unlabelled(columns, rows)
    return _dialogues(rows)


def read_split_table(source: "TableSource", columns: Columns) -> dict[str, tuple[Dialogue, ...]]:
    """Read a table with a split column.

    The same dialogue id in two splits stands for two dialogues. Only the test split may have no labels.

    Raises:
        UserError: The table is invalid, as for `read_table`, or a cell of the split column names no split.
        ValueError: There is no name of a split column.
    """
    if columns.split is None:
        raise ValueError("columns.split names no column")
    rows = _rows(source, columns)
    splits = {split: [row for row in rows if row.split == split] for split in ("train", "dev", "test")}
    return {split: _labelled(columns, split, members) for split, members in splits.items() if members}


def load_table(
    train: "TableSource",
    columns: Columns,
    *,
    dev: "TableSource | None" = None,
    test: "TableSource | None" = None,
    validation_split: float = 0.1,
    seed: int = 0,
    name: str | None = None,
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

    Raises:
        UserError: A table is invalid, as for `read_table`; splits come from both a column and tables; or the splits
            make no corpus.
    """
    stem, train = Path(train).stem if isinstance(train, Path) else None, open_table(train)
    where = train.name
    if columns.label is None:
        raise UserError(f"{where}: name the column that holds the labels.")
    if columns.split is None:
        tables = {"train": train, "dev": dev, "test": test}
        splits = {
            split: _labelled(columns, split, _rows(table, columns))
            for split, table in tables.items()
            if table is not None
        }
    elif dev is not None or test is not None:
        raise UserError(
            f"The splits of {where} are given twice, by its column {columns.split!r} and by a dev or test table: "
            "choose one of the two."
        )
    else:
        splits = read_split_table(train, columns)
        if "train" not in splits:
            raise UserError(f"{where} has no row whose column {columns.split!r} says train.")
    if "dev" not in splits:
        splits["train"], splits["dev"] = hold_out(splits["train"], validation_split, seed)
    return Corpus.from_splits(name or stem or "data", splits)


def _rows(source: "TableSource", columns: Columns) -> list[_Row]:
    names = {field.name: getattr(columns, field.name) for field in fields(columns)}
    names = {name: column for name, column in names.items() if column is not None}
    table = open_table(source)
    wanted, unit = list(names.values()), table.unit
    rows: list[_Row] = []
    number_of_key: dict[str, int] = {}
    for index, (number, cells) in enumerate(table.select(wanted), start=1):
        place = f"{table.name}, {unit} {number}"
        cell = dict(zip(names, (content.strip(BLANKS) for content in cells), strict=True))
        key = cell.get("key", str(index))
        if number_of_key.setdefault(key, number) != number:
            raise UserError(
                f"{place}: the id {key!r} in the column {columns.key!r} stands on {unit} {number_of_key[key]} already; "
                "ids must differ."
            )
        dialogue = cell.get("dialogue", str(index))
        if not dialogue:
            raise UserError(f"{place}: the column {columns.dialogue!r} is empty; name the row's dialogue.")
        split = cell.get("split", "train")
        if split.lower() not in SPLITS:
            raise UserError(f"{place}: the column {columns.split!r} says {split!r}; it must be train, dev or test.")
        utterance = Utterance(cell["text"], cell.get("label") or None, cell.get("speaker") or None, key=key)
        rows.append(_Row(place, SPLITS[split.lower()], dialogue, utterance))
    table.keys = list(number_of_key)
    table.refuse_joined_rows(columns.label, (row.utterance.label for row in rows))
    return rows


def _labelled(columns: Columns, split: str, rows: Sequence[_Row]) -> tuple[Dialogue, ...]:
    """Make the dialogues of a split; all labels of the test split may be empty."""
    if split != "test" or any(row.utterance.label for row in rows):
        _refuse_unlabelled(columns, rows)
    return _dialogues(rows)


def _refuse_unlabelled(columns: Columns, rows: Sequence[_Row]) -> None:
    empty = next((row for row in rows if columns.label is not None and row.utterance.label is None), None)
    if empty is not None:
        raise UserError(f"{empty.place}: the column {columns.label!r} is empty; label the row or take it out.")


def _dialogues(rows: Sequence[_Row]) -> tuple[Dialogue, ...]:
    members: dict[str, list[Utterance]] = {}
    for row in rows:
        members.setdefault(row.dialogue, []).append(row.utterance)
    return tuple(Dialogue(tuple(utterances)) for utterances in members.values())

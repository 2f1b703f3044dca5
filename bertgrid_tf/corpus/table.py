"""Corpora from the user's own CSV or TSV tables."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertgrid_tf.corpus.dialogue import Corpus, Dialogue, Utterance
from bertgrid_tf.corpus.split import hold_out
from bertgrid_tf.corpus.text import read_text
from bertgrid_tf.errors import UserError

_SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}


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
    line: int
    split: str
    dialogue: str
    utterance: Utterance


def read_table(path: Path, columns: Columns) -> tuple[Dialogue, ...]:
    r"""Read a CSV or TSV file with a header line, regardless of a split column.

    Commas separate the cells of `*.csv`, tabs those of `*.tsv` and `*.tab`; for other names a tab in the header
    decides. Cells may be quoted according to RFC 4180. The rows of a dialogue need not be adjacent.

    Args:
        path: The file.
        columns: The names of the columns.

    Returns:
        The dialogues in the order of their first rows, with their utterances in the order of the file.

    Raises:
        UserError: The file is invalid, or a label is empty although there is a label column; the message names the
            file, and the line or column.

    Example:
        >>> import pathlib, tempfile
        >>> from bertgrid_tf.corpus import Columns, read_table
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "reviews.csv"
        ...     _ = path.write_text("review,sentiment\nGood fun,positive\n")
        ...     dialogues = read_table(path, Columns("review", "sentiment"))
        >>> dialogues[0].utterances[0].label
        'positive'
    """
    rows = _rows(Path(path), columns)
    _refuse_unlabelled(Path(path), columns, rows)
    return _dialogues(rows)


def read_split_table(path: Path, columns: Columns) -> dict[str, tuple[Dialogue, ...]]:
    """Read a table with a split column.

    The same dialogue id in two splits stands for two dialogues. Only the test split may have no labels.

    Args:
        path: The file.
        columns: The names of the columns, with a split column.

    Returns:
        The dialogues of each split in the table, of "train", "dev" and "test".

    Raises:
        UserError: The file is invalid, as for `read_table`, or a cell of the split column names no split.
        ValueError: There is no name of a split column.
    """
    if columns.split is None:
        raise ValueError("columns.split names no column")
    path = Path(path)
    rows = _rows(path, columns)
    splits = {}
    for split in ("train", "dev", "test"):
        members = [row for row in rows if row.split == split]
        if not members:
            continue
        if split != "test" or any(row.utterance.label for row in members):
            _refuse_unlabelled(path, columns, members)
        splits[split] = _dialogues(members)
    return splits


def load_table(
    train: Path,
    columns: Columns,
    *,
    dev: Path | None = None,
    test: Path | None = None,
    validation_split: float = 0.1,
    seed: int = 0,
    name: str | None = None,
) -> Corpus:
    """Load a corpus from the user's own files.

    The splits come from the split column if `columns` names one, otherwise from the files. Without a dev split, the
    share `validation_split` of the training split becomes the dev split: whole dialogues, stratified by class.

    Args:
        train: The table of the training split, or of all splits if there is a split column.
        columns: The names of the columns; `label` is required.
        dev: The table of the dev split, with the same columns.
        test: The table of the test split, with the same columns; all of its labels may be empty.
        held_out: The share of training utterances for a dev split, between 0 and 1.
        seed: The seed that decides which dialogues are held out.
        name: The name of the corpus; None for the name of the file `train`.

    Returns:
        The corpus with the splits train, dev and, if given, test.

    Raises:
        UserError: A file is invalid, as for `read_table`; splits come from both a column and files; or the splits make
            no corpus.
    """
    if columns.label is None:
        raise UserError(f"{train}: name the column that holds the labels.")
    if columns.split is None:
        splits = {"train": read_table(train, columns)}
        if dev is not None:
            splits["dev"] = read_table(dev, columns)
        if test is not None:
            rows = _rows(Path(test), columns)
            if any(row.utterance.label for row in rows):
                _refuse_unlabelled(Path(test), columns, rows)
            splits["test"] = _dialogues(rows)
    elif dev is not None or test is not None:
        raise UserError(
            f"The splits of {train} are given twice, by its column {columns.split!r} and by a dev or test "
            "file; choose one."
        )
    else:
        splits = read_split_table(train, columns)
        if "train" not in splits:
            raise UserError(f"{train} has no row whose column {columns.split!r} says train.")
    if "dev" not in splits:
        splits["train"], splits["dev"] = hold_out(splits["train"], validation_split, seed)
    return Corpus.from_splits(name or Path(train).stem, splits)


def quoted_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV or TSV file, header first.

    Args:
        path: The file.

    Yields:
        The line on which the row begins, counted from 1, and the cells of the row.

    Raises:
        UserError: The file cannot be read, or its quotes are broken.
    """
    text = read_text(path)
    delimiter = {".csv": ",", ".tsv": "\t", ".tab": "\t"}.get(path.suffix.lower())
    if delimiter is None:
        delimiter = "\t" if "\t" in text.lstrip().partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {line}: the row cannot be read ({error}); look for a stray quote.") from None


def select(path: Path, rows: Iterator[tuple[int, list[str]]], wanted: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of selected columns, row by row.

    Args:
        path: The file, for messages.
        rows: The line and the cells of every row, header first.
        wanted: The names of the columns to select.

    Yields:
        The line of the row and the cells of the columns, in the order of `wanted`.

    Raises:
        UserError: The header repeats a column name or lacks a column; the number of cells of a row differs from that of
            the header; a row repeats the header; or there are no rows.
    """
    _, names = next(rows, (1, []))
    header = [name.strip() for name in names]
    # Spreadsheets append columns without a name.
    doubled = next((name for name in header if name and header.count(name) > 1), None)
    if doubled is not None:
        raise UserError(f"{path} has {header.count(doubled)} columns named {doubled!r}; rename all but one.")
    for column in wanted:
        if column not in header:
            hint = " (separate them by commas or tabs)" if len(header) == 1 else ""
            raise UserError(f"{path} has no column {column!r}; its columns are {', '.join(header)}{hint}.")
    positions = [header.index(column) for column in wanted]
    line = 0
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{path}, line {line}: the row has {len(cells)} fields, the header has {len(header)} "
                f"({', '.join(header)})."
            )
        if [cell.strip() for cell in cells] == header:
            raise UserError(f"{path}, line {line}: the header is repeated; take the line out.")
        yield line, [cells[position] for position in positions]
    if not line:
        raise UserError(f"{path} has a header but no rows.")


def _rows(path: Path, columns: Columns) -> list[_Row]:
    fields = {
        field: column
        for field, column in (
            ("text", columns.text),
            ("label", columns.label),
            ("dialogue", columns.dialogue),
            ("speaker", columns.speaker),
            ("split", columns.split),
            ("key", columns.key),
        )
        if column is not None
    }
    rows: list[_Row] = []
    line_of_key: dict[str, int] = {}
    for number, (line, cells) in enumerate(select(path, quoted_rows(path), list(fields.values())), start=1):
        cell = dict(zip(fields, (content.strip(BLANKS) for content in cells), strict=True))
        key = cell.get("key", str(number))
        if line_of_key.setdefault(key, line) != line:
            raise UserError(
                f"{path}, line {line}: the id {key!r} in the column {columns.key!r} stands on line "
                f"{line_of_key[key]} already; ids must differ."
            )
        dialogue = cell.get("dialogue", str(number))
        if not dialogue:
            raise UserError(f"{path}, line {line}: the column {columns.dialogue!r} is empty; name the row's dialogue.")
        split = cell.get("split", "train")
        if split.lower() not in _SPLITS:
            raise UserError(
                f"{path}, line {line}: the column {columns.split!r} says {split!r}; it must be train, dev or test."
            )
        utterance = Utterance(cell["text"], cell.get("label") or None, cell.get("speaker") or None, key=key)
        rows.append(_Row(line, _SPLITS[split.lower()], dialogue, utterance))
    return rows


def _refuse_unlabelled(path: Path, columns: Columns, rows: Sequence[_Row]) -> None:
    if columns.label is None:
        return
    for row in rows:
        if row.utterance.label is None:
            raise UserError(
                f"{path}, line {row.line}: the column {columns.label!r} is empty; label the row or take it out."
            )


def _dialogues(rows: Sequence[_Row]) -> tuple[Dialogue, ...]:
    lines: dict[str, list[Utterance]] = {}
    for row in rows:
        lines.setdefault(row.dialogue, []).append(row.utterance)
    return tuple(Dialogue(tuple(utterances)) for utterances in lines.values())

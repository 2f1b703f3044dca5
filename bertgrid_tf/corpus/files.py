"""Tables of every kind of file ▶ a header and rows of texts, each with its line or row."""

import csv
import gzip
import io
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, TextIO, get_args

from bertgrid_tf.corpus.text import (
    HALF_PAIR,
    LARGEST,
    TextFile,
    open_bytes,
    read_bytes,
    read_rest,
    text_file,
    too_large,
)
from bertgrid_tf.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Quoting = Literal["auto", "minimal", "none"]
STANDARD_INPUT = Path("/dev/stdin")
"""The file that `--data -` names."""
STANDARD_OUTPUT = Path("/dev/stdout")
"""The file that `-o -` names."""
Cells = Iterator[tuple[int, Sequence[str]]]

SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "development": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
}
"""The splits by the names that people give them, in lower case."""
_SUFFIXES = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_SEP = re.compile(r'"?sep=([^"\r\n])"?(?:\r\n?|\n)', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*(?:""[^"]*)*"')
_UNREADABLE = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\xd0\xcf\x11\xe0": "an Office file of before 2007 (.xls, .doc)",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"SQLite format 3": "an SQLite database",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x04": "a Python pickle",
    b"\x80\x05": "a Python pickle",
    b"ARROW1": "an Arrow or Feather file",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an XML document",
    b"version https://git-lfs": "a Git LFS pointer, which `git lfs pull` replaces by the file",
}
"""The kinds of files that are no tables here, by their first bytes in lower case where they are letters."""


@dataclass
class RawTable:
    """A table whose cells are texts; text files are read row by row, anew each time.

    Attributes:
        name: The path or name, for messages.
        unit: The unit in which rows are numbered from 1: "line", "row" or "record".
        header: The names of the columns, without the blanks around them.
        cells: Yields the number and the cells of every row, given the indices of the columns.
        remarks: Sentences on how the table was read, complete once its rows have been read.
        delimiter: The character between cells; None where the file has none.
    """

    name: str
    unit: str
    header: list[str]
    cells: Callable[[Sequence[int]], Cells]
    remarks: list[str] = field(default_factory=list)
    delimiter: str | None = None
    _joined: list[tuple[int, int, list[str]]] = field(default_factory=list)

    def check(self, wanted: Sequence[str]) -> None:
        """Raise UserError where the header repeats a name or lacks one of the `wanted`; the first is named."""
        # Spreadsheets append columns without a name.
        doubled = next((name for name in self.header if name and self.header.count(name) > 1), None)
        if doubled is not None:
            raise UserError(
                f"{self.name} has {self.header.count(doubled)} columns named {doubled!r}; rename all but one."
            )
        for column in wanted:
            if column not in self.header:
                hint = " (separate them by commas, semicolons or tabs)" if len(self.header) == 1 else ""
                if self.delimiter and not set(wanted) & set(self.header):
                    hint += " (give --no-header if that is a row)"
                names = ", ".join(_shortened(name) for name in self.header)
                raise UserError(f"{self.name} has no column {column!r}; its columns are {names}{hint}.")

    def select(self, wanted: Sequence[str]) -> Cells:
        """Yield the number and the cells of every row, in the order of the names in `wanted`.

        Half of a surrogate pair becomes U+FFFD.

        Raises:
            UserError: A column is missing (`check`), a row cannot be read, or there are no rows.
        """
        self.check(wanted)
        number = None
        for number, cells in self.cells([self.header.index(column) for column in wanted]):
            if any(map(HALF_PAIR.search, cells)):
                cells = [HALF_PAIR.sub("\ufffd", cell) for cell in cells]
                remark = f"{self.name}: half of a character, as of a broken emoji, is read as \ufffd."
                if remark not in self.remarks:
                    self.remarks.append(remark)
            yield number, cells
        if number is None:
            raise UserError(f"{self.name} has a header but no rows.")

    def refuse_joined_rows(self, label: str | None, labels: Iterable[str | None]) -> None:
        """Refuse a quoted cell whose lines are rows: an opening quote and a later one are plain characters.

        Text may well have as many commas a line as the table, so that a line counts as a row only if it has one of
        the labels in the column of the labels; without that column, such a cell is a remark.

        Args:
            label: The column of the labels, if there is one.
            labels: The labels of the table.

        Raises:
            UserError: There is such a cell; the message names its first and last line.
        """
        known = {one for one in labels if one} if self._joined else set()
        for first, last, lines in self._joined:
            place = _JOINED.format(self.name, first, last)
            if label is None and len(lines) > 2:
                self.remarks.append(f"{place}: --quoting none reads its quotes as plain characters.")
            elif label is not None:
                # The label of the whole row stands on its first line or on its last one.
                position = self.header.index(label)
                cells = [line.rstrip("\r\n").split(self.delimiter) for line in lines]
                # The cell that the first line does not close begins with a quote and has an odd number of them.
                opened = (i for i, cell in enumerate(cells[0]) if cell.startswith('"') and cell.count('"') % 2)
                quoted = next(opened, 0)
                inner = cells[:-1] if position > quoted else cells[1:]
                if known & {row[position].strip(' \t"') for row in inner if len(row) == len(self.header)}:
                    raise UserError(place + _REMEDY)


def _shortened(name: str) -> str:
    """Return a name of a column on one line: where the header is missing, it is a whole text."""
    name = " ".join(name.split())
    return name if len(name) <= 40 else f"{name[:39]}…"


_JOINED = "{}: one quoted cell takes lines {} to {}, which look like rows of their own"
_REMEDY = (
    "; take the stray quotes out, or give --quoting none if quotes are plain characters, --quoting minimal if the cell "
    "is one text."
)


def open_table(
    source: "Path | pd.DataFrame | RawTable",
    *,
    encoding: str | None = None,
    quoting: Quoting = "auto",
    no_header: bool = False,
) -> RawTable:
    """Open a table: a file, a DataFrame, or a folder that `Dataset.save_to_disk` of Hugging Face's datasets wrote.

    The content decides the kind: CSV, TSV, semicolons, JSON Lines, a JSON list of records, Parquet, Excel (.xlsx), each
    of them also compressed by gzip. Values that are no texts are written as texts; a missing one is empty.

    Args:
        source: The table; an open one is returned as it is.
        encoding: The encoding of a text file; None to recognise UTF-8, UTF-16 with a byte order mark, and CP949.
        quoting: "minimal" for quotes according to RFC 4180, "none" for plain characters; "auto" for "minimal", but with
            tabs between the cells for "none" unless the file can only be meant as "minimal".
        no_header: Whether the first row is a row like the others; the names of the columns are "1", "2" and so on then.

    Raises:
        UserError: The file cannot be read or is of another kind, which the message names.

    Example:
        >>> import pandas as pd
        >>> from bertgrid_tf.corpus.files import open_table
        >>> list(open_table(pd.DataFrame({"text": ["Hi"], "label": [1]})).select(["label", "text"]))
        [(1, ('1', 'Hi'))]
    """
    if quoting not in (choices := get_args(Quoting)):
        raise UserError(f"There is no quoting {quoting!r}; choose from {', '.join(choices)}.")
    if isinstance(source, RawTable):
        return source
    if not isinstance(source, Path):
        return _frame(source)
    if source == STANDARD_INPUT and source.is_char_device() and sys.stdin.isatty():
        raise UserError("The table is to come from the standard input, which is a terminal: pipe the table into it.")
    if source.is_dir():
        return _dataset(source)
    open_, name, suffix = partial(open_bytes, source), str(source), source.suffix.lower()
    with open_() as file:
        start = file.read(2)
    if start == b"\x1f\x8b":
        suffix = Path(source.stem).suffix.lower()
        try:
            return _opened(name, suffix, lambda: gzip.GzipFile(fileobj=open_()), encoding, quoting, no_header)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{name} is a damaged gzip file ({error}); get it anew.") from None
    try:
        return _opened(name, suffix, open_, encoding, quoting, no_header)
    except OSError as error:
        raise UserError(f"{name} cannot be read ({error.strerror}).") from None


def _opened(
    name: str, suffix: str, open_: Callable[[], Any], encoding: str | None, quoting: Quoting, no_header: bool
) -> RawTable:
    with open_() as file:
        start = file.read(512)
        if start.startswith(b"PAR1"):
            return _parquet(name, start + read_rest(name, file))
        if start.startswith(b"PK\x03\x04"):
            return _excel(name, start + read_rest(name, file), no_header)
    letters = start[:32].lower()
    kind = next((kind for magic, kind in _UNREADABLE.items() if letters.startswith(magic.lower())), None)
    if kind is None and start[257:262] == b"ustar":
        kind = "a tar archive"
    if kind is not None:
        raise UserError(f"{name}: this is {kind}; give the table as CSV, TSV, JSON Lines, Parquet or Excel (.xlsx).")
    text, remarks = text_file(name, open_, encoding), list[str]()
    if encoding is None and text.codec != "utf-8":
        remarks.append(f"{name} is encoded in {text.codec.upper()}, not UTF-8: it is read as that.")
    if text.head.lstrip()[:1] in ("{", "[") and (table := _json(name, text, suffix)):
        table.remarks[:0] = remarks
        return table
    return _delimited(name, suffix, text, quoting, no_header, remarks)


def open_splits(folder: Path) -> dict[str, RawTable]:
    """Open the tables of a `DatasetDict` that `save_to_disk` of Hugging Face's datasets wrote.

    Returns:
        The tables by "train", "dev" and "test"; other splits are a remark on the table of train.

    Raises:
        UserError: There is no split train, or two are for the same one.
    """
    file = folder / "dataset_dict.json"
    try:
        names = json.loads(read_bytes(file))["splits"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError("splits is no list of names")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({' '.join(str(error).split())}); write the dataset anew.") from None
    tables, others = dict[str, RawTable](), []
    if "train" not in {SPLITS.get(name.lower()) for name in names}:
        raise UserError(f"{folder} has no split train; its splits are {', '.join(names)}.")
    for name in names:
        split = SPLITS.get(name.lower())
        if split is None:
            others.append(name)
        elif split in tables:
            raise UserError(f"{folder} has two splits for {split}: {', '.join(names)}; keep one of them.")
        else:
            tables[split] = _dataset(folder / name)
    if others:
        tables["train"].remarks.append(f"{folder}: the splits {', '.join(others)} are passed over.")
    return tables


def _dataset(folder: Path) -> RawTable:
    if (folder / "dataset_dict.json").is_file():
        raise UserError(f"{folder} holds several splits; name the folder of one in it.")
    if not (folder / "state.json").is_file():
        raise UserError(f"{folder} is a folder; name a file in it, or a folder that datasets wrote (`save_to_disk`).")
    pyarrow = _library("pyarrow", str(folder), "an Arrow dataset")
    try:
        state = json.loads(read_bytes(folder / "state.json"))
        if state.get("_indices_data_files"):
            raise UserError(f"{folder} is a selection of rows; write it anew after `flatten_indices()`.")
        shards = [
            pyarrow.ipc.open_stream(read_bytes(folder / one["filename"])).read_all() for one in state["_data_files"]
        ]
        info = json.loads(read_bytes(folder / "dataset_info.json"))
        return _arrow(str(folder), pyarrow, shards[0].schema, lambda _: pyarrow.concat_tables(shards), info)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, pyarrow.ArrowException) as error:
        raise UserError(f"{folder} is a damaged dataset ({' '.join(str(error).split())}); write it anew.") from None


def _parquet(name: str, content: bytes) -> RawTable:
    pyarrow = _library("pyarrow", name, "a Parquet file")
    try:
        file = _library("pyarrow.parquet", name, "").ParquetFile(io.BytesIO(content))
        schema, metadata = file.schema_arrow, file.metadata
        unpacked = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
        info = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
    except (OSError, ValueError, AttributeError, RecursionError, pyarrow.ArrowException):
        raise UserError(f"{name} is a damaged Parquet file; get it anew.") from None
    if unpacked > LARGEST:
        raise too_large(name, "unpacks to")
    return _arrow(name, pyarrow, schema, lambda names: file.read(columns=names), info)


def _arrow(
    name: str,
    pyarrow: ModuleType,
    schema: Any,
    read: Callable[[list[str]], Any],
    info: Mapping[str, Any],
) -> RawTable:
    """Make a table of Arrow's columns; `info` has the features by which datasets names the ids of classes."""

    def column(values: Any, names: Sequence[str] | None) -> list[str]:
        kind = values.type.value_type if pyarrow.types.is_dictionary(values.type) else values.type
        if names is not None:
            # -1 is a missing label.
            return [names[one] if one is not None and one >= 0 else "" for one in values.to_pylist()]
        if pyarrow.types.is_floating(kind):
            return list(_texts(values.to_pandas()))
        return [one or "" for one in values.cast(kind).cast(pyarrow.string()).to_pylist()]

    def cells(positions: Sequence[int]) -> Cells:
        wanted = [schema.names[position] for position in positions]
        for one in wanted:
            if pyarrow.types.is_nested(schema.field(one).type):
                raise UserError(f"{name}: the column {one!r} holds {schema.field(one).type} values, not texts.")
        try:
            features = info.get("features") or {}
            names = [features.get(one, {}).get("names") for one in wanted]
            table = read(wanted)
            columns = [column(table.column(one), classes) for one, classes in zip(wanted, names, strict=True)]
        except Exception as error:  # of any kind, as of values that Python has no type for
            raise UserError(f"{name} cannot be read ({' '.join(str(error).split())[:200]}); write it anew.") from None
        yield from enumerate(zip(*columns, strict=True), start=1)

    return RawTable(name, "row", list(schema.names), cells)


def _library(library: str, name: str, kind: str) -> ModuleType:
    import importlib

    try:
        return importlib.import_module(library)
    except ImportError:
        raise UserError(
            f"{name} is {kind}, which {library} reads: install it (`pip install bertgrid-tf[files]`)."
        ) from None


def _excel(name: str, content: bytes, no_header: bool) -> RawTable:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = set(archive.namelist())
            if sum(member.file_size for member in archive.infolist()) > LARGEST:
                raise too_large(name, "unpacks to")
    except zipfile.BadZipFile:
        raise UserError(f"{name} is a damaged zip or Excel file; get it anew.") from None
    if "xl/workbook.xml" not in members:
        kind = "an OpenDocument or Office file" if {"mimetype", "word/document.xml"} & members else "a zip archive"
        raise UserError(f"{name}: this is {kind}; unpack it, or save the table as CSV or Excel (.xlsx).")
    openpyxl = _library("openpyxl", name, "an Excel workbook")
    damaged = "{} is a damaged Excel file ({}); save it anew."
    try:
        sheet, *others = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True).worksheets
    except Exception as error:  # of any kind, as of XML and of zip files
        raise UserError(damaged.format(name, " ".join(str(error).split())[:200])) from None

    def rows() -> Iterator[list[str]]:
        # A sheet is parsed row by row.
        try:
            for row in sheet.iter_rows(values_only=True):
                yield [_cell(value) for value in row]
        except Exception as error:
            raise UserError(damaged.format(name, " ".join(str(error).split())[:200])) from None

    remarks = [f"{name}: the sheet {sheet.title!r} is read, and no other of {len(others) + 1}."] if others else []
    return _rows_table(name, "row", lambda: enumerate(rows(), start=1), remarks, None, no_header)


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _texts(column: "pd.Series[Any]") -> Iterable[str]:
    try:
        # Class ids beside a missing value are floats in pandas: 1.0 is the class "1".
        return column.convert_dtypes().astype("string").fillna("")
    except UnicodeEncodeError:  # from half of a surrogate pair
        return ["" if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]


def _frame(frame: "pd.DataFrame") -> RawTable:
    name = str(frame.attrs.get("name", "The DataFrame"))
    if not len(frame):
        raise UserError(f"{name} has no rows.")

    def cells(positions: Sequence[int]) -> Cells:
        columns = [_texts(frame.iloc[:, position]) for position in positions]
        yield from enumerate(zip(*columns, strict=True), start=1)

    return RawTable(name, "row", [str(column).strip() for column in frame.columns], cells)


def _json(name: str, text: TextFile, suffix: str) -> RawTable | None:
    """Open JSON Lines, or a JSON list of records; None for a text that only begins like JSON."""
    decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=lambda _: None)
    unit = "record" if text.head.lstrip().startswith("[") else "line"
    listed: list[Any] = []
    is_json = suffix in (".json", ".jsonl", ".ndjson")
    number, first, header = 1, None, dict[str, None]()

    def records() -> Iterator[tuple[int, Any]]:
        nonlocal number
        if unit == "record":
            yield from enumerate(listed, start=1)
            return
        with text.stream() as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, decoder.decode(line)

    rows = 0
    try:
        if unit == "record":
            with text.stream() as whole:
                listed = decoder.decode(whole.read())
        for place, record in records():
            if not isinstance(record, dict):
                inner = "a list of lists, as in the files of EmotionLines" if isinstance(record, list) else "no record"
                raise UserError(f"{name}, {unit} {place}: this is JSON, but {inner}; write a row as {{key: value}}.")
            header |= dict.fromkeys(record)
            first, rows = first if rows else record, rows + 1
    except (ValueError, RecursionError) as error:
        if not is_json and not rows:
            return None
        if unit == "line" and not rows and _is_json(text):
            raise UserError(_ONE_OBJECT.format(name)) from None
        where = name if unit == "record" else f"{name}, line {number}"
        raise UserError(f"{where}: this is no JSON ({error}); write a record on each line, or one list.") from None
    if rows == 1 and first is not None and all(isinstance(value, dict | list) for value in first.values()):
        raise UserError(_ONE_OBJECT.format(name))
    names = list(header)

    def text_of(place: int, key: str, value: object) -> str:
        if isinstance(value, dict | list):
            raise UserError(f"{name}, {unit} {place}: the key {key!r} holds a list or an object, not a text.")
        return str(value).lower() if isinstance(value, bool) else _cell(value)

    def cells(positions: Sequence[int]) -> Cells:
        keys = [names[position] for position in positions]
        for place, record in records():
            yield place, [text_of(place, key, record.get(key)) for key in keys]

    remarks = [] if is_json else [f"{name} is read as {'JSON' if unit == 'record' else 'JSON Lines'}."]
    return RawTable(name, unit, names, cells, remarks)


_ONE_OBJECT = "{}: this is one JSON object; write a list of records (in pandas: `to_json(orient='records')`)."


def _is_json(text: TextFile) -> bool:
    try:
        with text.stream() as whole:
            json.load(whole)
    except (ValueError, RecursionError):
        return False
    return True


def _delimited(
    name: str, suffix: str, text: TextFile, quoting: Quoting, no_header: bool, remarks: list[str]
) -> RawTable:
    if given := _SEP.match(text.head):
        delimiter, skipped = given[1], given.end()
    else:
        delimiter, skipped = _delimiter(name, text.head, _SUFFIXES.get(suffix), no_header), 0
        if suffix in _SUFFIXES and delimiter != _SUFFIXES[suffix]:
            remarks.append(f"{name}: {_DELIMITERS[delimiter]} separate the cells.")
    first = 2 if skipped else 1
    if quoting == "auto" and delimiter == "\t":
        quoted, remark = _quoted_tabs(name, partial(text.stream, skipped=skipped), first)
        remarks += [remark] if remark else []
    else:
        quoted = quoting != "none"
    joined: list[tuple[int, int, list[str]]] = []

    def rows() -> Iterator[tuple[int, list[str]]]:
        joined.clear()
        with text.stream("" if quoted else text.newline, skipped) as lines:
            if quoted:
                yield from _quoted_rows(name, lines, delimiter, first, joined if quoting == "auto" else None)
            else:
                yield from ((line, row.rstrip("\r\n").split(delimiter)) for line, row in enumerate(lines, start=first))

    table = _rows_table(name, "line", rows, remarks, delimiter, no_header)
    table._joined = joined
    return table


def _quoted_rows(
    name: str,
    lines: Iterable[str],
    delimiter: str,
    first: int,
    joined: list[tuple[int, int, list[str]]] | None,
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows according to RFC 4180, and collect those whose cells hold lines with as many delimiters."""
    csv.field_size_limit(2**31 - 1)
    taken: list[str] = []

    def taking() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(taking(), delimiter=delimiter, strict=True)
    line = first
    try:
        for cells in reader:
            yield line, cells
            if len(taken) > 1 and joined is not None:
                shaped = [one.count(delimiter) == len(cells) - 1 for one in taken]
                if len(cells) > 1 and (any(shaped[1:-1]) or all(shaped)):
                    joined.append((line, line + len(taken) - 1, taken.copy()))
            line += len(taken)
            taken.clear()
    except csv.Error as error:
        raise UserError(
            f"{name}, line {line}: the row cannot be read ({error}); look for a stray quote, or give --quoting none "
            "where quotes are plain characters."
        ) from None


def _rows_table(
    name: str,
    unit: str,
    rows: Callable[[], Iterator[tuple[int, list[str]]]],
    remarks: list[str],
    delimiter: str | None,
    no_header: bool,
) -> RawTable:
    """Make a table of rows, the first of which is the header; wholly blank ones are passed over and counted."""

    def filled() -> Iterator[tuple[int, list[str]]]:
        blank = 0
        for number, cells in rows():
            if "".join(cells).strip():
                yield number, cells
            else:
                blank += 1
        remark = f"{name}: {blank:,} wholly blank {'row is' if blank == 1 else 'rows are'} passed over."
        if blank and remark not in remarks:
            remarks.append(remark)

    _, cells = next(filled(), (1, []))
    if not cells:
        raise UserError(f"{name} is empty.")
    header = [cell.strip() for cell in cells]
    if unit == "row":  # a sheet's rows end with empty cells where other rows have more
        while header and not header[-1]:
            header.pop()
    if no_header:
        header = [str(column) for column in range(1, len(cells) + 1)]

    def select(positions: Sequence[int]) -> Cells:
        for line, row in islice(filled(), 0 if no_header else 1, None):
            if len(row) != len(header):
                if unit == "row" and not "".join(row[len(header) :]):
                    row = [*row, *[""] * len(header)][: len(header)]
                else:
                    raise UserError(
                        f"{name}, {unit} {line}: the row has {len(row)} fields, the header has {len(header)} "
                        f"({', '.join(map(_shortened, header))})."
                    )
            if row[0].strip() == header[0] and [cell.strip() for cell in row] == header and not no_header:
                raise UserError(f"{name}, {unit} {line}: the header is repeated; take the line out.")
            yield line, [row[position] for position in positions]

    return RawTable(name, unit, header, select, remarks, delimiter)


def _delimiter(name: str, text: str, usual: str | None, no_header: bool) -> str:
    """Choose the delimiter: the usual one of the suffix, unless only another one makes rows of one length."""
    start = text.lstrip("\r\n ")[:100_000]
    lines = [line for line in islice(io.StringIO(start, newline=""), 50) if line.strip()]
    csv.field_size_limit(2**31 - 1)
    widths = {one: [len(row) for row in csv.reader(lines, delimiter=one) if row] for one in _DELIMITERS}
    if len(lines) == 50 or len(start) == 100_000:  # the last row may be cut off
        widths = {one: counts[:-1] or counts for one, counts in widths.items()}
    in_header = [one for one, counts in widths.items() if counts[:1] > [1]]
    even = [one for one in in_header if len(set(widths[one])) == 1]
    if usual is None and "\t" in in_header:
        return "\t"
    if no_header and usual != "\t" and {",", ";"} <= set(even):
        raise UserError(
            f"{name}: commas or semicolons might separate the cells; say which by a first line `sep=,` or `sep=;`."
        )
    if usual in in_header and (usual in even or not even):
        return usual
    return next(iter(even or in_header), usual or ",")


def _quoted_tabs(name: str, stream: Callable[[], TextIO], first: int) -> tuple[bool, str | None]:
    """Decide whether the quotes of tab-separated cells are RFC 4180's, and the remark on it.

    They are if only so all rows have as many cells as the header. Where they have anyway, they are if every cell with
    a quote inside is quoted, and every other quoted cell stands in a column of quoted cells: so do writers of quotes.
    """

    def lines() -> Iterator[str]:
        with stream() as file:
            yield from (line.rstrip("\r\n") for line in file if line.strip())

    if not any(line.startswith('"') or '\t"' in line for line in lines()):
        return False, None
    plain = f"{name}: quotes are read as plain characters; --quoting minimal reads them as quotes around cells."
    width = next(lines()).count("\t")
    if any(line.count("\t") != width for line in lines()):
        joined: list[tuple[int, int, list[str]]] = []
        try:
            with stream() as file:
                widths = {len(cells) for _, cells in _quoted_rows(name, file, "\t", first, joined) if cells}
        except UserError:
            return False, plain
        if len(widths) == 1 and joined:
            raise UserError(_JOINED.format(name, *joined[0]) + _REMEDY)
        return (True, None) if len(widths) == 1 else (False, plain)
    needless, quoted = set[int](), set(range(width + 1))
    for line in islice(lines(), 1, None):
        if '"' not in line:
            quoted.clear()
            continue
        for column, cell in enumerate(line.split("\t")):
            if '"' not in cell:
                quoted.discard(column)
            elif not _QUOTED.fullmatch(cell):
                return False, plain
            elif '""' not in cell[1:-1]:
                needless.add(column)
    if not needless <= quoted:
        return False, plain
    return True, f"{name}: quotes are read as those around cells; --quoting none reads them as plain characters."

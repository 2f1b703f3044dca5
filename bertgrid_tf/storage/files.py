"""Files that are whole or absent, so that what a killed process leaves can always be read; and their one reader."""

import csv
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from pydantic import TypeAdapter, ValidationError

import tuners.errors
import tuners.files
from bertgrid_tf.errors import DamagedError, UserError
from tuners.errors import TunerError

if TYPE_CHECKING:
    import pandas

ANEW = "run the study's `tune` command again, which writes it anew"
"""How a file is mended that the rest of the study decides."""
COPY = "restore it from a copy, or start the study over with --fresh"
"""How a file is mended that nothing else decides."""

_Type = TypeVar("_Type")


@contextmanager
def reading(path: Path, remedy: str) -> Iterator[BinaryIO]:
    """Open a file that is read back, and take whatever the block raises for damage (`tuners.files.reading`).

    Raises:
        DamagedError: The block raised.
        UserError: The file is missing, is none, or cannot be read.
    """
    try:
        with tuners.files.reading(path, remedy) as file:
            yield file
    except tuners.errors.DamagedError as error:
        raise DamagedError(f"{error}.") from error
    except TunerError as error:
        raise UserError(f"{error}.") from error


def checked(kind: Any, value: Any) -> Any:
    """Return a value parsed from a file as a type of pydantic's.

    Raises:
        ValueError: It is none; the message names the place and what is wrong there.

    Example:
        >>> checked(dict[str, float], {"accuracy": "high"})
        Traceback (most recent call last):
        ...
        ValueError: accuracy: Input should be a valid number, unable to parse string as a number
    """
    with _explained():
        return TypeAdapter(kind).validate_python(value)


def read_json(file: BinaryIO, kind: type[_Type]) -> _Type:
    """Parse an open file as JSON of a type of pydantic's; raise ValueError where it is none."""
    tuners.files.parse_json(content := tuners.files.read_limited(file))
    with _explained():
        return TypeAdapter(kind).validate_json(content)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}") from None


def read_lines(file: BinaryIO, kind: type[Any]) -> list[dict[str, str]]:
    """Parse an open file as CSV with a header.

    Args:
        file: The file.
        kind: The type of a line, of which pydantic can make one of the texts of its cells.

    Returns:
        The texts of every line by their columns.

    Raises:
        ValueError: It is no such table, or it lacks the end of a line.
    """
    text = tuners.files.read_limited(file).decode()
    header, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns = [one.name for one in fields(kind)] if is_dataclass(kind) else [*kind.model_fields]
    if len(set(header)) < len(header) or not set(columns) <= set(header):
        raise ValueError(f"its columns are not {', '.join(columns)}, each once")
    if any(len(line) != len(header) for line in lines) or not text.endswith("\n"):
        raise ValueError("a line is cut")
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    checked(list[kind], rows)  # type: ignore[valid-type]
    return rows


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Replace a file atomically (`tuners.files.replacing`), and make its folder.

    Raises:
        UserError: The folder cannot be made, or the file cannot be written.
    """
    with _in_folder(path), tuners.files.replacing(path) as file:
        yield file


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Replace a folder by a new one (`tuners.files.replacing_folder`), and make its parent; raises as `replacing`."""
    with _in_folder(path), tuners.files.replacing_folder(path) as folder:
        yield folder


@contextmanager
def _in_folder(path: Path) -> Iterator[None]:
    try:
        with suppress(FileExistsError):  # a file in its place, which is no folder to write in either
            if not path.parent.is_dir():
                path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    try:
        yield
    except TunerError as error:
        raise UserError(f"{error}.") from error


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_table(path: Path, table: "pandas.DataFrame") -> None:
    """Write a table as CSV, whole or not at all: numbers exactly, missing ones as "nan"."""
    write_text(path, table.to_csv(index=False, na_rep="nan", lineterminator="\n"))


class JsonLines:
    """A file of JSON objects, a line each, that is only appended to.

    Args:
        path: The file, which need not exist yet.
        kind: The type of a line, as pydantic checks it.

    Attributes:
        records: The objects, in order.

    Raises:
        UserError: The file is damaged.
    """

    def __init__(self, path: Path, kind: Any = dict[str, Any]) -> None:
        self._path = path
        self._torn = b""
        self.records: list[dict[str, Any]] = []
        if path.exists():
            with reading(path, COPY) as file:
                # A killed process leaves at most its last line half written, with a record that had no effect yet.
                whole, _, self._torn = tuners.files.read_limited(file).rpartition(b"\n")
                self.records = [tuners.files.parse_json(line) for line in whole.splitlines()]
                checked(list[kind], self.records)

    def append(self, record: dict[str, Any]) -> None:
        """Append an object, which is on the disk when this returns."""
        if self._torn:
            os.truncate(self._path, self._path.stat().st_size - len(self._torn))
            self._torn = b""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")  # ASCII, so that no cut comes within a character
            file.flush()
            tuners.files.sync(file.fileno())

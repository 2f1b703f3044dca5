"""Files that are whole or absent: what a killed process leaves can always be read."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import tuners.files
from bertgrid_tf.errors import UserError
from tuners.errors import TunerError

if TYPE_CHECKING:
    import pandas


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

    Attributes:
        records: The objects, in order.

    Raises:
        UserError: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        # A killed process leaves at most its last line half written, with a record that had no effect yet.
        whole, _, self._torn = text.rpartition("\n")
        try:
            self.records: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise UserError(
                f"{path} is damaged: restore it from a copy, or start the study over with --fresh."
            ) from error

    def append(self, record: dict[str, Any]) -> None:
        """Append an object, which is on the disk when this returns."""
        if self._torn:
            os.truncate(self._path, self._path.stat().st_size - len(self._torn.encode()))
            self._torn = ""
        self.records.append(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")  # ASCII, so that no cut comes within a character
            file.flush()
            tuners.files.sync(file.fileno())

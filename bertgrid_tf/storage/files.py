"""Files that are whole or absent: what a killed process leaves can always be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import tuners.files
from bertgrid_tf.errors import UserError
from tuners.errors import TunerError

if TYPE_CHECKING:
    import pandas


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """As `tuners.files.replacing`; makes the folder, and raises UserError where that or the writing fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
    try:
        with tuners.files.replacing(path) as file:
            yield file
    except TunerError as error:
        raise UserError(f"{error}.") from error


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_table(path: Path, table: "pandas.DataFrame") -> None:
    """Writes a table as CSV, whole or not at all: numbers exactly, "nan" where there is none."""
    write_text(path, table.to_csv(index=False, na_rep="nan", lineterminator="\n"))

"""The learning-rate × epoch table: its cells, its best cell, and its CSV."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tuners.errors import TunerError
from tuners.files import open_regular, read_limited, write_text


@dataclass(frozen=True, slots=True)
class Cell:
    """The score after `epoch` epochs at `learning_rate`."""

    learning_rate: float
    epoch: int
    score: float


@dataclass(frozen=True, eq=False)
class Table:
    """Scores by learning rate (rows, in the recipe's order) and epoch (columns, 1 to `epochs`).

    Example:
        >>> from tuners import Table
        >>> table = Table((2e-5, 6e-6), 2, [[0.5, 0.7], [0.6, float("nan")]])
        >>> table.best()
        Cell(learning_rate=2e-05, epoch=2, score=0.7)

    Attributes:
        learning_rates: One positive rate a row, no two alike.
        epochs: Number of columns.
        scores: Scores, float64 [rates, epochs], read-only; NaN where there is no score.
        tried: Whether a cell was tried, bool [rates, epochs], read-only; one that holds NaN diverged or failed. Default
            are the cells with a score.
        direction: Whether the largest ("max") or the smallest ("min") score is the best.

    Raises:
        TunerError: Rates, shapes or scores make no table.
    """

    learning_rates: tuple[float, ...]
    epochs: int
    scores: npt.NDArray[np.float64]
    tried: npt.NDArray[np.bool_] = field(default=None)  # type: ignore[arg-type]
    direction: Literal["max", "min"] = "max"

    def __post_init__(self) -> None:
        rates = tuple(float(rate) for rate in self.learning_rates)
        if not all(0 < rate < math.inf for rate in rates) or len(set(rates)) < len(rates):
            raise TunerError(f"the learning rates of a table must be positive and differ: {list(rates)}")
        if self.direction not in ("max", "min"):
            raise TunerError(f'the direction of a table is "max" or "min", not {self.direction!r}')
        shape = (len(rates), int(self.epochs))
        if shape[0] < 1 or shape[1] < 1:
            raise TunerError(f"a table has at least one learning rate and one epoch, not {shape[0]} × {shape[1]}")
        scores = np.array(self.scores, dtype=np.float64)
        tried = ~np.isnan(scores) if self.tried is None else np.array(self.tried, dtype=bool)
        if scores.shape != shape or tried.shape != shape:
            raise TunerError(f"a table of {shape[0]} learning rates × {shape[1]} epochs has no room for {scores.shape}")
        if np.isinf(scores).any() or (~np.isnan(scores) & ~tried).any():
            raise TunerError("a score of a table must be a finite number in a tried cell, or NaN")
        scores.flags.writeable = False
        tried.flags.writeable = False
        for name, value in {"learning_rates": rates, "epochs": shape[1], "scores": scores, "tried": tried}.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Table):
            return NotImplemented
        return (
            (self.learning_rates, self.epochs, self.direction) == (other.learning_rates, other.epochs, other.direction)
            and np.array_equal(self.scores, other.scores, equal_nan=True)
            and np.array_equal(self.tried, other.tried)
        )

    __hash__ = None  # type: ignore[assignment]

    def best(self) -> Cell:
        """Return the cell with the best score; of equal cells that of fewer epochs, then that of the earlier rate.

        Raises:
            TunerError: No cell has a score.
        """
        if np.isnan(self.scores).all():
            raise TunerError("no cell of the learning-rate × epoch table has a score yet: let the grid start first")
        # Transposed, the first best in reading order is the one of fewer epochs, then of the earlier rate.
        by_epoch = self.scores.T
        flat = np.nanargmax(by_epoch) if self.direction == "max" else np.nanargmin(by_epoch)
        column, row = divmod(int(flat), len(self.learning_rates))
        return Cell(self.learning_rates[row], column + 1, float(self.scores[row, column]))

    def cell(self, learning_rate: float, epoch: int) -> Cell:
        """Return the cell at a learning rate of the table and an epoch, from 1."""
        score = self.scores[self.learning_rates.index(learning_rate), epoch - 1]
        return Cell(learning_rate, epoch, float(score))

    def to_csv(self, path: Path | str, scale: float = 100, digits: int = 2) -> None:
        """Write `learning_rate,1,2,…` and a line for every rate; the file is replaced whole or not at all.

        A score is written times `scale` (100: in percent) with `digits` decimals; a tried cell without one is `nan`, an
        untried cell is empty.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["learning_rate", *range(1, self.epochs + 1)])
        for rate, scores, tried in zip(self.learning_rates, self.scores, self.tried, strict=True):
            cells = [f"{score * scale:.{digits}f}" if seen else "" for score, seen in zip(scores, tried, strict=True)]
            writer.writerow([repr(rate), *cells])
        write_text(Path(path), text.getvalue())

    @classmethod
    def from_csv(cls, path: Path | str, scale: float = 100, direction: Literal["max", "min"] = "max") -> "Table":
        """Read what `to_csv` writes; a score is the number in the file divided by `scale`.

        Raises:
            TunerError: The file is missing or holds no such table; the message names the line.
        """
        try:
            with open_regular(Path(path)) as file:
                text = read_limited(file).decode("utf-8-sig")
            lines = list(csv.reader(io.StringIO(text), strict=True))
        except (OSError, ValueError, csv.Error) as error:
            raise TunerError(f"{path} cannot be read as a CSV table: {error}") from error
        header, *body = lines or [[]]
        epochs = len(header) - 1
        if epochs < 1 or header != ["learning_rate", *map(str, range(1, epochs + 1))]:
            raise TunerError(
                f"{path}, line 1: the header of a table is `learning_rate,1,2,…`, not {','.join(header)!r}"
            )
        rates: list[float] = []
        rows: list[list[str]] = []
        for number, line in enumerate(body, start=2):
            if not line:
                continue
            if len(line) != epochs + 1:
                raise TunerError(f"{path}, line {number}: {len(line)} cells where the header has {epochs + 1}")
            rates.append(_number(line[0], path, number))
            rows.append(line[1:])
            if not 0 < rates[-1] < math.inf or rates[-1] in rates[:-1]:
                raise TunerError(f"{path}, line {number}: a learning rate is positive and stands once, not {line[0]!r}")
            for cell in filter(str.strip, rows[-1]):
                if math.isinf(_number(cell, path, number)):
                    raise TunerError(f"{path}, line {number}: {cell!r} is no score; a diverged cell is `nan`")
        if not rows:
            raise TunerError(f"{path} holds a header and no learning rate")
        tried = [[bool(cell.strip()) for cell in row] for row in rows]
        scores = [[float(cell) / scale if cell.strip() else math.nan for cell in row] for row in rows]
        return cls(tuple(rates), epochs, np.array(scores), np.array(tried), direction)

    def to_text(self, scale: float = 1, digits: int = 4) -> str:
        """Format the table as aligned lines: `*` marks the best cell, `nan` a tried cell without a score."""
        best = None if np.isnan(self.scores).all() else self.best()
        lines = [["learning rate", *(f"{epoch} " for epoch in range(1, self.epochs + 1))]]
        for rate, scores, tried in zip(self.learning_rates, self.scores, self.tried, strict=True):
            line = [f"{rate!r}"]
            for epoch, (score, seen) in enumerate(zip(scores, tried, strict=True), start=1):
                mark = "*" if best and (rate, epoch) == (best.learning_rate, best.epoch) else " "
                line.append(f"{score * scale:.{digits}f}{mark}" if seen else "")
            lines.append(line)
        widths = [max(len(line[column]) for line in lines) for column in range(self.epochs + 1)]
        return "\n".join(
            " ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def rows_in_order(rates: Sequence[float], others: Iterable[float]) -> tuple[float, ...]:
    """Merge `others` into `rates`: in their place where the rates fall or rise, else behind."""
    missing = sorted(set(others) - set(rates))
    for falling in (True, False):
        if list(rates) == sorted(rates, reverse=falling):
            return tuple(sorted([*rates, *missing], reverse=falling))
    return (*rates, *missing)


def _number(cell: str, path: Path | str, line: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise TunerError(f"{path}, line {line}: {cell!r} is not a number") from None

"""The bank's files: for every study NAME.json with its card, and NAME-seedN.csv with the table of each seed."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bertgrid_tf.bank.card import Card
from bertgrid_tf.errors import UserError
from bertgrid_tf.metrics.classification import direction, unit
from bertgrid_tf.storage.files import read_json, reading, write_text
from tuners.errors import TunerError
from tuners.table import Table

SHIPPED = Path(__file__).with_name("tables")
"""The tables that come with the package."""
_REMEDY = "delete it, or restore it from a copy"


@dataclass(frozen=True, eq=False)
class RecordedStudy:
    """A study of the bank.

    Attributes:
        name: Its name, unlike all others of its folder.
        card: What it was like.
        rates: Learning rates in the table's order, float64 [rates].
        scores: Scores by seed, learning rate and epoch, float64 [seeds, rates, epochs]: fractions, or the metric's own
            unit; larger is better, so that a loss is negative; NaN where a trial diverged or a cell was not tried, and
            everywhere in a range that was published without scores.
        tried: Whether a cell was tried with any seed, bool [rates, epochs].
    """

    name: str
    card: Card
    rates: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    tried: npt.NDArray[np.bool_]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """The mean of the seeds, float64 [rates, epochs]; NaN where any seed has no score."""
        return np.asarray(self.scores.mean(axis=0))

    @property
    def noise(self) -> float:
        """Standard error of the best mean score on one dev split; of a metric that is no share, a tenth of the range.

        A share p of n texts has √(p(1 − p)/n), p at least half a text from 0 and 1. Scores of two cells, on the same
        texts, differ by less.
        """
        best = float(np.nanmax(self.mean))
        if unit(self.card.metric) == "%" and (texts := self.card.dev_texts):
            share = min(max(best, 0.5 / texts), 1 - 0.5 / texts)
            return float(np.sqrt(share * (1 - share) / texts))
        return max(0.1 * (best - float(np.nanmin(self.mean))), 1e-9)


def all_studies(on_damaged: Callable[[str], object]) -> tuple[RecordedStudy, ...]:
    """Read the package's studies and the user's own; `on_damaged` as for `read_studies`, of the user's."""
    return (*read_studies(), *read_studies(user_bank(), on_damaged))


def user_bank() -> Path:
    """Return the folder of the user's own studies: BERTGRID_BANK, else one in the user's cache."""
    import platformdirs

    return Path(os.environ.get("BERTGRID_BANK") or Path(platformdirs.user_cache_dir("bertgrid-tf")) / "bank")


def read_studies(
    folder: Path = SHIPPED, on_damaged: Callable[[str], object] | None = None
) -> tuple[RecordedStudy, ...]:
    """Read the studies of a folder in the order of their names; none where there is no folder.

    Args:
        folder: The folder.
        on_damaged: Called with a sentence about each study that cannot be read, which is then left out; None to raise.

    Raises:
        UserError: A study cannot be read, and there is no `on_damaged`.
    """
    studies = []
    for file in sorted(folder.glob("*.json")):
        try:
            studies.append(_read(file))
        except UserError as error:
            if on_damaged is None:
                raise
            on_damaged(str(error))
    return tuple(studies)


def _read(file: Path) -> RecordedStudy:
    with reading(file, _REMEDY) as content:
        card = read_json(content, Card)
        if not card.seeds:
            raise ValueError("it names no seed")
    scale = _scale(card.metric)[0]
    try:
        tables = [Table.from_csv(table_file(file.parent, file.stem, seed), scale) for seed in card.seeds]
    except TunerError as error:
        raise UserError(f"{error}: {_REMEDY}.") from error
    first = tables[0]
    if any((table.learning_rates, table.epochs) != (first.learning_rates, first.epochs) for table in tables):
        raise UserError(f"{file} has tables of different learning rates or epochs: {_REMEDY}.")
    scores = np.stack([table.scores for table in tables])
    if np.isnan(scores.mean(axis=0)).all() and card.source != "published":
        raise UserError(f"{file} is of a study without a score: {_REMEDY}.")
    return RecordedStudy(
        file.stem,
        card,
        np.array(first.learning_rates),
        scores if direction(card.metric) == "max" else -scores,
        np.any([table.tried for table in tables], axis=0),
    )


def table_file(folder: Path, name: str, seed: int) -> Path:
    """Return the file of one seed's table."""
    return folder / f"{name}-seed{seed}.csv"


def write_study(folder: Path, name: str, card: Card, tables: dict[int, Table]) -> None:
    """Add a study to a folder, or seeds to it; a killed process leaves the study whole or absent.

    Args:
        folder: The folder, which is made where it is missing.
        name: Name of the study.
        card: Its card; its seeds become those of all tables of that name in the folder.
        tables: The table of each new seed, in the metric's own unit.

    Raises:
        UserError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for seed, table in tables.items():
            table.to_csv(table_file(folder, name, seed), *_scale(card.metric))
    except OSError as error:
        raise UserError(f"Cannot write {folder}: {error.strerror or error}.") from error
    except TunerError as error:
        raise UserError(f"{error}.") from error
    numbers = (file.stem.removeprefix(f"{name}-seed") for file in folder.glob(f"{name}-seed*.csv"))
    seeds = tuple(sorted(int(number) for number in numbers if number.isdecimal()))
    # The card comes last: without it there is no study.
    content = card.model_copy(update={"seeds": seeds}).model_dump(exclude_none=True)
    write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")


def _scale(metric: str) -> tuple[float, int]:
    return (100, 2) if unit(metric) == "%" else (1, 4)

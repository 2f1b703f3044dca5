"""Recorded learning-rate × epoch tables ▶ what `--search surface` expects of a study."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from bertgrid_tf.bert.dimensions import dimensions
from bertgrid_tf.bert.scratch import SCRATCH
from bertgrid_tf.errors import UserError
from bertgrid_tf.storage.files import read_json, reading
from tuners.errors import TunerError
from tuners.strategies import RecordedTable
from tuners.table import Table

SHIPPED = Path(__file__).parents[1] / "bank" / "tables"
"""The tables that come with the package: NAME.json with a card, NAME-seedN.csv for each seed."""
BANDWIDTH = 0.5
"""Difference of two sizes, layers × width in factors of 2, at which the weight of a table falls to exp(−½)."""
ALONE = 0.5
"""Weight, in tables of the same size, of what no table tells."""
_REMEDY = "install bertgrid-tf again"


class Card(BaseModel):
    """What a table's card must say of it; a card may say more.

    Attributes:
        task: Name of the task.
        seeds: The seeds, a table each.
        pretrained: Whether the checkpoint was trained before.
        layers: Layers of the checkpoint; None if unknown.
        width: Width of the checkpoint; None if unknown.
        metric: The metric of the scores.
        baseline: Its value without learning, a fraction; None for the lowest score.
        dev_texts: Texts behind a score; None if unknown.
    """

    task: str
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]
    pretrained: bool | None = None
    layers: int | None = None
    width: int | None = None
    metric: str = "accuracy"
    baseline: float | None = None
    dev_texts: int | None = None


@dataclass(frozen=True, eq=False)
class BankTable:
    """A recorded table with its card.

    Attributes:
        name: Name of the table.
        card: Its card.
        rates: Learning rates, float64 [rates].
        scores: Scores, float64 [seeds, rates, epochs], fractions; NaN where a trial diverged.
    """

    name: str
    card: Card
    rates: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]

    @property
    def baseline(self) -> float:
        """Score of a model that has learned nothing."""
        return float(np.nanmin(self.scores)) if self.card.baseline is None else self.card.baseline


def read_tables(folder: Path = SHIPPED) -> list[BankTable]:
    """Read the full tables of accuracies of a folder in the order of their names; none where there is no folder.

    Raises:
        UserError: A table cannot be read.
    """
    read = []
    for file in sorted(folder.glob("*.json")):
        with reading(file, _REMEDY) as content:
            card = read_json(content, Card)
        try:
            tables = [Table.from_csv(file.with_name(f"{file.stem}-seed{seed}.csv")) for seed in card.seeds]
        except TunerError as error:
            raise UserError(f"{error}: {_REMEDY}.") from error
        scores = np.array([table.scores for table in tables])
        full = all(table.tried.all() for table in tables) and not np.isnan(scores.mean(axis=0)).all()
        if full and card.metric == "accuracy" and len(tables[0].learning_rates) > 1:
            read.append(BankTable(file.stem, card, np.array(tables[0].learning_rates), scores))
    return read


def like_model(tables: Sequence[BankTable], model: str) -> list[RecordedTable]:
    """Weigh tables for a study of a checkpoint, a name, a folder or `scratch:…`.

    Raises:
        UserError: The checkpoint cannot be read.
    """
    size = dimensions(model, 2)
    return weigh(tables, size.layers, size.width, SCRATCH.fullmatch(model) is None)


def weigh(tables: Sequence[BankTable], layers: int, width: int, pretrained: bool) -> list[RecordedTable]:
    """Weigh tables by how near the size of their checkpoint is; a pretrained one is like pretrained ones only."""
    kernels = []
    for table in tables:
        card = table.card
        known = card.layers and card.width and card.pretrained == pretrained
        octaves = math.log2(card.layers * card.width / (layers * width)) if known else math.inf  # type: ignore[operator]
        kernels.append(math.exp(-0.5 * (octaves / BANDWIDTH) ** 2))
    return [
        RecordedTable(table.rates, table.scores.mean(axis=0), table.baseline, kernel / (sum(kernels) + ALONE))
        for table, kernel in zip(tables, kernels, strict=True)
    ]

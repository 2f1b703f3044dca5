r"""Record learning-rate × epoch tables for the bank (`bertgrid_tf/bank/tables`).

    python -m benchmarks.record benchmarks/bank.yaml --data-dir DIR --checkpoint minilm=DIR --work DIR

The list names the recordings in order (`Recording`); a table that the bank has is skipped, and a killed recording
resumes in its work folder. Every row is one trial, scored on dev after each epoch. A table is written when its last
cell is scored, percent as `tuners.table` writes it, with a card that describes the study in numbers.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from math import nan
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import yaml
from pydantic import Field, TypeAdapter, ValidationError

from benchmarks import command
from benchmarks.trial_series import TimeLeft, TrialSeries
from bertgrid_tf.bank.card import Card, meta_features
from bertgrid_tf.bank.studies import SHIPPED, table_file, write_study
from bertgrid_tf.bert.scratch import SCRATCH
from bertgrid_tf.bert.trainer import drop_weights
from bertgrid_tf.corpus import SOURCES, Corpus, limit
from bertgrid_tf.data import data_dirs, open_corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Strict, Value
from bertgrid_tf.recipe import NO_MODEL, Recipe, load_recipe
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.system.host import description as machine
from tuners.table import Table


class Recording(Strict):
    """A line of the list: a table for every task and seed.

    Attributes:
        tasks: Public corpora of the package, or names of `tasks/NAME.csv` in the data folder, which have the columns
            text, label and split.
        model: `scratch:LAYERSxWIDTH`, or a name that `--checkpoint` gives a folder to.
        texts: About how many training texts; None for all.
        dev: About how many dev texts at most.
        learning_rates: Rows.
        epochs: Columns.
        seeds: Seeds, a table each.
        set: Further keys of the recipe.
    """

    tasks: list[str]
    model: str
    texts: int | None = None
    dev: int = 1_000
    learning_rates: list[float]
    epochs: int
    seeds: list[int] = Field([1])
    set: dict[str, Value] = Field({})

    def name(self, task: str) -> str:
        """Return the name of a task's study in the bank."""
        return f"{task}-{self.texts or 'all'}-{self.model.replace(':', '-')}"


@dataclass(frozen=True)
class ScoredEpoch:
    """One cell of a table, with the seconds that its epoch took."""

    learning_rate: float
    epoch: int
    score: float
    seconds: float


def read_list(path: Path) -> list[Recording]:
    """Read the list of recordings.

    Raises:
        UserError: It cannot be read, or is none.
    """
    try:
        return TypeAdapter(list[Recording]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise UserError(f"{path} is no list of recordings: {' '.join(str(error).split())[:300]}.") from error


def task_recipe(recording: Recording, task: str, data_dir: Path, checkpoints: Mapping[str, str]) -> Recipe:
    """Return the recipe of one task's trials: a grid alone.

    Raises:
        UserError: The checkpoint has no folder.
    """
    model = recording.model if SCRATCH.fullmatch(recording.model) else checkpoints.get(recording.model)
    if model is None:
        raise UserError(f"The list names the checkpoint {recording.model}: give --checkpoint {recording.model}=DIR.")
    keys: dict[str, Any] = {"model": model, "max_train_samples": recording.texts, "sweeps": {}, "final.model": NO_MODEL}
    keys |= {"learning_rates": recording.learning_rates, "epochs": recording.epochs} | recording.set
    if task not in SOURCES:
        columns = {f"data.{name}_column": name for name in ("text", "label", "split")}
        keys |= {"data.file": str(data_dir / "tasks" / f"{task}.csv"), **columns}
    return load_recipe(task, overrides=keys)


def rows(series: TrialSeries, recipe: Recipe, seed: int) -> Iterator[ScoredEpoch]:
    """Train every learning rate with a seed; a row that diverges ends with an epoch of NaN."""
    for rate in recipe.learning_rates:
        name = f"seed{seed}-{rate!r}"
        for epoch, metrics in enumerate(series.train(name, seed, learning_rate=rate), start=1):
            yield ScoredEpoch(rate, epoch, metrics[recipe.metric], metrics["seconds"])
        drop_weights(series.folder / name)


def table(cells: list[ScoredEpoch], recipe: Recipe) -> Table:
    """Return the table of a seed's cells."""
    shape = len(recipe.learning_rates), recipe.epochs
    scores, tried = np.full(shape, nan), np.zeros(shape, bool)
    for cell in cells:
        place = recipe.learning_rates.index(cell.learning_rate), cell.epoch - 1
        scores[place], tried[place] = cell.score, True
    return Table(tuple(recipe.learning_rates), recipe.epochs, scores, tried, recipe.direction())


def record(recording: Recording, task: str, recipe: Recipe, corpus: Corpus, flags: argparse.Namespace) -> None:
    """Train the tables of one task that the bank lacks, and write each."""
    name = recording.name(task)
    missing = [seed for seed in recording.seeds if not table_file(flags.out, name, seed).exists()]
    corpus = replace(corpus, splits={**corpus.splits, "dev": limit(corpus.splits["dev"], recording.dev, recipe.seed)})
    series = TrialSeries(flags.work / name, recipe, corpus)
    features = meta_features(recipe, series.runner.encoder)
    left = TimeLeft(len(missing) * len(recipe.learning_rates) * recipe.epochs)
    for seed in missing:
        cells: list[ScoredEpoch] = []
        for cell in rows(series, recipe, seed):
            cells.append(cell)
            print(
                f"{name}  seed {seed}  learning rate {cell.learning_rate:g}  epoch {cell.epoch} of {recipe.epochs}  "
                f"{recipe.metric} {score(recipe.metric, cell.score)}  {duration(cell.seconds)}  "
                f"({left.after(cell.seconds)})",
                flush=True,
            )
        card = Card(
            **features.model_dump(),
            task=task,
            source="recorded",
            machine=machine(),
            seconds=round(median(cell.seconds for cell in cells), 2),
            date=date.today().isoformat(),
            note=flags.note,
        )
        write_study(flags.out, name, card, {seed: table(cells, recipe)})


def main() -> None:
    """Parse the command line, train what is missing, write."""
    parser = command.parser(__doc__, trains=False)
    parser.add_argument("list", type=Path, help="YAML, a list of recordings")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of friends, nsmc and tasks")
    parser.add_argument("--checkpoint", type=command.pair, action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--work", type=Path, required=True, help="folder of the trials' states")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder of the tables")
    parser.add_argument("--note", help="a sentence for the cards, as about what else the machine did")
    flags = parser.parse_args()
    for recording in read_list(flags.list):
        for task in recording.tasks:
            name = recording.name(task)
            if all(table_file(flags.out, name, seed).exists() for seed in recording.seeds):
                continue
            recipe = task_recipe(recording, task, flags.data_dir, dict(flags.checkpoint))
            corpus = open_corpus(recipe, data_dirs(flags.data_dir))
            record(recording, task, recipe, corpus, flags)


if __name__ == "__main__":
    command.run(main)

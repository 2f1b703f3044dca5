r"""Compare settings for small data with the default, one at a time.

    python -m benchmarks.settings train friends --model DIR --learning-rates 2e-4,1e-4,5e-5 --epochs 3 --seeds 1,2,3
    python -m benchmarks.settings train trec --data trec.csv --model DIR … (columns text, label, split)
    python -m benchmarks.settings train … --settings layer_decay=0.9,frozen_layers=4
    python -m benchmarks.settings compare

Each setting is one hyperparameter that differs from the recipe's. With every seed it gets the grid of learning rates ×
epochs that the default gets, since the best cell may be another one; dev selects, the test split scores.

`train` appends to a CSV file (`--out`), a row of cells at a time, and goes on where it was stopped. `compare` reads all
of them.
"""

import argparse
import tempfile
from collections import deque
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Column, Table

from benchmarks import command
from benchmarks.layout import scored_corpus
from benchmarks.schedules import CELL, mean_with_interval, with_interval
from bertgrid_tf.bert.encode import EncodedDataset
from bertgrid_tf.bert.trainer import EpochResult, Trainer
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import SWEEPABLE
from bertgrid_tf.metrics.classification import evaluate
from bertgrid_tf.recipe import load_recipe
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.training.encoding import CorpusEncoder
from bertgrid_tf.training.model_cache import ModelCache
from bertgrid_tf.training.recipe_checks import check_recipe
from bertgrid_tf.trial_config import TrialConfig

OUT = Path(__file__).parent / "settings.csv"
DEFAULT = "default"
# Those that share a trainer (`training.encoding.BUILT_BY`) stand together.
SETTINGS = (
    *("label_smoothing=0.1", "label_smoothing=0.2", "layer_decay=0.9", "layer_decay=0.8"),
    *("reinit_layers=1", "reinit_layers=2", "hidden_dropout=0", "hidden_dropout=0.2"),
    *("attention_dropout=0", "attention_dropout=0.2", "classifier_dropout=0.3", "truncation=head+tail"),
    *("frozen_layers=2", "frozen_layers=4", "pooling=mean"),
)
METRICS = ("accuracy", "macro_f1")
COLUMNS = [*CELL, "setting", *(f"{split}_{metric}" for split in ("dev", "test") for metric in METRICS), "train_seconds"]


def train(flags: argparse.Namespace) -> None:
    """Train the rows that the file does not have."""
    recipe = command.task(flags)
    corpus = scored_corpus(flags, recipe)
    recipes = {DEFAULT: recipe}
    for key, value in flags.settings:
        if key not in SWEEPABLE:
            raise UserError(f"--settings: {key} is no hyperparameter; choose from {', '.join(SWEEPABLE)}.")
        recipes[f"{key}={value}"] = load_recipe(recipe.corpus, recipe, {key: value})
    for one in recipes.values():
        check_recipe(one, corpus)
    encoder, models = CorpusEncoder(corpus), ModelCache(corpus)
    for seed, setting, rate in product(flags.seeds, recipes, recipe.learning_rates):
        have = read(flags.out)
        if (flags.corpus, seed, rate, setting) in have[[*CELL[:3], "setting"]].itertuples(index=False, name=None):
            continue
        values = recipes[setting].hyperparameters.model_copy(update={"learning_rate": rate})
        config = TrialConfig(values, recipe.epochs, recipe.epochs, seed)
        sets = encoder.training_set(config), encoder.split(values, "dev"), encoder.split(values, "test")
        place = {"corpus": flags.corpus, "seed": seed, "learning_rate": rate, "setting": setting}
        cells = [place | cell for cell in train_row(models.trainer(values), *sets, config)]
        write_text(flags.out, pd.concat([have, pd.DataFrame(cells)])[COLUMNS].to_csv(index=False, float_format="%.6g"))
        picked = max(cells, key=lambda cell: cell["dev_accuracy"])
        print(
            f"{flags.corpus}  seed {seed}  {setting}  learning rate {rate:g}  epoch {picked['epoch']}: "
            f"test {100 * picked['test_accuracy']:.2f} %",
            flush=True,
        )


def train_row(
    trainer: Trainer, train_set: EncodedDataset, dev: EncodedDataset, test: EncodedDataset, config: TrialConfig
) -> list[dict[str, float]]:
    """Train the row of a learning rate; return the epoch, the scores and the time of each of its cells."""
    cells = []

    def score(result: EpochResult) -> None:
        on_test = dict.fromkeys(METRICS, np.nan)
        if not result.diverged:
            on_test = evaluate(test.labels, trainer.probabilities(test.texts), trainer.checkpoint.labels)
        scores = {f"dev_{metric}": result.metrics[metric] for metric in METRICS}
        scores |= {f"test_{metric}": on_test[metric] for metric in METRICS}
        cells.append({"epoch": result.epoch, **scores, "train_seconds": result.metrics["train_seconds"]})

    with tempfile.TemporaryDirectory() as folder:
        deque(trainer.run(train_set, dev, config, Path(folder), before_save=score), maxlen=0)
    return cells


def read(file: Path) -> pd.DataFrame:
    """Read the cells so far, with the `COLUMNS`; scores are fractions of 1."""
    return pd.read_csv(file) if file.exists() else pd.DataFrame(columns=COLUMNS)


def compare(cells: pd.DataFrame) -> pd.DataFrame:
    """Compare every setting with the default on the grids, of a corpus and a seed each, that both have.

    Returns:
        A line for a setting and a corpus, and one for all corpora ("all"): the mean difference on test in points, with
        its 95 % interval over the grids, of the cells that dev's accuracy selects ("accuracy", "macro_f1") and of all
        cells' accuracies ("cells"); and the time of training as a multiple of the default's ("time").
    """
    grids = ["setting", "corpus", "seed"]
    scored = cells.dropna().sort_values("dev_accuracy", kind="stable")
    picked = 100 * scored.groupby(grids).tail(1).set_index(grids)[[f"test_{metric}" for metric in METRICS]]
    picked.columns = list(METRICS)
    picked["cells"] = 100 * cells.groupby(grids)["test_accuracy"].mean()
    picked["time"] = cells.groupby(grids)["train_seconds"].sum()
    lines = []
    for setting, own in picked.drop(DEFAULT, level="setting").groupby(level="setting", sort=False):
        plain = picked.loc[DEFAULT].reindex(own.droplevel("setting").index)
        apart = (own.droplevel("setting") - plain).dropna()
        apart["time"] = own.droplevel("setting")["time"] / plain["time"]
        for corpus, of in [*apart.groupby(level="corpus"), ("all", apart)]:
            line = {"setting": setting, "corpus": corpus, "grids": len(of), "time": of["time"].mean()}
            for name in (*METRICS, "cells"):
                line |= mean_with_interval(name, of[name])
            lines.append(line)
    return pd.DataFrame(lines)


def show(console: Console, compared: pd.DataFrame) -> None:
    """Print the comparison."""
    names = ("accuracy", "macro_f1", "cells")
    columns = (*(f"{name} − {DEFAULT}, points (95 %)" for name in names), "× time", "grids")
    table = Table("setting", "corpus", *(Column(name, justify="right", no_wrap=True) for name in columns))
    for one in compared.to_dict("records"):
        points = [with_interval(one, name) for name in names]
        table.add_row(one["setting"], one["corpus"], *points, f"{one['time']:.2f}", str(one["grids"]))
    console.print(table)


def pairs(text: str) -> list[tuple[str, str]]:
    """Parse KEY=VALUE with commas between them."""
    return [command.pair(one) for one in text.split(",")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line; train, or compare and print."""
    top, training = command.task_parsers("settings", __doc__, "train", OUT, "file of the cells")
    training.add_argument("--seeds", type=command.whole_numbers, required=True, help="a grid each for every setting")
    training.add_argument("--settings", type=pairs, default=",".join(SETTINGS), help="KEY=VALUE,KEY=VALUE,…")
    command.add_limits(training)
    flags = top.parse_args(arguments)
    if flags.command == "train":
        train(flags)
    else:
        show(Console(width=200), compare(read(flags.out)))


if __name__ == "__main__":
    command.run(main)

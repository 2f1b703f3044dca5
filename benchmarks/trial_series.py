"""Trials of one recipe in one folder, each of which resumes where it was killed."""

from argparse import Namespace
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Hyperparameters, Value
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.recipe import Recipe, differing_keys, load_recipe
from bertgrid_tf.report.format import duration, score
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.storage.predictions import Predictions, predictions_file, read_predictions
from bertgrid_tf.training.recipe_checks import check_recipe
from bertgrid_tf.training.trial_runner import TrialRunner
from bertgrid_tf.trial_config import TrialConfig


class TrialSeries:
    """Trials of one recipe in one process, on a model that is built once.

    Attributes:
        folder: Parent of the trials' folders.
        runner: Runs the trials.

    Args:
        folder: Parent of the trials' folders; created if it is missing.
        recipe: The trials' recipe; its seed selects the corpus's texts, and each trial has a seed of its own.
        corpus: The recipe's.
        free: Keys of the recipe that may differ from those of trials already in the folder.

    Raises:
        UserError: The folder holds trials of another recipe, or the recipe does not fit the checkpoint.
    """

    def __init__(self, folder: Path, recipe: Recipe, corpus: Corpus, free: Collection[str] = ()) -> None:
        file = folder / "recipe.yaml"
        if file.exists():
            keys = [key for key in differing_keys(load_recipe(recipe.corpus, file), recipe) if key not in free]
            if keys:
                raise UserError(
                    f"{folder} holds trials of another recipe (they differ in {', '.join(keys)}): "
                    "choose another --work."
                )
        write_text(file, recipe.to_yaml())
        check_recipe(recipe, corpus)
        self.folder = folder
        self._recipe = recipe
        self._labels = corpus.labels
        self.runner = TrialRunner(corpus, recipe, folder / "predictions")

    def train(self, name: str, seed: int, **changes: Value) -> Iterator[dict[str, float]]:
        """Run or resume a trial, whose folder is `name`; `changes` are hyperparameters that differ from the recipe's.

        Yields:
            The dev metrics of every epoch; those of epochs that an earlier process trained come at once.
        """
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        config = TrialConfig(self._recipe.hyperparameters, self._recipe.epochs, self._recipe.epochs, seed)
        hyperparameters = Hyperparameters.model_validate(config.hyperparameters.model_dump() | changes)
        yield from self.runner.run(replace(config, hyperparameters=hyperparameters), folder)

    def probabilities(self, names: Iterable[str]) -> np.ndarray:
        """Read the dev predictions of trials after the last epoch, float32 [trials, n, classes]."""
        return np.stack([self.predictions(name, self._recipe.epochs).probabilities for name in names])

    def split(self, name: str) -> Split:
        """Return the dev split that the trial `name` is scored on, the same for every trial."""
        predictions = self.predictions(name, 1)
        return Split(predictions.truth, predictions.dialogues, self._labels)

    def predictions(self, name: str, epoch: int) -> Predictions:
        """Read the dev predictions of a trial after an epoch."""
        return read_predictions(predictions_file(self.folder / "predictions", name, epoch), self._labels)


class TimeLeft:
    """Estimates the time that the rest of `epochs` epochs takes, by the mean of the epochs so far."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._seconds: list[float] = []

    def after(self, seconds: float) -> str:
        """Count an epoch of that many seconds, and describe the rest."""
        self._seconds.append(seconds)
        done = len(self._seconds)
        left = sum(self._seconds) / done * (self._epochs - done)
        return f"{done} of {self._epochs} epochs, {duration(left)} left"


def trial_name(seed: int, variant: str) -> str:
    """Return the name of a variant's trial with a seed."""
    return f"seed{seed}-{variant.replace(' ', '-')}"


def train_variants(
    series: TrialSeries, seeds: Sequence[int], variants: Mapping[str, Mapping[str, Value]]
) -> Iterator[dict[str, Any]]:
    """Train every variant with every seed.

    Args:
        series: The trials.
        seeds: Seeds that every variant is trained with.
        variants: Hyperparameters that differ from the recipe's, by the variant's name.

    Yields:
        The seed, the variant and the epoch with its dev metrics.
    """
    for seed in seeds:
        for variant, changes in variants.items():
            for epoch, metrics in enumerate(series.train(trial_name(seed, variant), seed, **changes), start=1):
                yield {"seed": seed, "variant": variant, "epoch": epoch} | metrics


def report_variants(
    flags: Namespace, series: TrialSeries, recipe: Recipe, variants: Mapping[str, Mapping[str, Value]]
) -> tuple[pd.DataFrame, Split, dict[str, np.ndarray]]:
    """Train every variant with the seeds of the command line, and print a line for every epoch.

    Returns:
        A row for every epoch (`train_variants`), the dev split, and the probabilities of each variant after the last
        epoch, float32 [seeds, n, classes].
    """
    left = TimeLeft(len(variants) * len(flags.seeds) * recipe.epochs)
    rows = []
    for row in train_variants(series, flags.seeds, variants):
        rows.append(row)
        scores = "  ".join(f"{metric} {score(metric, row[metric])}" for metric in ("accuracy", "macro_f1"))
        print(
            f"seed {row['seed']}  {row['variant']}  epoch {row['epoch']} of {recipe.epochs}  {scores}  "
            f"{duration(row['seconds'])}  ({left.after(row['seconds'])})",
            flush=True,
        )
    probabilities = {
        variant: series.probabilities(trial_name(seed, variant) for seed in flags.seeds) for variant in variants
    }
    return pd.DataFrame(rows), series.split(trial_name(flags.seeds[0], next(iter(variants)))), probabilities

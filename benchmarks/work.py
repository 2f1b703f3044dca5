"""A folder of training runs, each of which goes on where it was killed."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from bertgrid_tf.corpus import Corpus
from bertgrid_tf.errors import UserError
from bertgrid_tf.hyperparameters import Value
from bertgrid_tf.metrics.compare import Split
from bertgrid_tf.recipe import Recipe, differing_keys, load_recipe
from bertgrid_tf.report.format import duration
from bertgrid_tf.storage.files import write_text
from bertgrid_tf.storage.predictions import Predictions, predictions_file, read_predictions
from bertgrid_tf.training.trial_runner import TrialRunner


class Work:
    """Training runs of one recipe in one process, on a model that is built once.

    Attributes:
        runs: what trains them.
    """

    def __init__(self, folder: Path, recipe: Recipe, corpus: Corpus, free: Collection[str] = ()) -> None:
        """
        Args:
            folder: where the runs' states lie; made where it is missing.
            recipe: its seed chose the corpus's texts; each run has a seed of its own.
            corpus: train and dev count.
            free: the recipe's keys that may differ from those of runs that the folder holds already.

        Raises:
            UserError: the folder holds the runs of another recipe; the recipe does not fit the checkpoint.
        """
        file = folder / "recipe.yaml"
        if file.exists():
            keys = [key for key in differing_keys(load_recipe(recipe.corpus, file), recipe) if key not in free]
            if keys:
                raise UserError(
                    f"{folder} holds runs of another recipe (they differ in {', '.join(keys)}): choose another --work."
                )
        write_text(file, recipe.to_yaml())
        self._folder = folder
        self._recipe = recipe
        self.runs = TrialRunner(corpus, recipe, folder / "predictions")
        self.runs.check()

    def candidate(self, names: Iterable[str], epoch: int) -> np.ndarray:
        """What runs that differ in their seed alone predict on dev after an epoch, float32 [runs, n, classes]."""
        return np.stack([self._predicted(name, epoch).probabilities for name in names])

    def split(self, name: str) -> Split:
        """What the candidates are scored on, of which any run tells."""
        found = self._predicted(name, 1)
        return Split(found.truth, found.dialogues, self.runs.corpus.labels)

    def _predicted(self, name: str, epoch: int) -> Predictions:
        file = predictions_file(self._folder / "predictions", name, epoch)
        return read_predictions(file, self.runs.corpus.labels)

    def train(self, name: str, seed: int, **changed: Value) -> Iterator[dict[str, float]]:
        """Yields every epoch's metrics; those of epochs that an earlier process trained come at once.

        Args:
            name: of the run's folder.
            seed: decides the order, dropout, resampling and the head's first weights.
            changed: settings that differ from the recipe's.
        """
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        self.runs.recipe = self._recipe.model_copy(update={"seed": seed})
        horizon = {"schedule_epochs": self._recipe.epochs, "stop_epoch": self._recipe.epochs}
        yield from self.runs(self._recipe.hyperparameters.model_dump() | changed | horizon, folder)


class TimeLeft:
    """Tells how long so many epochs will go on, by the mean of what they have taken."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs
        self._taken: list[float] = []

    def after(self, seconds: float) -> str:
        """To be called after every epoch with what it took."""
        self._taken.append(seconds)
        done = len(self._taken)
        left = sum(self._taken) / done * (self._epochs - done)
        return f"{done} of {self._epochs} epochs, {duration(left)} left"
